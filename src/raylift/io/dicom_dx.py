"""An X-ray as DICOM: DX, for processing, logarithmic, dense is high; whatever no tag holds in a private block."""

from math import asin, atan2, degrees
from pathlib import Path

import numpy as np
import pydicom
from pydicom.sequence import Sequence

from raylift import DISCLAIMER
from raylift.errors import BadInput
from raylift.io.dicom import new_dataset, new_uid, save
from raylift.io.dicom_ct import decimals
from raylift.io.dx_private import write_private
from raylift.io.files import check_voxels, shown, whole_file
from raylift.io.picture import UPRIGHT, check_pixels
from raylift.types import Beam, ConeBeam, View, Xray

DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
POSITION = {View.PA: "PA", View.AP: "AP", View.LAT: "LL", View.RLAT: "RL"}
VIEW_CODE = {  # DICOM PS3.16, CID 4010
    View.PA: ("272479007", "postero-anterior"),
    View.AP: ("399348003", "antero-posterior"),
    View.LAT: ("399173006", "left lateral"),
    View.RLAT: ("399198007", "right lateral"),
}


def write(xray: Xray, path: Path) -> None:
    """`xray` in 16 bits at `path`; a step is the range of its values (with 0) / 65535."""
    name = xray.source or shown(path)
    check_voxels(xray.pixels.shape, name)
    check_pixels(xray.pixels, name)
    if xray.pixel_mm is None:
        raise BadInput(f"{name}: without a pixel size it makes no DICOM X-ray")
    offset = min(0.0, float(xray.pixels.min()))
    step = (float(xray.pixels.max()) - offset) / 65535
    dataset = _dx(xray)
    grey = np.rint((xray.pixels.astype(np.float64) - offset) / step).clip(0, 65535)
    dataset.PixelData = grey.astype("<u2").tobytes()
    write_private(dataset, xray, step, offset)
    with whole_file(path) as beside:
        save(dataset, beside)


def _dx(xray: Xray) -> pydicom.Dataset:
    """All tags of the X-ray but its pixels and the private block."""
    axis = xray.view.axis if xray.view else "frontal"
    dataset = new_dataset(DX_FOR_PROCESSING)
    dataset.Modality, dataset.PresentationIntentType = "DX", "FOR PROCESSING"
    dataset.ImageType = ["DERIVED", "PRIMARY", ""]
    dataset.DerivationDescription = DISCLAIMER
    dataset.SeriesDescription = "X-RAY - RESEARCH ONLY"
    dataset.Rows, dataset.Columns = xray.pixels.shape
    dataset.PixelRepresentation = 0
    dataset.PixelIntensityRelationship = "LIN" if xray.values == "intensity" else "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if xray.values == "intensity" else -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.ImagerPixelSpacing = decimals(xray.pixel_mm)
    dataset.PatientOrientation = list(UPRIGHT[axis])
    dataset.BodyPartExamined, dataset.ImageLaterality = "CHEST", "U"
    dataset.AnatomicRegionSequence = _codes("51185008", "Chest")
    dataset.InstanceNumber, dataset.PositionReferenceIndicator = 1, ""
    dataset.FrameOfReferenceUID = new_uid()
    dataset.DetectorType, dataset.AcquisitionContextSequence = "DIRECT", Sequence()
    if xray.view is not None:
        dataset.ViewPosition = POSITION[xray.view]
        dataset.ViewCodeSequence = _codes(*VIEW_CODE[xray.view])
    if xray.beam is not None:
        _distances(dataset, xray.beam, xray.isocentre_mm or (0.0, 0.0, 0.0))
    return dataset


def _codes(value: str, meaning: str) -> Sequence:
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return Sequence([item])


def _distances(dataset: pydicom.Dataset, beam: Beam, isocentre_mm) -> None:
    """Source to detector, magnification at the isocentre, and the two angles; parallel rays have angles only."""
    normal = np.cross(beam.column_dir, beam.row_dir)
    if isinstance(beam, ConeBeam):
        dataset.DistanceSourceToDetector = decimals([beam.source_to_detector_mm])[0]
        dataset.EstimatedRadiographicMagnificationFactor = decimals([beam.magnification(isocentre_mm)])[0]
        towards = np.subtract(beam.detector_centre_mm, beam.source_mm)
    else:
        towards = np.asarray(beam.ray_dir)
    to_panel = normal * np.sign(normal @ towards)
    dataset.PositionerType = "NONE"
    dataset.PositionerPrimaryAngle = decimals([round(degrees(atan2(to_panel[0], -to_panel[1])), 9)])[0]
    dataset.PositionerSecondaryAngle = decimals([round(degrees(asin(np.clip(to_panel[2], -1, 1))), 9)])[0]
