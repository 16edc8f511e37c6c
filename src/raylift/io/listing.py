"""What a file is, in a few words and numbers that are fit to print and for JSON; nothing about the patient."""

from pathlib import Path

import numpy as np

from raylift.errors import BadInput
from raylift.io import CT_FORMATS, _module, _xray, suffix_of
from raylift.io.files import shown
from raylift.types import Grid, Xray

ENDS = (("right", "left"), ("front", "back"), ("feet", "head"))  # LPS, negative and positive
KINDS = {".h5": "HDF5", ".nrrd": "NRRD", ".nhdr": "NRRD", ".mha": "MetaImage", ".mhd": "MetaImage"}
NAMES = {"nifti": "NIfTI", "itk": "NRRD or MetaImage"}


def describe(path: Path) -> dict:
    """format, kind, shape, spacing_mm, orientation, values, beam, notes of the file or folder."""
    suffix = suffix_of(path)
    if path.is_file() and suffix in CT_FORMATS:
        return _ct(KINDS.get(suffix, "NIfTI"), [_module(CT_FORMATS[suffix]).read_grid(path)], path)
    if path.is_dir():
        return _ct("DICOM series", _module("dicom_series").read_grids(path), path)
    if _module("dicom").is_dicom(path):
        header = _module("dicom").open_dicom(path, pixels=False, tags=["Modality"])
        modality = _module("dicom").text(header, "Modality")
        if modality == "CT":
            return _ct("DICOM", _module("dicom_series").read_grids(path), path)
        return _of_xray(f"DICOM {modality[:16]}".strip(), _xray(path, needs_spacing=False))
    return _of_xray(suffix.lstrip(".").upper() or "unknown", _xray(path, needs_spacing=False))


def _ct(kind: str, grids: list[Grid], path: Path) -> dict:
    if not grids:
        raise BadInput(f"{shown(path)}: holds no CT")
    grid = grids[0]
    notes = [] if len(grids) == 1 else [f"{len(grids)} series; this is the largest"]
    return {
        "file": shown(path),
        "format": kind,
        "kind": "ct",
        "shape": list(grid.shape),
        "spacing_mm": [round(s, 6) for s in grid.spacing_mm],
        "orientation": [f"to the {_towards(column)}" for column in grid.affine[:3, :3].T],
        "centre_lps_mm": [round(float(x), 4) for x in grid.centre_mm],
        "values": "HU",
        "beam": None,
        "notes": notes,
    }


def _of_xray(kind: str, xray: Xray) -> dict:
    return {
        "file": xray.source,
        "format": kind,
        "kind": "xray",
        "shape": list(xray.pixels.shape),
        "spacing_mm": None if xray.pixel_mm is None else [round(s, 6) for s in xray.pixel_mm],
        "orientation": str(xray.view) if xray.view else None,
        "values": xray.values,
        "range": [float(xray.pixels.min()), float(xray.pixels.max())],
        "beam": repr(xray.beam) if xray.beam else None,
        "isocentre_lps_mm": None if xray.isocentre_mm is None else list(xray.isocentre_mm),
        "notes": list(xray.notes),
    }


def _towards(direction: np.ndarray) -> str:
    axis = int(np.argmax(np.abs(direction)))
    return ENDS[axis][int(direction[axis] > 0)]
