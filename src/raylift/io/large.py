"""CTs that are larger than the memory: neighbours are averaged while the planes are read, the same from either end."""

from collections.abc import Iterable

import numpy as np

from raylift.io.files import MAX_VOXELS, check_voxels
from raylift.types import Grid

LARGE_VOXELS = 200_000_000  # ours: 512 x 512 x 760; with the copies that preparation needs it stays below 4 GiB
LONGEST = 4_000_000_000  # ours: what is averaged while it is read may be so many voxels, 1024 x 1024 x 3800
Bins = tuple[int, int, int]
WHOLE: Bins = (1, 1, 1)


def bins_for(grid: Grid, finest_mm: float | None) -> Bins:
    """How many neighbours along each axis become one voxel: none up to LARGE_VOXELS or without `finest_mm`.

    Beyond, the finest axes give way first, and none gets coarser than `finest_mm`.
    """
    bins = [1, 1, 1]
    while (
        finest_mm is not None and int(np.prod([n // b for n, b in zip(grid.shape, bins, strict=True)])) > LARGE_VOXELS
    ):
        next_mm = [s * (b + 1) for s, b in zip(grid.spacing_mm, bins, strict=True)]
        axis = int(np.argmin(next_mm))
        if next_mm[axis] > finest_mm or grid.shape[axis] < 2 * (bins[axis] + 1):
            break
        bins[axis] += 1
    return tuple(bins)


def check_size(shape: tuple[int, int, int], bins: Bins, name: str) -> None:
    """Raises where the file, or what is kept of it, has more voxels than can be read."""
    check_voxels(shape, name, MAX_VOXELS if bins == WHOLE else LONGEST)
    check_voxels([n // b for n, b in zip(shape, bins, strict=True)], name)


def binned_grid(grid: Grid, bins: Bins) -> Grid:
    """Where the averaged voxels lie; an incomplete last bin is left out, at the same end of the body in any order."""
    if bins == WHOLE:
        return grid
    first = [start + (b - 1) / 2 for start, b in zip(_starts(grid, bins), bins, strict=True)]
    affine = grid.affine.copy()
    affine[:3, :3] *= bins
    affine[:3, 3] = grid.world(first)
    return Grid(tuple(n // b for n, b in zip(grid.shape, bins, strict=True)), affine)


def gathered(planes: Iterable[np.ndarray], grid: Grid, bins: Bins) -> np.ndarray:
    """The voxels (D H W) of int16 `planes`, which come one after the other along d; averages are rounded."""
    kept = binned_grid(grid, bins).shape
    hu = np.empty(kept, np.int16)
    starts = _starts(grid, bins)
    total = np.zeros(kept[1:], np.int64)
    for d, plane in enumerate(planes):
        at, within = divmod(d - starts[0], bins[0])
        if not 0 <= at < kept[0]:
            continue
        if bins == WHOLE:
            hu[at] = plane
            continue
        total += _summed(plane, starts[1:], bins[1:], kept[1:])
        if within == bins[0] - 1:
            hu[at] = np.rint(total / np.prod(bins))
            total[:] = 0
    return hu


def _summed(plane: np.ndarray, starts, bins, shape) -> np.ndarray:
    h, w = (slice(s, s + n * b) for s, n, b in zip(starts, shape, bins, strict=True))
    return plane[h, w].astype(np.int64).reshape(shape[0], bins[0], shape[1], bins[1]).sum((1, 3))


def _starts(grid: Grid, bins: Bins) -> list[int]:
    """The first voxel of each axis's first bin: 0 where the axis runs to the feet, the back or the left."""
    starts = []
    for axis, (n, b) in enumerate(zip(grid.shape, bins, strict=True)):
        along = grid.affine[:3, axis]
        main = int(np.argmax(np.abs(along)))
        canonical = along[main] * (1, 1, -1)[main] > 0  # left, back, feet
        starts.append(0 if canonical else n % b)
    return starts
