"""Air between lung and chest wall: as light as air, against the wall, and more than a few millilitres of it."""

import numpy as np
from scipy import ndimage
from skimage.morphology import ball, convex_hull_image

from raylift.segment.levels import Levels
from raylift.segment.morphology import box_of, parts

SEED_SHARE = 0.4  # ours: of the way from air to lung; what is lighter than that is no lung
FEWEST_ML = 1.0  # ours: less is not told from noise and the air of small bronchi
BULLA_ML = 3.0  # ours: what is smaller must be a layer, for it may be a bulla
VESSEL_HU = 150.0  # ours: so far above the lung's level a voxel is of a vessel
NEAR_MM = 12.0  # ours: how far around a border the lung's own level is taken
SPREAD_MM = 1.6  # ours: the standard deviation of the smoothing before a voxel is judged
CALM_SHARE = 0.15  # ours: of the way from air to lung; noise above this is smoothed down to it
WALL_SHARE = 0.15  # ours: of an air pocket's surface that lies against the wall; a ball that touches it has less
LAYER_SHARE = 0.22  # ours: the same of a layer; 1 ml that is 3 mm thick has 0.39, 3 ml of 6 mm 0.35
FULL_SHARE = 0.75  # ours: of the way from lung to air, a pocket's median; dark lung goes half of it
SURE_SHARE = 0.2  # ours: of the way from air to lung; what goes further and is no thin layer may be dark lung
THIN_VOXELS = 2  # ours: so far from a cavity's border the layer may be thin


def pneumothorax_mask(hu: np.ndarray, cavity: np.ndarray, levels: Levels, spacing: float) -> np.ndarray:
    """Extrapulmonary air in the cavities (0, 1 right, 2 left), bool."""
    out = np.zeros(hu.shape, bool)
    if not (cavity > 0).any():
        return out
    box = box_of(cavity > 0, 4)
    out[box] = _in_box(hu[box], cavity[box], levels, spacing)
    return out


def _in_box(hu: np.ndarray, cavity: np.ndarray, levels: Levels, spacing: float) -> np.ndarray:
    inside = cavity > 0
    hu = _calmed(hu, inside, CALM_SHARE * (levels.lung - levels.air))
    core = core_of(hu, inside, levels)
    even = mean_over(hu, core, SPREAD_MM / spacing)
    voxel_ml = spacing**3 / 1000
    light = core & (even < levels.air + SEED_SHARE * (levels.lung - levels.air))
    labels, order = parts(light, 0.5 * FEWEST_ML / voxel_ml)
    if not order:
        return np.zeros(hu.shape, bool)
    seeds = np.isin(labels, order)
    lung = core & (even > levels.air_cut) & (hu < levels.lung + VESSEL_HU)
    local = np.nan_to_num(mean_over(hu, lung, NEAR_MM / spacing), nan=levels.lung)
    air = core & (even < (levels.air + local) / 2)
    labels, _ = ndimage.label(air)
    air = np.isin(labels, np.unique(labels[seeds & air])) & (labels > 0)
    share = mean_over(air.astype(np.float32), core, 0.8)
    rim = inside & ~core & (share > 0.5) & (hu < (levels.air + levels.tissue) / 2)
    full = np.where(core, (local - hu) / np.maximum(local - levels.air, 1), np.nan)
    pockets = _pockets(air | rim, inside, full, voxel_ml)
    if not pockets.any():
        return pockets
    thin = ndimage.binary_dilation(~inside, ball(THIN_VOXELS))
    sure = pockets & (thin | (even < levels.air + SURE_SHARE * (local - levels.air)))
    return pockets & ndimage.binary_dilation(sure)


def _calmed(hu: np.ndarray, inside: np.ndarray, most: float) -> np.ndarray:
    """`hu` with at most so much noise in what is `inside`: what picks voxels by their HU would pick the noise."""
    excess = _noise_of(hu, inside) / max(most, 1.0)
    if excess <= 1:
        return hu
    sigma = excess ** (2 / 3) / (2 * np.pi**0.5)  # a Gaussian leaves (2 sqrt(pi) sigma)^-1.5 of white noise
    return np.where(inside, mean_over(hu, inside, sigma), hu)


def _noise_of(hu: np.ndarray, inside: np.ndarray) -> float:
    """The standard deviation of white noise in what is well `inside`, by the differences of neighbours; 0 in none."""
    clear = ndimage.binary_erosion(inside, iterations=2)
    found = 0.0
    for axis in range(3):
        pairs = clear & np.roll(clear, 1, axis)
        if pairs.any():
            steps = (hu - np.roll(hu, 1, axis))[pairs]
            found = max(found, 1.4826 / 2**0.5 * float(np.median(np.abs(steps))))
    return found


def core_of(hu: np.ndarray, inside: np.ndarray, levels: Levels) -> np.ndarray:
    """Where a cavity holds air or lung and none of its wall."""
    return inside & (hu < levels.air_cut) | ndimage.binary_erosion(inside) & (hu < levels.tissue_cut)


def _pockets(air: np.ndarray, inside: np.ndarray, full: np.ndarray, voxel_ml: float) -> np.ndarray:
    """The parts that are large enough, `full` of air, which dark lung is not, and lie against the chest's wall, which
    the gas of airways does not.
    """
    labels, order = parts(air, FEWEST_ML / voxel_ml)
    kept = np.zeros(air.shape, bool)
    if not order:
        return kept
    wall = ~np.stack([convex_hull_image(plane) if plane.any() else plane for plane in inside])
    for k in order:
        part = labels == k
        shell = ndimage.binary_dilation(part, iterations=2) & ~part
        least = WALL_SHARE if part.sum() * voxel_ml >= BULLA_ML else LAYER_SHARE
        if np.nanmedian(full[part]) > FULL_SHARE and (shell & wall).sum() >= least * shell.sum():
            kept |= part
    return kept


def mean_over(values: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """The Gaussian mean of `values` over what lies in `mask`; NaN far from it."""
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=3)
    total = ndimage.gaussian_filter(np.where(mask, values, 0).astype(np.float32), sigma, truncate=3)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 1e-4, total / weight, np.nan).astype(np.float32)
