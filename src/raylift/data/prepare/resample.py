"""Volumes on other grids: linear, smoothed first where the new grid is coarser."""

import numpy as np
import SimpleITK as sitk
from scipy import sparse

from raylift.errors import BadInput
from raylift.types import Grid, Volume

AIR_HU = -1000.0
SMOOTH = 0.42  # SD of the Gaussian that stands for a voxel's width: FWHM 1  # ours
REACH = 6.0  # SDs beyond which the Gaussian is nothing in float32  # ours
NOTHING = 1e-7  # a smaller weight of a voxel is left out: 0.002 HU together at most  # ours
STRAIGHT = 1e-4  # old voxels that axes may drift apart and still be the same  # ours
EDGE = 1e-6  # old voxels; a place so near to the edge is inside  # ours
WORTH = 0.8  # ours: a larger part is not cut out first
LEAST_COVERED = 0.05  # ours: a truth that fills less of a volume than this lies elsewhere


def to_image(hu: np.ndarray, grid: Grid) -> sitk.Image:
    """A SimpleITK image of an array (D H W) in the same place of the world."""
    image = sitk.GetImageFromArray(hu)
    spacing = grid.spacing_mm
    image.SetSpacing(spacing[::-1])
    image.SetOrigin(tuple(grid.affine[:3, 3]))
    image.SetDirection(tuple((grid.affine[:3, :3] / spacing)[:, ::-1].ravel()))
    return image


def resampled(volume: Volume, grid: Grid, *, outside: float = AIR_HU) -> Volume:
    """`volume` on `grid`, float32 HU; what lies outside it is `outside`."""
    step = np.linalg.inv(volume.grid.affine) @ grid.affine  # from new voxels to old ones
    ratios = np.abs(step[:3, :3]).max(1)
    sigmas = np.where(ratios > 1.01, SMOOTH * np.sqrt(np.maximum(ratios**2 - 1, 0)), 0.0)  # old voxels
    drift = np.abs(step[:3, :3]) @ np.array(grid.shape) - np.abs(step.diagonal()[:3]) * grid.shape
    way = _along_axes if drift.max() < STRAIGHT else _turned
    return Volume(hu=way(volume, grid, step, sigmas, outside), grid=grid, source=volume.source)


def _along_axes(volume: Volume, grid: Grid, step: np.ndarray, sigmas: np.ndarray, outside: float) -> np.ndarray:
    """`resampled` where the two grids' axes are the same: one axis after the other, plane by plane."""
    places = [step[k, k] * np.arange(n) + step[k, 3] for k, n in enumerate(grid.shape)]  # in old voxels
    weights = [_weights(n, at, s) for n, at, s in zip(volume.hu.shape, places, sigmas, strict=True)]
    box = [slice(w.indices.min(), w.indices.max() + 1) for w in weights]  # of the voxels that count
    along_d, along_h, along_w = (w[:, side] for w, side in zip(weights, box, strict=True))
    planes = np.empty((box[0].stop - box[0].start, *grid.shape[1:]), np.float32)
    for plane, hu in zip(planes, volume.hu[tuple(box)], strict=True):
        plane[:] = (along_w @ (along_h @ hu.astype(np.float32)).T).T
    hu = (along_d @ planes.reshape(len(planes), -1)).reshape(grid.shape)
    for axis, (at, n) in enumerate(zip(places, volume.hu.shape, strict=True)):
        hu[(*[slice(None)] * axis, (at < -0.5 - EDGE) | (at > n - 0.5 + EDGE))] = outside
    return hu


def _weights(count: int, places: np.ndarray, sigma: float) -> sparse.csr_array:
    """What each of `count` voxels in a row adds to the value at each of `places`, once the row is smoothed."""
    low = np.floor(places).clip(0, max(count - 2, 0)).astype(int)
    share = (places - low).clip(0, 1)
    rows, ends = np.arange(len(places)), np.minimum(low + 1, count - 1)
    pairs = (np.r_[1 - share, share], (np.r_[rows, rows], np.r_[low, ends]))
    weights = sparse.csr_array(pairs, (len(places), count), np.float32)
    if sigma and count >= 4:  # the recursive filter needs four voxels
        single = sitk.GetImageFromArray(np.eye(count, dtype=np.float32))  # a column for each voxel, alone
        weights = weights @ sitk.GetArrayFromImage(sitk.RecursiveGaussian(single, sigma, direction=1))
        weights = sparse.csr_array(np.where(np.abs(weights) < NOTHING, np.float32(0), weights))
    return weights


def _turned(volume: Volume, grid: Grid, step: np.ndarray, sigmas: np.ndarray, outside: float) -> np.ndarray:
    """`resampled` for any two grids."""
    volume = _about(volume, grid, REACH * sigmas + 2)
    image = to_image(volume.hu.astype(np.float32), volume.grid)
    for axis in range(3):
        if sigmas[axis] and volume.hu.shape[axis] >= 4:
            image = sitk.RecursiveGaussian(image, sigmas[axis] * volume.grid.spacing_mm[axis], direction=2 - axis)
    like = to_image(np.zeros((1, 1, 1), np.float32), grid)
    moved = sitk.Resample(
        image,
        grid.shape[::-1],
        sitk.Transform(3, sitk.sitkIdentity),
        sitk.sitkLinear,
        like.GetOrigin(),
        like.GetSpacing(),
        like.GetDirection(),
        outside,
        sitk.sitkFloat32,
    )
    return sitk.GetArrayFromImage(moved)


def _about(volume: Volume, grid: Grid, margin: np.ndarray) -> Volume:
    """The part of `volume` that `grid` lies in, and so many voxels around it; all of it where nothing is saved."""
    corners = volume.grid.index(grid.corners_mm)
    low = np.maximum(np.floor(corners.min(0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(0) + margin) + 1, volume.hu.shape).astype(int)
    if (high - low < 4).any() or np.prod(high - low) > WORTH * volume.hu.size:
        return volume
    return cut(volume, tuple(slice(*ends) for ends in zip(low, high, strict=True)))


def upright(volume: Volume, spacing_mm: float, *, multiple: int = 1) -> Volume:
    """The whole of `volume` on an upright grid of that spacing, float32 HU; each side a `multiple` of voxels."""
    corners = volume.grid.corners_mm
    low, high = corners.min(0), corners.max(0)
    count = multiple * np.maximum(np.ceil((high - low) / spacing_mm / multiple - 1e-6), 1).astype(int)
    return resampled(volume, Grid.canonical(tuple(count[::-1]), spacing_mm, tuple((low + high) / 2)))


def cut(volume: Volume, box: tuple[slice, slice, slice]) -> Volume:
    """The part of `volume` in `box`, in the same place of the world; its voxels are not copied."""
    affine = volume.grid.affine.copy()
    affine[:3, 3] = volume.grid.world([side.start for side in box])
    hu = volume.hu[box]
    return Volume(hu=hu, grid=Grid(hu.shape, affine), source=volume.source)


def inside(grid: Grid, of: Grid) -> np.ndarray:
    """Which voxel centres of `grid` lie in the box of `of`, bool of `grid`'s shape."""
    step = np.linalg.inv(of.affine) @ grid.affine
    index = np.ogrid[tuple(slice(n) for n in grid.shape)]
    where = np.ones(grid.shape, bool)
    for axis in range(3):
        at = sum((s * k for s, k in zip(step[axis, :3], index, strict=True) if abs(s) > 1e-12), step[axis, 3])
        where &= (at >= -0.5 - EDGE) & (at <= of.shape[axis] - 0.5 + EDGE)
    return where


def on_grid_of(ct: Volume, truth: Volume, name: str = "the result's cube") -> tuple[Volume, np.ndarray]:
    """`truth` on the grid of `ct`, and which of its voxels it fills; `name` is what an error calls `ct`."""
    filled = inside(ct.grid, truth.grid)
    if filled.mean() < LEAST_COVERED:
        raise BadInput(
            f"{truth.source}: the true CT lies elsewhere: it fills {filled.mean():.0%} of {name}, whose "
            f"centre is at LPS {np.round(ct.grid.centre_mm).tolist()} mm"
        )
    return resampled(truth, ct.grid), filled
