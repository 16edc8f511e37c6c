"""How much of each voxel is air outside the lung: a layer thinner than a voxel counts by its share, as a mask cannot.

A voxel between air and lung holds as much air as its HU lies from the lung's level nearby to air's. One between air
and chest wall may hold wall, air and lung at once; there the layer of voxels next to it says more (`rim.py`).
"""

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

from raylift.segment.levels import Levels
from raylift.segment.morphology import box_of
from raylift.segment.pneumothorax import VESSEL_HU, core_of, mean_over
from raylift.segment.rim import LEAST, not_wall, rim_share, thinning

NEAR_MM, NEAREST_VOXELS = 8.0, 1.25  # ours: standard deviations; around a voxel the lung's own level is taken
CLEAR_VOXELS = 1.5  # ours: so far from the air the lung's level is free of it
ROUND_VOXELS = 2.0  # ours: air's border is no wider
FAR_MM = 50.0  # ours: so far from the mask the layer is mostly of lung, and tells how it scatters
LEAST_ML, APART_ML = 0.1, 2.0  # ours: by voxels, of a thin layer's part, and of all a side's where no mask is
LAYER_VOXELS, RIM_VOXELS = 1.2, 0.8  # ours: SDs of the smoothing along the wall, to find air and to measure it
WALL_VOXELS = 1.5  # ours: the standard deviation of the smoothing of the wall's HU
BEGINS, GOES_ON = 0.15, 0.08  # ours: of a layer, the least share in which air is seen, and along which it goes on
SPREADS = 5.0  # ours: `BEGINS` is at least so many standard deviations of the sound lung's layer
OUTSIDE = (-0.7, 1.3)  # ours: shares below are vessels; noise stays, so that it averages to nothing
FEWEST = 1000  # ours: voxels of lung from which a gradient is found


def air_share(
    hu: np.ndarray, cavity: UInt8[np.ndarray, "D H W"], loose: Bool[np.ndarray, "D H W"], levels: Levels, spacing: float
) -> Float32[np.ndarray, "D H W"]:
    """The share of each voxel that is air outside the lung, 1 with noise where all of it is, 0 where there is none.

    `loose` is the mask of that air in the cavities (0, 1 right, 2 left); layers too thin for a mask are added.
    """
    out = np.zeros(hu.shape, np.float32)
    for which in np.unique(cavity[cavity > 0]):
        inside = cavity == which
        box = box_of(inside, 2)
        out[box] += _shares(hu[box], inside[box], (loose & inside)[box], levels, spacing)
    return out


def _shares(hu: np.ndarray, inside: np.ndarray, mask: np.ndarray, levels: Levels, spacing: float) -> np.ndarray:
    """One side's shares."""
    core, around, deep = core_of(hu, inside, levels), ndimage.binary_dilation(inside), ndimage.binary_erosion(inside)
    rim = around & ~core & ~deep
    away = ndimage.distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)
    lung = _lung_hu(hu, core & ndimage.binary_erosion(deep) & (away > CLEAR_VOXELS), levels, spacing)
    share = np.where(core, (lung - hu) / np.maximum(lung - levels.air, 1.0), 0)
    share = np.where(share < OUTSIDE[0], 0, share).clip(max=OUTSIDE[1]).astype(np.float32)
    layer = core & ndimage.binary_dilation(rim | ~inside)
    along, far = np.nan_to_num(mean_over(share, layer, LAYER_VOXELS)), layer & (away > FAR_MM / spacing)
    seen = along * ((lung - levels.air) / (levels.lung - levels.air)).clip(0, 1)
    least = SPREADS * _spread(seen[far])
    begins, goes_on = (layer & (seen > max(by, least * by / BEGINS)) for by in (BEGINS, GOES_ON))
    reached = _reached(mask, begins, goes_on, spacing**3 / 1000)
    if not reached.any():
        return np.zeros(hu.shape, np.float32)
    away, nearest = ndimage.distance_transform_edt(~reached, return_indices=True)
    counts = (along > max(LEAST, least / 3)) | mask | (away <= 1.5)
    near, square = (np.nan_to_num(mean_over(v, layer, RIM_VOXELS)) for v in (share, share**2))
    beside = rim_share(near, square - _spread(share[far]) ** 2)
    in_rim = np.where(away <= ROUND_VOXELS, beside, thinning(along, layer, away, nearest))
    wall = np.nan_to_num(mean_over(hu, ~around & (hu > levels.tissue_cut), WALL_VOXELS), nan=levels.tissue)
    open_ = not_wall(hu, lung + near.clip(0, 1) * (levels.air - lung), wall)
    return np.where(rim, in_rim * open_, np.where(core & counts & (away <= ROUND_VOXELS), share, 0))


def _reached(mask: np.ndarray, begins: np.ndarray, goes_on: np.ndarray, voxel_ml: float) -> np.ndarray:
    """The mask, and the parts of a thin layer where air `begins` and `goes_on`: of those away from the mask the larger
    ones, and where there is no mask only if they are much together.
    """
    labels, count = ndimage.label(mask | goes_on, np.ones((3, 3, 3)))
    ml = np.bincount(labels[mask | begins], minlength=count + 1) * voxel_ml
    counts = ml >= LEAST_ML
    if not mask.any() and ml[counts].sum() < APART_ML:
        return np.zeros(mask.shape, bool)
    counts[np.unique(labels[mask])] = True
    return counts[labels]


def _lung_hu(hu: np.ndarray, clear: np.ndarray, levels: Levels, spacing: float) -> np.ndarray:
    """The lung's level at each voxel: a gradient over the whole side, and what the lung nearby adds to it: the nearest
    where there is some, since lung is not even, else what lies within millimetres.
    """
    out = np.full(hu.shape, levels.lung, np.float32)
    lung = clear & (hu < levels.lung + VESSEL_HU)
    if lung.sum() < FEWEST:
        return out
    base = _gradient(hu, lung)
    rest = hu - base
    for sigma in (NEAR_MM / spacing, NEAREST_VOXELS):
        added = mean_over(rest, lung, sigma)
        out = np.where(np.isfinite(added), base + added, out)
    return out


def _gradient(hu: np.ndarray, lung: np.ndarray) -> np.ndarray:
    """A plane through the lung's HU: blood sinks, so it is denser where it lies lower."""
    at = np.argwhere(lung)
    columns, values = np.c_[at, np.ones(len(at))], hu[lung]
    keep = np.ones(len(at), bool)
    for _ in range(3):
        plane = np.linalg.lstsq(columns[keep], values[keep], rcond=None)[0]
        rest = values - columns @ plane
        keep = np.abs(rest) < 2 * max(float(rest[keep].std()), 1.0)
    d, h, w = np.ogrid[tuple(slice(n) for n in hu.shape)]
    return (plane[0] * d + plane[1] * h + plane[2] * w + plane[3]).astype(np.float32)


def _spread(values: np.ndarray) -> float:
    """A robust standard deviation; 0 of fewer than 50 values."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if len(values) >= 50 else 0.0
