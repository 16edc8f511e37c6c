"""Vessels, heart and bowel that contrast makes as dense as bone: found by what bone has and they lack, a cortex.

dense parts --deeper than 5 mm, no brighter rim--> seeds --watershed on the edges, against what looks like cortex-->
all of each vessel
"""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage
from skimage.segmentation import watershed

COARSE_MM = 3.2  # seeds are looked for on voxels of up to this side  # ours
CORE_MM = 5.0  # ours: deeper than this lie the middles of large vessels and of vertebrae, femora, sacrum
NEAR_MM = 6.0  # ours: half a large vessel
SHELL = 1.12  # ours: what is brighter than a core by this is no noise but cortex
MOST_CORTEX = 0.2  # of a core's rim: a vessel that lies on the spine; bone has 0.3 to 1 in eight CTs  # ours
SEED_MM3 = 1000.0  # ours
CERTAIN_MM3 = 5000.0  # of seeds: that much and contrast was given  # ours
JET_HU, JET_MM = 800.0, 3.5  # the vein that contrast was given into; no bone of the trunk is so dense so deep  # ours
CLIP_HU = (-200.0, 1500.0)  # ours: what lies outside tells nothing of edges
THIN_MM = 3.5  # half the thickest cortex  # ours
RIDGE_HU = 150.0  # how far cortex stands out of what is thicker  # ours
PEAK, PEAK_HU = 2.0, 600.0  # cortex reaches the first times where bone begins, and any cortex the second  # ours
PEAK_SHARE = 0.02  # of a bone's voxels reach its peak, of a contrasted kidney less  # ours
RIDGE_MM3 = 300.0  # ours


def clipped(hu: Shaped[np.ndarray, "d h w"]) -> Float[np.ndarray, "d h w"]:
    """HU without metal, air and lungs, float32."""
    return hu.clip(*CLIP_HU).astype(np.float32)


def contrasted(
    hu: Shaped[np.ndarray, "d h w"], begins_hu: float, low_hu: float, spacing_mm: Sequence[float]
) -> Bool[np.ndarray, "d h w"]:
    """What contrast has made denser than `begins_hu`, and its rim down to `low_hu`."""
    dense = hu > begins_hu
    seeds = seeds_of(hu, begins_hu, spacing_mm) & dense
    if not seeds.any():
        return seeds
    bounded = clipped(hu)
    soft = ndimage.gaussian_filter(bounded, 0.7, truncate=2)
    markers = _cortex(hu, soft, dense, begins_hu, spacing_mm).astype(np.int32)
    markers[seeds] = 2
    edges = ndimage.maximum_filter(bounded, 3) - ndimage.minimum_filter(bounded, 3)
    found = watershed(edges, markers, mask=soft > low_hu)
    return ndimage.maximum_filter(found == 2, 3) & (soft > low_hu) & (found != 1)


def seeds_of(
    hu: Shaped[np.ndarray, "d h w"], begins_hu: float, spacing_mm: Sequence[float]
) -> Bool[np.ndarray, "d h w"]:
    """The middles of vessels, heart and bowel that are full of contrast."""
    steps = [max(1, min(int(COARSE_MM / s), n)) for s, n in zip(spacing_mm, hu.shape, strict=True)]
    small = sitk.GetArrayFromImage(sitk.BinShrink(sitk.GetImageFromArray(clipped(hu)), steps[::-1]))
    sides = np.multiply(spacing_mm, steps)
    seeds = _without_cortex(small, begins_hu, sides)
    seeds &= _large(seeds, SEED_MM3 / np.prod(sides))
    if seeds.sum() * np.prod(sides) > CERTAIN_MM3:
        jets, _ = ndimage.label(small > JET_HU, np.ones((3, 3, 3)))
        deep = max(1, round(JET_MM / min(sides)))
        thick = np.unique(jets[ndimage.binary_erosion(small > JET_HU, iterations=deep)])
        seeds |= np.isin(jets, thick[thick > 0])
    for axis, step in enumerate(steps):
        seeds = seeds.repeat(step, axis)
    return np.pad(seeds, [(0, n - m) for n, m in zip(hu.shape, seeds.shape, strict=True)], mode="edge")


def _without_cortex(small: Float[np.ndarray, "d h w"], begins_hu: float, sides_mm) -> Bool[np.ndarray, "d h w"]:
    """Cores of dense parts whose rim is not brighter but where they touch a bone; metal is left out."""
    dense = small > begins_hu
    depth = ndimage.distance_transform_edt(np.pad(dense, 1), sampling=sides_mm)[1:-1, 1:-1, 1:-1]
    core = depth > CORE_MM
    if not core.any():
        return core
    rim = dense & ~core & (depth > 0.6 * min(sides_mm))  # the outermost voxels are half flesh
    mean = _mean_near(small, core, sides_mm)
    cortex = ndimage.maximum_filter(small, 3) > SHELL * mean
    return core & (mean < JET_HU) & (_mean_near(cortex.astype(np.float32), rim, sides_mm) < MOST_CORTEX)


def _mean_near(values: Float[np.ndarray, "d h w"], where: Bool[np.ndarray, "d h w"], sides_mm):
    """The mean of `values` over near voxels (Gaussian of SD NEAR_MM) that lie in `where`; 0 where none does."""
    sigma = NEAR_MM / np.asarray(sides_mm)
    total, share = (ndimage.gaussian_filter(x.astype(np.float32), sigma, truncate=2) for x in (values * where, where))
    return total / np.maximum(share, 1e-4)


def _large(mask: Bool[np.ndarray, "d h w"], voxels: float) -> Bool[np.ndarray, "d h w"]:
    """The parts of `mask` with more than so many voxels."""
    labels, count = ndimage.label(mask)
    keep = np.bincount(labels.ravel(), minlength=count + 1) > voxels
    keep[0] = False
    return keep[labels]


def _cortex(hu, soft, dense, begins_hu: float, spacing_mm: Sequence[float]) -> Bool[np.ndarray, "d h w"]:
    """Dense parts that are thin, large, and reach what only cortex reaches."""
    wide = [2 * max(1, round(THIN_MM / s)) + 1 for s in spacing_mm]
    ridges = dense & (soft - ndimage.grey_opening(soft, size=wide) > RIDGE_HU)
    labels = labelled(ridges)
    sizes = np.bincount(labels.ravel())
    keep = (sizes * np.prod(spacing_mm) > RIDGE_MM3) & (peaks(labels, hu, PEAK * begins_hu) > PEAK_SHARE)
    keep[0] = False
    return keep[labels]


def labelled(mask: Bool[np.ndarray, "d h w"]) -> np.ndarray:
    """The parts of a mask, numbered from 1."""
    return sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8))))


def peaks(labels: np.ndarray, hu: Shaped[np.ndarray, "d h w"], peak_hu: float) -> Float[np.ndarray, " n"]:
    """For each label which share of it is denser than `peak_hu`, or than any cortex is."""
    sizes = np.bincount(labels.ravel())
    return np.bincount(labels[hu > min(peak_hu, PEAK_HU)], minlength=len(sizes)) / np.maximum(sizes, 1)
