"""An X-ray out of a DICOM file: what its numbers mean, which way up it is, and what it says of the beam."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut, apply_voi

from raylift.errors import BadInput
from raylift.io.dicom import MALFORMED, number, open_dicom, quietly, stored_pixels, text
from raylift.io.dx_private import private_beam
from raylift.io.files import shown
from raylift.io.picture import Picture
from raylift.types import Values, View

XRAY_MODALITIES = ("CR", "DX", "RF", "XA", "RG", "OT", "")  # the last two only as a secondary capture
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
VIEW_POSITIONS = {"PA": View.PA, "AP": View.AP, "LL": View.LAT, "LAT": View.LAT, "LATERAL": View.LAT, "RL": View.RLAT}
VIEW_CODES = {  # DICOM PS3.16, CID 4010, as SNOMED CT and as the older SRT
    **{"399348003": View.AP, "272479007": View.PA, "399173006": View.LAT, "399198007": View.RLAT},
    **{"R-10206": View.AP, "R-10214": View.PA, "R-10236": View.LAT, "R-10232": View.RLAT},
}


def read(path: Path) -> Picture:
    """The file's picture, values, orientation and distances, all as it says itself."""
    name = shown(path)
    dataset = open_dicom(path)
    _check_is_xray(dataset, name)
    stored = stored_pixels(dataset, name)
    if stored.ndim != 2:
        raise BadInput(f"{name}: an X-ray has rows and columns, not shape {stored.shape}")
    private = private_beam(dataset, stored.shape, name)
    if private is not None:
        return _own(stored, private, dataset)
    grey, ends = _after_modality_lut(stored, dataset, name)
    pixels, values, notes = _meaning(grey, ends, dataset, name)
    pixel_mm, spacing_notes = _spacing(dataset)
    angles = [number(dataset, tag) for tag in ("PositionerPrimaryAngle", "PositionerSecondaryAngle")]
    return Picture(
        pixels=pixels,
        grey=grey,
        values=values,
        letters=_letters(dataset),
        view=_view(dataset),
        pixel_mm=pixel_mm,
        source_to_detector_mm=number(dataset, "DistanceSourceToDetector"),
        magnification=number(dataset, "EstimatedRadiographicMagnificationFactor"),
        angles_deg=None if angles[0] is None else (angles[0], angles[1] or 0.0),
        notes=(*notes, *spacing_notes),
    )


def _check_is_xray(dataset: pydicom.Dataset, name: str) -> None:
    modality, captured = text(dataset, "Modality"), text(dataset, "SOPClassUID") == SECONDARY_CAPTURE
    if modality == "CT":
        raise BadInput(f"{name}: a CT slice, not an X-ray; `raylift drr` makes X-rays of a CT")
    if modality not in XRAY_MODALITIES or (modality in ("OT", "") and not captured):
        raise BadInput(f"{name}: its modality is {modality[:16] or 'not stated'}, not an X-ray's (CR, DX, RF, XA)")
    frames = number(dataset, "NumberOfFrames") or 1
    if frames > 1:
        raise BadInput(f"{name}: {frames:.0f} frames; export the one to be used as a single image")
    photometric = text(dataset, "PhotometricInterpretation")
    if (number(dataset, "SamplesPerPixel") or 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise BadInput(f"{name}: a picture in colour ({photometric[:16] or 'no photometric interpretation'}), no X-ray")


def _own(stored: np.ndarray, private, dataset: pydicom.Dataset) -> Picture:
    """The X-ray of a file that raylift wrote: its private block holds what no tag does."""
    values = (private.offset + private.scale * stored.astype(np.float64)).astype(np.float32)
    return Picture(
        pixels=values,
        grey=values,
        values=private.values,
        own_scale=private.values == "line_integral",
        letters=_letters(dataset),
        view=private.view or _view(dataset),
        pixel_mm=private.beam.pixel_mm if private.beam else _spacing(dataset)[0],
        beam=private.beam,
        isocentre_mm=private.isocentre_mm,
    )


def _after_modality_lut(stored: np.ndarray, dataset: pydicom.Dataset, name: str) -> tuple[np.ndarray, float]:
    """Grey levels behind the modality LUT or rescale, and the sum of the lowest and the highest there can be."""
    bits = int(number(dataset, "BitsStored") or 16)
    low = -(1 << (bits - 1)) if number(dataset, "PixelRepresentation") else 0
    ends = np.array([low, low + (1 << bits) - 1])
    if dataset.get("ModalityLUTSequence"):
        try:
            with quietly():
                grey, ends = (np.asarray(apply_modality_lut(values, dataset)) for values in (stored, ends))
        except MALFORMED:
            raise BadInput(f"{name}: its modality LUT cannot be read") from None
        return grey.astype(np.float32), float(ends.astype(np.float64).sum())
    slope, intercept = (
        number(dataset, tag) if dataset.get(tag) is not None else usual
        for tag, usual in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if not slope or intercept is None:
        raise BadInput(f"{name}: its rescale slope and intercept cannot be read")
    return (stored * slope + intercept).astype(np.float32), float((ends * slope + intercept).sum())


def _meaning(
    grey: np.ndarray, ends: float, dataset: pydicom.Dataset, name: str
) -> tuple[np.ndarray, Values, tuple[str, ...]]:
    """The pixels as `types.Xray` wants them, what they are, and what was guessed.

    A picture meant for the eye shows dense parts bright after its LUTs and its inversion; a raw one says by
    PixelIntensityRelationship and its sign what its numbers are. `ends - grey` is the negative.
    """
    relationship, sign = _relationship(dataset)
    raw = text(dataset, "PresentationIntentType") == "FOR PROCESSING" or _is_fluoroscopy(dataset)
    if raw and sign is not None and relationship == "LIN":
        note = () if sign > 0 else ("Intensity counted down from the brightest pixel, whose level is not known",)
        return (grey if sign > 0 else ends - grey), "intensity", note
    if raw and sign is not None:
        return (grey if sign < 0 else ends - grey), "unknown", ()
    photometric, shape = text(dataset, "PhotometricInterpretation"), text(dataset, "PresentationLUTShape")
    inverse = photometric == "MONOCHROME1" or shape == "INVERSE"
    note = ()
    if sign is not None and (sign > 0) != inverse:
        note = ("PixelIntensityRelationshipSign contradicts the way the picture is shown; taken as it is shown",)
    shown_grey, ends = _after_voi_lut(grey, ends, dataset, name)
    return (ends - shown_grey if inverse else shown_grey), "unknown", note


def _is_fluoroscopy(dataset: pydicom.Dataset) -> bool:
    """True for XA and RF that are proportional to the beam's intensity, or to its logarithm, and so bones are dark."""
    return text(dataset, "Modality") in ("XA", "RF") and text(dataset, "PixelIntensityRelationship") in ("LIN", "LOG")


def _relationship(dataset: pydicom.Dataset) -> tuple[str, float | None]:
    """PixelIntensityRelationship, and its sign for what comes out of the rescale (the tag speaks of what is stored)."""
    sign = number(dataset, "PixelIntensityRelationshipSign")
    if sign is None and _is_fluoroscopy(dataset):
        sign = 1.0
    if sign is not None and (number(dataset, "RescaleSlope") or 1) < 0:
        sign = -sign
    return text(dataset, "PixelIntensityRelationship"), sign


def _after_voi_lut(grey: np.ndarray, ends: float, dataset: pydicom.Dataset, name: str) -> tuple[np.ndarray, float]:
    """The grey levels through the VOI table where there is one. A window only clips, and so is not applied."""
    if not dataset.get("VOILUTSequence"):
        return grey, ends
    try:
        with quietly():
            shown_grey = apply_voi(np.rint(grey).astype(np.int32), dataset, 0)
            bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
    except MALFORMED:
        raise BadInput(f"{name}: its VOI LUT cannot be read") from None
    return np.asarray(shown_grey).astype(np.float32), float((1 << bits) - 1)


def _spacing(dataset: pydicom.Dataset) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Row and column pitch at the detector, and what was assumed about it."""
    at_panel = dataset.get("ImagerPixelSpacing") or dataset.get("NominalScannedPixelSpacing")
    if at_panel is not None:
        return _two(at_panel), ()
    in_picture = dataset.get("PixelSpacing")
    if in_picture is None or in_picture == "":
        return None, ()
    found = _two(in_picture)
    kind, magnification = (
        text(dataset, "PixelSpacingCalibrationType"),
        number(dataset, "EstimatedRadiographicMagnificationFactor"),
    )
    if kind in ("GEOMETRY", "FIDUCIAL"):
        if magnification:
            return (found[0] * magnification, found[1] * magnification), ()
        return found, ("PixelSpacing is calibrated to the patient's plane; the panel's own is not stated",)
    return found, ("PixelSpacing was taken to be the panel's own: ImagerPixelSpacing is missing",)


def _two(value) -> tuple[float, float]:
    """Two floats, NaN where there are none: whoever checks them says so."""
    try:
        pair = tuple(float(part) for part in value)
    except (TypeError, ValueError):
        return float("nan"), float("nan")
    return pair if len(pair) == 2 else (float("nan"), float("nan"))


def _letters(dataset: pydicom.Dataset) -> tuple[str, str] | None:
    """PatientOrientation's two main directions: where columns and rows grow."""
    parts = text(dataset, "PatientOrientation").split("\\")
    if len(parts) != 2 or not all(part and part[0] in "LRAPHF" for part in parts):
        return None
    return parts[0][0], parts[1][0]


def _view(dataset: pydicom.Dataset) -> View | None:
    found = VIEW_POSITIONS.get(text(dataset, "ViewPosition"))
    if found is None:
        for code in dataset.get("ViewCodeSequence") or []:
            found = found or VIEW_CODES.get(text(code, "CodeValue"))
    return found
