"""Single vertebrae put together again: each where it was found, in one grid, the fuller one winning where two meet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Shaped
from scipy import ndimage
from skimage.filters import threshold_otsu

from raylift.errors import BadInput
from raylift.segment.vertebrae import DOWN, VERSE, Vertebrae
from raylift.types import Grid

EDGE = 2.0  # values a piece may weigh at most, in its own threshold's scale  # ours


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """One vertebra's own little volume (HU, or what else is higher in bone) in the world, and where bone begins."""

    level: str
    hu: Shaped[np.ndarray, "D H W"]
    grid: Grid
    begins: float

    @cached_property
    def mask(self) -> Bool[np.ndarray, "D H W"]:
        """Where its bone is: what is connected to the largest part above the threshold."""
        return largest(self.hu > self.begins)


def piece(level: str, hu: Shaped[np.ndarray, "D H W"], grid: Grid, begins: float | None = None) -> Piece:
    """A piece whose bone begins at `begins`, or half-way between its two kinds of values (Otsu 1979)."""
    if begins is None:
        if float(hu.max()) - float(hu.min()) < 1e-6:
            raise BadInput(f"{level}: the volume reconstructed for it holds one value only")
        begins = float(threshold_otsu(np.asarray(hu, np.float32)))
    return Piece(level=level, hu=hu, grid=grid, begins=float(begins))


def largest(mask: Bool[np.ndarray, "D H W"]) -> Bool[np.ndarray, "D H W"]:
    """The largest connected part of `mask`."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def stitch(pieces: Sequence[Piece], grid: Grid | None = None, *, how: str = "stitched") -> Vertebrae:
    """One label map of all pieces on `grid`, or on an upright one that holds them at their own spacing."""
    if not pieces:
        raise BadInput("no vertebra to stitch")
    grid = grid or holding(pieces)
    labels, best = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.float32)
    for each in sorted(pieces, key=lambda p: DOWN[p.level]):
        box = _box(each, grid)
        if box is None:
            continue
        weight = _weight(each, grid, box)
        wins = weight > best[box]
        best[box] = np.where(wins, weight, best[box])
        labels[box] = np.where(wins, np.uint8(VERSE[each.level]), labels[box])
    found = Vertebrae(labels=labels, grid=grid, how=how)
    for level, box in found.spans.items():  # what the neighbours cut off is no part of it
        own = labels[box] == VERSE[level]
        labels[box][own & ~largest(own)] = 0
    return Vertebrae(labels=labels, grid=grid, how=how)


def holding(pieces: Sequence[Piece]) -> Grid:
    """An upright grid around all pieces' bone, at the first one's spacing."""
    points = np.concatenate([p.grid.world(_ends(p.mask)) for p in pieces])
    spacing = float(np.cbrt(np.prod(pieces[0].grid.spacing_mm)))
    low, high = points.min(0) - 3 * spacing, points.max(0) + 3 * spacing
    shape = np.ceil((high - low)[::-1] / spacing).astype(int) + 1
    return Grid.canonical(tuple(shape), spacing, tuple((low + high) / 2))


def _ends(mask: np.ndarray) -> np.ndarray:
    """The eight corners of what is true, as indices."""
    if not mask.any():
        return (np.array(mask.shape) - 1)[None] / 2
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return np.array([[(s.start, s.stop - 1)[k >> axis & 1] for axis, s in enumerate(box)] for k in range(8)])


def _box(each: Piece, grid: Grid) -> tuple[slice, slice, slice] | None:
    """The voxels of `grid` that the piece's bone can reach."""
    index = grid.index(each.grid.world(_ends(each.mask)))
    low = np.maximum(np.floor(index.min(0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(index.max(0)).astype(int) + 3, grid.shape)
    return None if (low >= high).any() else tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _weight(each: Piece, grid: Grid, box) -> np.ndarray:
    """How far above its threshold the piece is at each voxel of the box, linear between its own; 0 where it is not."""
    mask = each.mask
    above = (np.asarray(each.hu, np.float32) - each.begins) / max(float(np.std(each.hu)), 1e-6)
    near = ndimage.binary_dilation(mask, iterations=1)
    field = np.where(near, np.clip(above, -EDGE, EDGE), -EDGE)
    field = np.where(near & ~mask, np.minimum(field, 0), field)
    step = np.linalg.inv(each.grid.affine) @ grid.affine
    start = np.array([s.start for s in box])
    offset = step[:3, :3] @ start + step[:3, 3]
    shape = tuple(s.stop - s.start for s in box)
    moved = ndimage.affine_transform(field, step[:3, :3], offset, shape, order=1, mode="constant", cval=-EDGE)
    return np.maximum(moved, 0)
