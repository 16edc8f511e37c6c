"""Files in and out: CTs as `Volume`, X-rays as `Xray`. One row a suffix in the tables, one module a format."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from raylift.errors import BadInput, UnsupportedFormat
from raylift.io.files import PathLike, existing, shown
from raylift.types import View, Volume, Xray

# suffix -> module with `read`, `read_grid`, `write`; loaded when first needed
CT_FORMATS = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".nrrd": "itk",
    ".nhdr": "itk",
    ".mha": "itk",
    ".mhd": "itk",
    ".h5": "hdf5",
}
CT_OUT = (".nii", ".nii.gz", ".nrrd", ".mha")
XRAY_PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
__all__ = [
    "describe",
    "patient_of",
    "read_ct",
    "read_cts",
    "read_geometry",
    "read_xray",
    "survey_cts",
    "write_ct",
    "write_geometry",
    "write_xray_dicom",
    "write_xray_png",
]


def _module(name: str) -> ModuleType:
    return import_module(f"raylift.io.{name}")


def suffix_of(path: PathLike) -> str:
    """The file name's suffix in lower case; '.nii.gz' counts as one.

    >>> suffix_of("CT.NII.GZ"), suffix_of("x.y.mha"), suffix_of("1.2.840")
    ('.nii.gz', '.mha', '.840')
    """
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def read_ct(path: PathLike) -> Volume:
    """The CT in a file or a DICOM folder as int16 HU, in the file's own orientation; see `geometry.canonical`.

    Of several series in a folder it is the one with most voxels, and the log says so.
    """
    path = existing(path)
    if path.is_file() and suffix_of(path) in CT_FORMATS:
        return _module(CT_FORMATS[suffix_of(path)]).read(path)
    return _dicom_series(path).read(path)


def read_cts(path: PathLike) -> list[Volume]:
    """All CTs of a folder's DICOM series, or the file's one, as `read_ct` reads them; the largest first."""
    path = existing(path)
    if path.is_file() and suffix_of(path) in CT_FORMATS:
        return [read_ct(path)]
    return _dicom_series(path).read_all(path)


def survey_cts(path: PathLike):
    """What a file or folder holds, as an `unread.Survey`: its CTs to be read one at a time, and what is none."""
    path = existing(path)
    if path.is_file() and suffix_of(path) in CT_FORMATS:
        unread, module = _module("unread"), _module(CT_FORMATS[suffix_of(path)])
        grid = module.read_grid(path, large=True)
        return unread.Survey(cts=(unread.UnreadCT(grid=grid, load=lambda finest_mm: module.read(path, finest_mm)),))
    return _dicom_series(path).survey(path)


def _dicom_series(path: Path) -> ModuleType:
    series = _module("dicom_series")
    if path.is_file() and series.first_file(path) is None:
        known = ", ".join(sorted(CT_FORMATS))
        raise UnsupportedFormat(f"{shown(path)}: unsupported format for a CT; a DICOM folder or one of {known}")
    return series


def write_ct(volume: Volume, path: PathLike, *, output_type: str | None = None) -> Path:
    """Writes `volume` as int16 HU and returns where: a file by its suffix, or a DICOM series in the folder `path`.

    `output_type` is 'nifti', 'nrrd', 'mha' or 'dicom'; by default the suffix decides, and no suffix means DICOM.
    """
    path, suffix = Path(path), suffix_of(path)
    of_type = {"nifti": (".nii.gz", ".nii"), "nrrd": (".nrrd",), "mha": (".mha",), "dicom": ("",)}
    if output_type is None:
        output_type = next((kind for kind, suffixes in of_type.items() if suffix in suffixes), "")
    if output_type not in of_type or (output_type != "dicom" and suffix not in of_type[output_type]):
        raise UnsupportedFormat(
            f"{shown(path)}: a CT is written as {', '.join(CT_OUT)}, or as a DICOM folder (a name without suffix)"
        )
    _module("dicom_ct" if output_type == "dicom" else CT_FORMATS[suffix]).write(volume, path)
    return path


def read_xray(
    path: PathLike,
    *,
    spacing: float | tuple[float, float] | None = None,
    view: View | str | None = None,
    lateral_faces: str | None = None,
    geometry=None,
) -> Xray:
    """The X-ray in a DICOM, PNG, TIFF, JPEG or .npy file, turned as it hangs on a light box.

    `spacing` is the pixel's size at the detector in mm, `geometry` a geometry.json (or what `read_geometry` gave),
    which wins over the file's tags; `lateral_faces` is 'left' or 'right' where the file does not say.
    """
    return _xray(existing(path), spacing, view, lateral_faces, geometry)


def _xray(path: Path, spacing=None, view=None, lateral_faces=None, geometry=None, needs_spacing: bool = True) -> Xray:
    if path.is_dir():
        raise BadInput(f"{shown(path)}: a folder; give the X-ray's file")
    if isinstance(geometry, str | Path):
        geometry = read_geometry(geometry)
    if view is not None and view not in list(View):
        raise BadInput(f"no view {view!r}; one of {', '.join(View)}")
    return _module("picture").to_xray(
        _picture(path),
        shown(path),
        spacing=spacing,
        view=View(view) if view is not None else None,
        lateral_faces=lateral_faces,
        geometry=geometry,
        needs_spacing=needs_spacing,
    )


def _picture(path: Path):
    """What the file says, by whatever reads it: DICOM by its content, the others by their suffix."""
    if _module("dicom").is_dicom(path):
        return _module("dicom_xray").read(path)
    suffix = suffix_of(path)
    if suffix in XRAY_PICTURES:
        return _module("raster").read(path)
    if suffix == ".npy":
        return _module("raster").read_npy(path)
    if suffix in CT_FORMATS:
        raise BadInput(f"{shown(path)}: a volume, not an X-ray; `raylift drr` makes X-rays of a CT")
    known = ", ".join(XRAY_PICTURES)
    raise UnsupportedFormat(f"{shown(path)}: unsupported format for an X-ray; DICOM, .npy or one of {known}")


def write_xray_dicom(xray: Xray, path: PathLike) -> Path:
    """Writes `xray` as a DX file with its beam, and returns where; read back it has the same beam, exactly.

    Values come back within half a step of 16 bits: their range (with 0) / 131070.
    """
    _module("dicom_dx").write(xray, Path(path))
    return Path(path)


def write_xray_png(xray: Xray, path: PathLike) -> Path:
    """Writes `xray` as a 16-bit PNG, dense is bright, and returns where; `write_geometry` states its scale."""
    _module("raster").write_png(xray, Path(path))
    return Path(path)


def read_geometry(path: PathLike):
    """The beams in a geometry.json, as a `geometry_file.Geometry`."""
    return _module("geometry_file").read(existing(path))


def write_geometry(path: PathLike, xrays) -> Path:
    """Writes the beams of `xrays` as a geometry.json, and returns where."""
    _module("geometry_file").write(Path(path), list(xrays))
    return Path(path)


def patient_of(path: PathLike) -> str | None:
    """16 hex digits that stand for the patient of a DICOM file or folder, never the id; None where nothing says."""
    path = existing(path)
    if path.is_file() and suffix_of(path) in CT_FORMATS:
        return None
    file = _module("dicom_series").first_file(path)
    if file is None:
        return None
    return _module("dicom").patient_hash(
        _module("dicom").open_dicom(file, pixels=False, tags=["PatientID", "IssuerOfPatientID"])
    )


def describe(path: PathLike) -> dict:
    """What a file is, for `raylift info`: format, kind, shape, spacing, orientation, values, beam; no patient."""
    return _module("listing").describe(existing(path))
