"""The HDF5 files of X2CT-GAN in: one CT in a data set named 'ct', its voxel size in 'spacing'.

They carry no orientation and no unit. As their maker wrote them, slices go from the feet to the head, rows to the back,
columns to the patient's left, and values are HU + 1024, not below 0.
"""

from pathlib import Path

import numpy as np

from raylift.errors import BadInput, UnsupportedFormat
from raylift.io.files import check_voxels, shown
from raylift.io.hounsfield import check_is_ct, to_int16
from raylift.types import Grid, Volume

OFFSET_HU = 1024  # X2CT-GAN, original code: HU + 1024
SIDE_MM = 320.0  # X2CT-GAN 4.1: the cube's side, where the file does not state a spacing


def read_grid(path: Path, large: bool = False) -> Grid:
    """Where the file's voxels lie, about LPS 0."""
    with _opened(path) as file:
        return _grid(file, shown(path))


def read(path: Path, finest_mm: float | None = None) -> Volume:
    """The CT in the file, int16 HU."""
    name = shown(path)
    with _opened(path) as file:
        grid = _grid(file, name)
        try:
            stored = file["ct"][()]
        except OSError:
            raise BadInput(f"{name}: damaged or cut off; its voxels cannot be read") from None
    hu = stored if stored.min() < 0 else stored.astype(np.float32) - OFFSET_HU
    hu = to_int16(hu, name)
    check_is_ct(hu, name, was_float=stored.dtype.kind == "f")
    return Volume(hu=hu, grid=grid, source=name)


def _opened(path: Path):
    try:
        import h5py
    except ImportError:
        raise UnsupportedFormat(f"{shown(path)}: HDF5 needs one more part: pip install 'raylift[h5]'") from None
    try:
        return h5py.File(path, "r")
    except OSError:
        raise BadInput(f"{shown(path)}: damaged, cut off, or no HDF5 file") from None


def _grid(file, name: str) -> Grid:
    ct = file.get("ct")
    if getattr(ct, "ndim", 0) != 3 or ct.dtype.kind not in "iuf":
        raise UnsupportedFormat(f"{name}: holds no CT (a data set named 'ct' with three axes)")
    check_voxels(ct.shape, name)
    spacing = [SIDE_MM / max(ct.shape)] * 3
    if "spacing" in file:  # x, y, z
        spacing = np.broadcast_to(np.array(file["spacing"], float).ravel()[::-1], 3).tolist()
    if not all(np.isfinite(s) and 0 < s < 100 for s in spacing):
        raise BadInput(f"{name}: voxel sizes {spacing} are not positive numbers")
    down = Grid.canonical(ct.shape, spacing)
    affine = down.affine.copy()
    affine[:3, 3] = down.world((ct.shape[0] - 1, 0, 0))
    affine[:3, 0] *= -1
    return Grid(ct.shape, affine)
