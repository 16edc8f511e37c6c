"""A CT as a DICOM series: one file a slice, derived, synthetic, and of no patient."""

from pathlib import Path

import numpy as np

from raylift import DISCLAIMER
from raylift.errors import BadInput
from raylift.io.dicom import new_dataset, new_uid, save
from raylift.io.files import shown, whole_folder
from raylift.io.hounsfield import to_int16
from raylift.types import Volume

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def write(volume: Volume, path: Path) -> None:
    """`volume` as `path`/slice-0001.dcm and so on, int16 HU; its grid must be square-cornered."""
    hu = to_int16(volume.hu, volume.source or "the volume")
    if len(hu) > 9999:
        raise BadInput(f"{shown(path)}: {len(hu)} slices are more than a series of ours holds")
    series = _series(volume)
    with whole_folder(path, "slice-[0-9][0-9][0-9][0-9].dcm") as beside:
        for index, plane in enumerate(hu):
            series.SOPInstanceUID = new_uid()
            series.InstanceNumber = index + 1
            place = volume.grid.world((index, 0, 0))
            series.ImagePositionPatient = decimals(place)
            series.SliceLocation = decimals([_normal(volume) @ place])[0]
            series.PixelData = np.ascontiguousarray(plane, "<i2").tobytes()
            save(series, beside / f"slice-{index + 1:04d}.dcm")


def _normal(volume: Volume) -> np.ndarray:
    """The unit vector along d."""
    return volume.grid.affine[:3, 0] / volume.grid.spacing_mm[0]


def _series(volume: Volume):
    """What all slices of the series have in common."""
    directions = volume.grid.affine[:3, :3] / volume.grid.spacing_mm
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-4:
        raise BadInput(f"{volume.source or 'the volume'}: a sheared grid fits no DICOM series; write NIfTI")
    spacing = volume.grid.spacing_mm
    slices = new_dataset(CT_IMAGE)
    slices.Modality = "CT"
    slices.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    slices.DerivationDescription = DISCLAIMER
    slices.SeriesDescription = "SYNTHETIC CT - RESEARCH ONLY"
    slices.PatientPosition, slices.PositionReferenceIndicator = "HFS", ""
    slices.Laterality = ""
    slices.FrameOfReferenceUID = new_uid()
    slices.KVP, slices.AcquisitionNumber = None, None
    slices.Rows, slices.Columns = volume.grid.shape[1:]
    slices.PixelSpacing = decimals(spacing[1:])
    slices.SliceThickness = slices.SpacingBetweenSlices = decimals(spacing[:1])[0]
    slices.ImageOrientationPatient = decimals([*directions[:, 2], *directions[:, 1]])
    slices.PixelRepresentation = 1
    slices.RescaleIntercept, slices.RescaleSlope, slices.RescaleType = 0, 1, "HU"
    slices.WindowCenter, slices.WindowWidth = -100, 1600  # ours: lung and soft tissue at once
    return slices


def decimals(values) -> list[str]:
    """The numbers as DICOM's decimal strings of at most 16 letters."""
    from pydicom.valuerep import format_number_as_ds

    return [format_number_as_ds(float(value) + 0.0) for value in values]
