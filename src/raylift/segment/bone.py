"""The skeleton alone, by K-means (3DSRNet): of a CT by its HU, of an X-ray picture by what stands out of the flesh."""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from jaxtyping import Bool, Float, Integer, Shaped
from scipy import ndimage

DENSEST_HU = 1500.0  # ours: above it is enamel and metal, which would draw the brightest cluster to itself
CT_CLUSTERS = (-900.0, -100.0, 50.0, 500.0)  # ours: gas, fat, flesh, bone; 3DSRNet's three lose bone in fat CTs
CORTEX = 2.0  # ours: where bone begins, times this: 2 % of a bone reach it, of a contrasted kidney less
CORTEX_HU = 600.0  # ours: any cortex reaches it
SMALLEST_MM3 = 300.0  # ours: a part of the skeleton, and not a calcified node
CLOSED_MM = 3.0  # ours: gaps in a cortex
MARROW_MM2 = 2000.0  # ours: a hole in a plane up to a vertebra's section is marrow; a skull's inside is larger
COARSE_MM = 4.0  # vessels are looked for on voxels of up to this side  # ours
NEAR_MM = 6.0  # ours: half a large vessel
CORE_MM = 5.0  # ours: deeper than this lie the middles of large vessels and of vertebrae, femora, sacrum
SHELL = 1.12  # ours: the densest near a vessel's edge over its core's mean is noise; at a bone's edge it is cortex
EVEN = 0.14  # ours: SD over mean of a vessel's core; trabeculae of a femur's head vary more

WIDE_MM = 80.0  # ours: at the panel, wider than a vertebra's body in any view
PICTURE_QUANTILES = (0.1, 0.7, 0.99)  # ours: where K-means begins: flesh, thin bone, thick bone


def skeleton(hu: Shaped[np.ndarray, "d h w"], spacing_mm: Sequence[float]) -> Bool[np.ndarray, "d h w"]:
    """Where bone is, marrow with it; `spacing_mm` along d, h, w. Large vessels full of contrast are left out."""
    begins = bone_begins_hu(hu)
    dense = hu > begins
    if not dense.any():
        return dense
    box = ndimage.find_objects(dense.astype(np.uint8))[0]
    part = dense[box] & ~_vessels(hu[box], begins, spacing_mm)
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(part.astype(np.uint8))))
    bones = _are_bones(hu[box], labels, begins, float(np.prod(spacing_mm)))[labels]
    dense[:] = False
    dense[box] = _filled(bones, spacing_mm)
    return dense


def bone_begins_hu(hu: Shaped[np.ndarray, "d h w"]) -> float:
    """The HU halfway between the clusters of flesh and of bone."""
    levels = np.rint(hu).astype(np.int32).ravel() + 1024
    counts = np.bincount(levels.clip(0, 1024 + int(DENSEST_HU), out=levels))
    centres = k_means(np.arange(len(counts)) - 1024.0, counts.astype(float), CT_CLUSTERS)
    return float((centres[-1] + centres[-2]) / 2)


def k_means(
    values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], centres: Sequence[float]
) -> Float[np.ndarray, " k"]:
    """Where K-means' centres come to rest that begin at `centres` (rising); each step lowers the sum of squares."""
    now = np.array(centres, float)
    while True:
        nearest = np.searchsorted((now[1:] + now[:-1]) / 2, values)
        mass = np.bincount(nearest, weights, len(now))
        moved = np.where(mass > 0, np.bincount(nearest, weights * values, len(now)) / np.maximum(mass, 1e-12), now)
        moved.sort()
        if np.abs(moved - now).max() <= 1e-6 * np.ptp(values):
            return moved
        now = moved


def _vessels(
    hu: Shaped[np.ndarray, "d h w"], begins_hu: float, spacing_mm: Sequence[float]
) -> Bool[np.ndarray, "d h w"]:
    """Large vessels and the heart where contrast makes them as dense as bone: even inside, and without a cortex."""
    steps = [max(1, min(int(COARSE_MM / s), n // 2)) for s, n in zip(spacing_mm, hu.shape, strict=True)]
    image = sitk.GetImageFromArray(hu.astype(np.float32))
    small = sitk.GetArrayFromImage(sitk.BinShrink(image, steps[::-1]))
    sides = [s * n for s, n in zip(spacing_mm, steps, strict=True)]
    depth = ndimage.distance_transform_edt(np.pad(small > begins_hu, 1), sampling=sides)[1:-1, 1:-1, 1:-1]
    core = depth > CORE_MM
    shell = (depth > min(sides) / 2) & (depth <= CORE_MM)  # the outermost voxels are half flesh
    mean, spread = _about(small, core, sides)
    around, _ = _about(ndimage.maximum_filter(small, 3), shell, sides)  # its cortex, however thin
    seeds = core & (spread < EVEN * mean) & (around > 0) & (around < SHELL * mean)
    labels, count = ndimage.label(seeds)
    seeds &= (np.bincount(labels.ravel(), minlength=count + 1) * np.prod(sides) > SMALLEST_MM3)[labels]
    found = ndimage.distance_transform_edt(~seeds, sampling=sides) <= CORE_MM + max(sides) if seeds.any() else seeds
    for axis, step in enumerate(steps):
        found = found.repeat(step, axis)
    return np.pad(found, [(0, n - m) for n, m in zip(hu.shape, found.shape, strict=True)], mode="edge")


def _about(
    hu: Float[np.ndarray, "d h w"], where: Bool[np.ndarray, "d h w"], spacing_mm: Sequence[float]
) -> tuple[Float[np.ndarray, "d h w"], Float[np.ndarray, "d h w"]]:
    """Mean and SD of `hu` over near voxels (Gaussian of SD NEAR_MM) that lie in `where`; 0 where none does."""
    sigma = NEAR_MM / np.asarray(spacing_mm)
    share, total, squares = (
        ndimage.gaussian_filter(x.astype(np.float32), sigma, mode="constant", truncate=3)
        for x in (where, hu * where, hu**2 * where)
    )
    known = share > 1e-4
    mean = np.where(known, total / np.maximum(share, 1e-4), 0)
    return mean, np.sqrt(np.maximum(np.where(known, squares / np.maximum(share, 1e-4), 0) - mean**2, 0))


def _are_bones(
    hu: Shaped[np.ndarray, "d h w"], labels: Integer[np.ndarray, "d h w"], begins_hu: float, voxel_mm3: float
) -> Bool[np.ndarray, " n"]:
    """For each label whether that part has a cortex and is large enough; label 0 is none."""
    sizes = np.bincount(labels.ravel())
    cortex = np.bincount(labels[hu > min(CORTEX * begins_hu, CORTEX_HU)], minlength=len(sizes))
    bones = (sizes * voxel_mm3 > SMALLEST_MM3) & (cortex > 0.02 * sizes)
    bones[0] = False
    return bones


def _filled(bones: Bool[np.ndarray, "d h w"], spacing_mm: Sequence[float]) -> Bool[np.ndarray, "d h w"]:
    """Bones with their marrow: closed by a ball of CLOSED_MM, and holes of up to MARROW_MM2 filled in each plane."""
    radius = [max(1, round(CLOSED_MM / s)) for s in reversed(spacing_mm)]  # SimpleITK counts x, y, z
    image = sitk.GetImageFromArray(bones.astype(np.uint8))
    whole = sitk.GetArrayFromImage(sitk.BinaryMorphologicalClosing(image, radius, sitk.sitkBall)) > 0
    for plane in whole:
        holes, count = ndimage.label(~plane)
        if count:
            small = np.bincount(holes.ravel()) * spacing_mm[1] * spacing_mm[2] <= MARROW_MM2
            border = np.unique(np.concatenate([holes[[0, -1]].ravel(), holes[:, [0, -1]].ravel()]))
            small[border] = False
            plane |= small[holes]
    return whole


def bone_xray(pixels: Float[np.ndarray, "rows cols"], pixel_mm: tuple[float, float]) -> Float[np.ndarray, "rows cols"]:
    """What stands out of the flesh in an X-ray picture (dense is high), on its own scale; 0 where no bone is.

    Flesh is the picture opened by a square wider than any bone; K-means tells bone from what is left of it.
    """
    wide = tuple(max(3, round(WIDE_MM / mm)) for mm in pixel_mm)
    rest = pixels - ndimage.gaussian_filter(ndimage.grey_opening(pixels, wide, mode="nearest"), np.divide(wide, 4))
    rest = rest.clip(0)
    if not rest.any():
        return rest.astype(pixels.dtype)
    flat = np.sort(rest.ravel().astype(float))
    centres = k_means(flat, np.ones(len(flat)), np.quantile(flat, PICTURE_QUANTILES).tolist())
    return np.where(rest > (centres[0] + centres[1]) / 2, rest, 0).astype(pixels.dtype)
