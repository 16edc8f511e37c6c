"""The skeleton alone, by K-means (3DSRNet): of a CT by its HU, of an X-ray picture by what stands out of the flesh.

HU --K-means--> where bone begins --less what is full of contrast--> parts with a cortex
   --grown to half of the brightness near by, marrow filled plane by plane--> bones
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage

from raylift.segment.contrast import clipped, contrasted, labelled, peaks

DENSEST_HU = 1500.0  # ours: above it is enamel and metal, which would draw the brightest cluster to itself
CT_CLUSTERS = (-900.0, -100.0, 50.0, 500.0)  # ours: gas, fat, flesh, bone; 3DSRNet's three lose bone in fat CTs
LOW, MARROW = 0.3, 0.15  # ours: of the way from flesh to bone; thin bone reaches the first, red marrow the second
CORTEX, CORTEX_SHARE = 1.5, 0.02  # ours: so much of a bone reaches so many times where bone begins
SMALLEST_MM3 = 300.0  # ours: a part of the skeleton, and not a calcified node
GROWN_MM = 3.0  # ours: how far bone reaches beyond where it begins
HALF = 0.4  # ours: of the way from flesh to the brightest neighbour lies a bone's edge
BESIDE_MM = 4.0  # ours: what lies so near to a vessel touches it
BESIDE = 0.2  # ours: of a part's surface: what touches vessels so much is one; vertebrae come to 0.06
BRANCH_MM3, BRANCH = 3000.0, 0.05  # ours: the same for a small part, a branch
HOLE_MM2 = 2000.0  # ours: a hole in a plane up to a vertebra's section; a skull's inside is larger
CANAL_MM2 = 600.0  # ours: the spinal canal is smaller
RED, FAT_HU = 0.12, -10.0  # ours: marrow is red in such a share, or fat; the spinal canal is neither

# of a picture, mm at the panel: fitted to X-rays of eight real CTs and of their skeletons, each left out once  # ours
ALONG_MM = 30.0
ACROSS_MM = {200.0: 0.2, 110.0: 0.2}  # width -> weight; the rest is the one along the body


def skeleton(hu: Shaped[np.ndarray, "d h w"], spacing_mm: Sequence[float]) -> Bool[np.ndarray, "d h w"]:
    """Where bone is, marrow with it; `spacing_mm` along d, h, w, planes across the body. What is full of contrast and
    the spinal canal are left out.
    """
    flesh, bone = _clusters(hu)
    mask = hu > (flesh + bone) / 2
    if not mask.any():
        return mask
    box = tuple(
        slice(max(0, s.start - 4), s.stop + 4) for s in ndimage.find_objects(mask.astype(np.uint8))[0]
    )  # room for rims
    part = _bones(hu[box], flesh, bone, spacing_mm)
    mask[:] = False
    mask[box] = part
    return mask


def bone_begins_hu(hu: Shaped[np.ndarray, "d h w"]) -> float:
    """The HU halfway between the clusters of flesh and of bone."""
    return sum(_clusters(hu)) / 2


def _clusters(hu: Shaped[np.ndarray, "d h w"]) -> tuple[float, float]:
    """The middles of flesh and of bone, HU."""
    levels = np.rint(hu).astype(np.int32).ravel() + 1024
    counts = np.bincount(levels.clip(0, 1024 + int(DENSEST_HU), out=levels))
    centres = k_means(np.arange(len(counts)) - 1024.0, counts.astype(float), CT_CLUSTERS)
    return float(centres[-2]), float(centres[-1])


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


def _bones(
    hu: Shaped[np.ndarray, "d h w"], flesh: float, bone: float, spacing_mm: Sequence[float]
) -> Bool[np.ndarray, "d h w"]:
    """The skeleton in a box about all that is dense."""
    begins, low, marrow = ((1 - share) * flesh + share * bone for share in (0.5, LOW, MARROW))
    vessels = contrasted(hu, begins, low, spacing_mm)
    parts = labelled((hu > begins) & ~vessels)
    sure = _are_bones(hu, parts, vessels, begins, spacing_mm)[parts]
    bounded = clipped(hu)
    soft = ndimage.gaussian_filter(bounded, 0.7, truncate=2)
    dense = (soft > low) & (bounded > flesh + HALF * (ndimage.maximum_filter(bounded, 3) - flesh)) & ~vessels
    grown = sure | ndimage.binary_dilation(sure, iterations=max(1, round(GROWN_MM / min(spacing_mm))), mask=dense)
    return _filled(grown, soft, marrow, spacing_mm) & ~vessels


def _are_bones(hu, parts, vessels, begins_hu: float, spacing_mm: Sequence[float]) -> Bool[np.ndarray, " n"]:
    """For each part whether it is large, has a cortex, and does not lie on vessels; part 0 is none."""
    mm3 = np.bincount(parts.ravel()) * np.prod(spacing_mm)
    surface = (parts > 0) & ~ndimage.binary_erosion(parts > 0)
    beside = ndimage.binary_dilation(vessels, iterations=max(1, round(BESIDE_MM / min(spacing_mm)))) & surface
    touching = np.bincount(parts[beside], minlength=len(mm3)) / np.maximum(
        np.bincount(parts[surface], minlength=len(mm3)), 1
    )
    on_vessels = (touching > BESIDE) | ((mm3 < BRANCH_MM3) & (touching > BRANCH))
    bones = (mm3 > SMALLEST_MM3) & (peaks(parts, hu, CORTEX * begins_hu) > CORTEX_SHARE) & ~on_vessels
    bones[0] = False
    return bones


def _filled(
    bones: Bool[np.ndarray, "d h w"], soft: Float[np.ndarray, "d h w"], marrow_hu: float, spacing_mm: Sequence[float]
) -> Bool[np.ndarray, "d h w"]:
    """Bones with their marrow: what a plane's ring of bone holds, gaps of 6 pixels in it closed. Not closed along the
    body, where discs are, and the spinal canal stays open.
    """
    cross = ndimage.generate_binary_structure(2, 1)[None]
    room = np.pad(bones, ((0, 0), (4, 4), (4, 4)))
    wide = ndimage.binary_dilation(ndimage.maximum_filter(room, (1, 3, 3)), cross)
    rings = ndimage.binary_erosion(ndimage.minimum_filter(wide, (1, 3, 3)), cross, border_value=1)[:, 4:-4, 4:-4]
    whole = bones | (rings & (soft > marrow_hu))
    for plane, ring, hu in zip(whole, rings, soft, strict=True):
        plane |= _marrow(ring, hu, marrow_hu, spacing_mm[1] * spacing_mm[2])
    return whole


def _marrow(ring: Bool[np.ndarray, "h w"], hu: Float[np.ndarray, "h w"], marrow_hu: float, mm2: float):
    """The holes of a plane's rings that hold marrow."""
    holes, count = ndimage.label(~ring)
    if count < 2:
        return np.zeros_like(ring)
    sizes = np.bincount(holes.ravel())
    inner = holes[ndimage.binary_erosion(~ring)]  # at the rim there is cortex in each pixel
    seen = hu[ndimage.binary_erosion(~ring)]
    counts = np.bincount(inner, minlength=count + 1)
    mean = np.bincount(inner, seen, minlength=count + 1) / np.maximum(counts, 1)
    red = np.bincount(inner, seen > marrow_hu, minlength=count + 1) / np.maximum(counts, 1)
    likely = (red > RED) | (mean < FAT_HU) | ((sizes * mm2 > CANAL_MM2) & (red > RED / 2)) | (counts == 0)
    likely &= sizes * mm2 <= HOLE_MM2
    likely[np.unique(np.concatenate([holes[[0, -1]].ravel(), holes[:, [0, -1]].ravel()]))] = False
    likely[0] = False
    return likely[holes]


def bone_xray(pixels: Float[np.ndarray, "rows cols"], pixel_mm: tuple[float, float]) -> Float[np.ndarray, "rows cols"]:
    """What stands out of the flesh in an X-ray picture (dense is high), on its own scale; 0 where nothing does.

    Flesh is the picture opened by lines: those across it are wider than the spine, those along it than a rib. A guess:
    what else is narrow (a vessel, the heart's edge) stands out as well.
    """
    found = (1 - sum(ACROSS_MM.values())) * _standing_out(pixels, (ALONG_MM / pixel_mm[0], 1))
    for wide_mm, weight in ACROSS_MM.items():
        found += weight * _standing_out(pixels, (1, wide_mm / pixel_mm[1]))
    return found.astype(pixels.dtype)


def _standing_out(pixels: Float[np.ndarray, "rows cols"], line: tuple[float, float]) -> Float[np.ndarray, "rows cols"]:
    """The picture less itself opened by a line of so many pixels."""
    size = tuple(1 if n <= 1 else max(3, 2 * round(n / 2) + 1) for n in line)
    return (pixels - ndimage.grey_opening(pixels, size, mode="nearest")).clip(0)
