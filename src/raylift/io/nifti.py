"""NIfTI in and out: the header by nibabel, the voxels read here, so that a short file is an error and never zeros."""

import gzip
import zlib
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from raylift import DISCLAIMER
from raylift.errors import BadInput, UnsupportedFormat
from raylift.io.files import check_voxels, shown, whole_file
from raylift.io.hounsfield import check_is_ct, rescaled, to_int16
from raylift.io.large import LONGEST, binned_grid, bins_for, check_size, gathered
from raylift.types import Grid, Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNIT_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
BROKEN = (OSError, EOFError, zlib.error)  # gzip's own error is an OSError


def read_grid(path: Path, large: bool = False) -> Grid:
    """Where the file's voxels lie, from the header alone; `large` allows what is averaged when it is read."""
    with _open(path) as file:
        return _grid(_header(file, path), shown(path), LONGEST if large else None)


def read(path: Path, finest_mm: float | None = None) -> Volume:
    """The CT in the file, int16 HU, as stored; d runs along the file's third axis.

    One that is too large for the memory is averaged to voxels of at most `finest_mm`, see `large.bins_for`.
    """
    name = shown(path)
    with _open(path) as file:
        header = _header(file, path)
        grid = _grid(header, name, LONGEST)
        bins = bins_for(grid, finest_mm)
        check_size(grid.shape, bins, name)
        kind, offset = header.get_data_dtype(), int(header.get_data_offset())
        if kind.kind not in "iuf":
            raise BadInput(f"{name}: voxels of type {kind} are no HU")
        slope, intercept = header.get_slope_inter()
        slope, intercept = (1.0 if slope is None else slope), (0.0 if intercept is None else intercept)
        _exactly(file, offset - file.tell(), name)
        planes = _planes(file, grid.shape, kind, (float(slope), float(intercept)), name)
        hu = gathered(planes, grid, bins)
        _check_end(file, name)
    check_is_ct(hu, name, was_float=kind.kind == "f" or not float(slope).is_integer())
    return Volume(hu=hu, grid=binned_grid(grid, bins), source=name)


def write(volume: Volume, path: Path) -> None:
    """`volume` as int16 HU, with sform and qform in the scanner's frame (RAS, mm) and the disclaimer."""
    hu = to_int16(volume.hu, volume.source or "the volume")
    affine = RAS_TO_LPS @ volume.grid.affine
    affine[:, :3] = affine[:, 2::-1]  # NIfTI's i, j, k are w, h, d
    image = nib.Nifti1Image(hu.transpose(2, 1, 0), affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = DISCLAIMER.encode()[:79]
    content = image.to_bytes()
    with whole_file(path) as beside:
        packed = gzip.compress(content, compresslevel=4, mtime=0) if path.name.lower().endswith(".gz") else content
        beside.write_bytes(packed)


def _planes(file, shape: tuple[int, ...], kind: np.dtype, scale: tuple[float, float], name: str):
    """The file's planes one after the other, int16 HU."""
    for _ in range(shape[0]):
        stored = np.frombuffer(_exactly(file, shape[1] * shape[2] * kind.itemsize, name), kind).reshape(shape[1:])
        yield rescaled(stored, *scale, name)


def _open(path: Path):
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else open(path, "rb")


def _header(file, path: Path):
    """The NIfTI-1 or -2 header at the file's start."""
    name = shown(path)
    try:
        start = file.read(540)
    except BROKEN:
        raise BadInput(f"{name}: damaged or cut off in its header") from None
    for kind, size, magic in ((nib.Nifti1Header, 348, b"n+1\0"), (nib.Nifti2Header, 540, b"n+2\0")):
        if start[344:348] == magic or (size == 540 and start[4:8] == magic):
            try:  # unchecked: nibabel's check mends a spacing of 0 to 1
                header = kind.from_fileobj(BytesIO(start[:size]), check=False)
                header.get_data_dtype(), header.get_slope_inter()
                if not 1 <= int(header["dim"][0]) <= 7:
                    raise HeaderDataError("dim")
            except (HeaderDataError, WrapStructError, ValueError, KeyError) as error:
                raise BadInput(f"{name}: its NIfTI header is wrong ({_line(error)})") from None
            file.seek(size)
            return header
    if len(start) < 348:
        raise BadInput(f"{name}: too short for a NIfTI file")
    raise UnsupportedFormat(f"{name}: not a single-file NIfTI (an Analyze or .hdr/.img pair?); convert it to .nii.gz")


def _grid(header, name: str, limit: int | None = None) -> Grid:
    shape = [int(n) for n in header.get_data_shape()]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) != 3:
        raise BadInput(f"{name}: a CT has three axes, not {' x '.join(map(str, shape)) or 'none'}")
    check_voxels(shape, name, limit)
    zooms = np.array(header["pixdim"][1:4], float)
    if not np.isfinite(zooms).all() or (zooms <= 0).any():
        raise BadInput(f"{name}: voxel sizes {zooms.tolist()} are not positive numbers")
    try:
        affine = np.array(header.get_best_affine(), float)
        unit = UNIT_MM.get(header.get_xyzt_units()[0])
    except (HeaderDataError, ValueError, KeyError, np.linalg.LinAlgError) as error:
        raise BadInput(f"{name}: its orientation cannot be read ({_line(error)})") from None
    if unit is None or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise BadInput(f"{name}: its orientation matrix is not finite, singular, or of no known unit")
    affine[:3] *= unit
    affine = RAS_TO_LPS @ affine
    affine[:, :3] = affine[:, 2::-1]
    return Grid(tuple(shape[::-1]), affine)


def _exactly(file, count: int, name: str) -> bytes:
    if count < 0:
        raise BadInput(f"{name}: its voxels are said to begin inside the header")
    parts, left = [], count
    try:
        while left:
            part = file.read(min(left, 1 << 26))
            if not part:
                raise EOFError
            parts.append(part)
            left -= len(part)
    except BROKEN:
        raise BadInput(f"{name}: damaged or cut off; {left} bytes of voxels are missing") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _check_end(file, name: str) -> None:
    """Reads on, so that gzip compares its checksum."""
    try:
        file.read(1)
    except BROKEN:
        raise BadInput(f"{name}: damaged or cut off; its checksum is missing or wrong") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
