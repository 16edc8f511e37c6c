"""How much of each voxel is air outside the lung: a layer thinner than a voxel counts by its share, as a mask cannot.

A voxel between air and lung holds as much air as its HU lies from the lung's level nearby to air's. One between air
and chest wall may hold wall, air and lung at once; there the layer of voxels next to it says how much of what is not
wall is air (`rim_share`), and its HU how much is not wall.
"""

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

from raylift.segment.levels import Levels
from raylift.segment.morphology import box_of
from raylift.segment.pneumothorax import VESSEL_HU, core_of, mean_over

NEAR_MM, NEAREST_VOXELS = 8.0, 1.25  # ours: standard deviations; around a voxel the lung's own level is taken
CLEAR_VOXELS = 1.5  # ours: so far from the air the lung's level is free of it
ROUND_VOXELS = 2.0  # ours: air's border is no wider
ALONG_MM = 50.0  # ours: so far beyond its mask the air may go on along the wall
APART_ML = 1.0  # ours: so much of a layer may also lie apart from it, by voxels
WALL_VOXELS = 1.5  # ours: the standard deviation of the smoothing of the wall's HU
LEAST_IN_WALL = 0.3  # ours: less may be a wall of another kind
LAYER_VOXELS = 1.2  # ours: the standard deviation of the smoothing along the wall
LEAST, GOES_ON = 0.04, 0.15  # ours: of a layer, the least share that counts, and the least along which air goes on
SPREADS = 5.0  # ours: `GOES_ON` is at least so many standard deviations of the sound lung's layer
OUTSIDE = (-0.7, 1.3)  # ours: shares below are vessels; noise stays, so that it averages to nothing
FEWEST = 1000  # ours: voxels of lung from which a gradient is found


def air_share(
    hu: np.ndarray, cavity: UInt8[np.ndarray, "D H W"], loose: Bool[np.ndarray, "D H W"], levels: Levels, spacing: float
) -> Float32[np.ndarray, "D H W"]:
    """The share of each voxel that is air outside the lung, 1 with noise where all of it is, 0 far from `loose`, which
    is the mask of that air in the cavities (0, 1 right, 2 left).
    """
    out = np.zeros(hu.shape, np.float32)
    for which in np.unique(cavity[loose]):
        inside = cavity == which
        box = box_of(inside, 2)
        out[box] += _shares(hu[box], inside[box], (loose & inside)[box], levels, spacing)
    return out


def _shares(hu: np.ndarray, inside: np.ndarray, mask: np.ndarray, levels: Levels, spacing: float) -> np.ndarray:
    """One side's shares."""
    core, around = core_of(hu, inside, levels), ndimage.binary_dilation(inside)
    rim = around & ~core & ~ndimage.binary_erosion(inside)
    away = ndimage.distance_transform_edt(~mask)
    lung = _lung_hu(hu, core & ndimage.binary_erosion(inside, iterations=2) & (away > CLEAR_VOXELS), levels, spacing)
    share = np.where(core, (lung - hu) / np.maximum(lung - levels.air, 1.0), 0)
    share = np.where(share < OUTSIDE[0], 0, share).clip(max=OUTSIDE[1]).astype(np.float32)
    layer = core & ndimage.binary_dilation(rim | ~inside)
    along = np.nan_to_num(mean_over(share, layer, LAYER_VOXELS))
    spread = _spread(along[layer & (away > ALONG_MM / spacing)])
    goes_on = layer & (along > max(GOES_ON, SPREADS * spread)) & (away <= ALONG_MM / spacing)
    parts, _ = ndimage.label(mask | goes_on, np.ones((3, 3, 3)))
    large = np.flatnonzero(np.bincount(parts.ravel()) >= APART_ML * 1000 / spacing**3)
    reached = np.isin(parts, np.union1d(np.unique(parts[mask]), large)) & (parts > 0)
    away = ndimage.distance_transform_edt(~reached)
    counts = (along > max(LEAST, SPREADS * spread / 3)) | mask | (away <= 1.5)
    core_share = np.where(core & counts & (away <= ROUND_VOXELS), share, 0)
    layer_hu = lung + along.clip(0, 1) * (levels.air - lung)
    wall = ~around & (hu > levels.tissue_cut)
    wall_hu = np.nan_to_num(mean_over(hu, wall, WALL_VOXELS), nan=levels.tissue)
    rim_air = rim_share(along) * _not_wall(hu, layer_hu, wall_hu)
    return np.where(rim & (away <= ROUND_VOXELS), rim_air, core_share)


def _not_wall(hu: np.ndarray, within: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """How much of each voxel is not the chest's wall, by its HU between those `within` and those `beyond`; 0 to 1."""
    share = (beyond - hu) / np.maximum(beyond - within, 1.0)
    return np.where(share < LEAST_IN_WALL, 0, share).clip(max=1)


def rim_share(along: np.ndarray) -> np.ndarray:
    """The share of air in what is not wall of the outermost voxels, of its mean share `along` the layer inside them.

    Air lies against the wall. Where it is t < 1 voxels thick and the wall ends anywhere in a voxel, the next layer
    has t² / 2 of it on average, and the outermost voxels t - t² / 2, of the half that is not wall.
    """
    along = along.clip(0, 0.5)
    return np.where(along > LEAST, 2 * (np.sqrt(2 * along) - along), 0).astype(np.float32)


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
