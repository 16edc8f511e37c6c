"""Volumes on other grids: linear, smoothed first where the new grid is coarser."""

import numpy as np
import SimpleITK as sitk

from raylift.errors import BadInput
from raylift.types import Grid, Volume

AIR_HU = -1000.0
SMOOTH = 0.42  # SD of the Gaussian that stands for a voxel's width: FWHM 1  # ours
REACH = 6.0  # SDs beyond which the Gaussian is nothing in float32  # ours
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
    along = np.abs(np.linalg.inv(volume.grid.affine[:3, :3]) @ grid.affine[:3, :3])  # new steps in old voxels
    ratios = along.max(1)
    sigmas = np.where(ratios > 1.01, SMOOTH * np.sqrt(np.maximum(ratios**2 - 1, 0)), 0.0)  # old voxels
    volume = _about(volume, grid, REACH * sigmas + 2)
    image = to_image(volume.hu.astype(np.float32), volume.grid)
    for axis in range(3):
        if sigmas[axis] and volume.hu.shape[axis] >= 4:  # the recursive filter needs four voxels
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
    return Volume(hu=sitk.GetArrayFromImage(moved), grid=grid, source=volume.source)


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
    """The part of `volume` in `box`, in the same place of the world."""
    affine = volume.grid.affine.copy()
    affine[:3, 3] = volume.grid.world([side.start for side in box])
    hu = np.ascontiguousarray(volume.hu[box])
    return Volume(hu=hu, grid=Grid(hu.shape, affine), source=volume.source)


def inside(grid: Grid, of: Grid) -> np.ndarray:
    """Which voxel centres of `grid` lie in the box of `of`, bool of `grid`'s shape."""
    step = np.linalg.inv(of.affine) @ grid.affine
    index = [np.arange(n, dtype=np.float64) for n in grid.shape]
    where = np.ones(grid.shape, bool)
    for axis in range(3):
        d, h, w = (step[axis, k] * index[k] for k in range(3))
        at = d[:, None, None] + h[:, None] + w + step[axis, 3]
        where &= (at >= -0.5 - 1e-6) & (at <= of.shape[axis] - 0.5 + 1e-6)
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
