"""The air of the chest, and which of it is the right lung and which the left; a learned model can take its place."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from raylift.segment.morphology import box_of, closed, parts, shrunk, solid
from raylift.types import Volume

LungModel = Callable[[Volume], np.ndarray]  # an upright CT -> uint8 (D, H, W): 0, 1 the right lung, 2 the left
RIGHT, LEFT = 1, 2
LUNG_ML = 50.0  # X-Recon, our reading of PTX-Seg: smaller air is no lung
INNER_HU = (-960.0, -550.0)  # ours: a lung's HU; gas lies below, fat with partial volume above
LUNG_SHARE = 0.2  # ours: of a part, of a lung's HU where the rest may be the air around a lung that has collapsed
BRIDGE_MM = 4.0  # ours: half the width of what may join two parts
CORE_SHARE = 0.3  # ours: of a part that is left without its outer 4 mm
CORE_ML = 0.5  # ours
GAS_HU = -930.0  # ours: a small pocket of the lower half that is as light as this is bowel
OPEN_CM2 = 1.2  # ours: gas open to lung over more is the chest's; leaks to bowel had 0.6 or less, pockets 1.9 or more
BELOW_MM = 20.0  # ours: pockets end within 5 mm of the lungs' lower end, gas behind a leak 38 mm below it
COLLAPSED_ML = 100.0  # ours: free air in the upper chest with no lung in it
BACK_SHARE = 0.72  # ours: lungs reach that far from the front to the back of the body; bowel seldom does
SIDE_SHARE = 0.12  # ours: a smaller part is no second lung
WALLS_VOXELS = (0, 1, 2, 3, 4, 6, 8)  # ours: half the thickness of a bridge between two lungs
GAPS_MM = 6.0  # ours: vessels as wide as twice this belong to the lung


def chest_air(hu: np.ndarray, smooth: np.ndarray, body: np.ndarray, cut: float, spacing: float) -> np.ndarray:
    """The air in the lungs and around them, bool; empty where there is none. Bowel that touches is cut off.

    The diaphragm divides bowel from lung, and only a leak can join them; gas that is wide open to lung, and not far
    below all of it, is a pocket of the chest, narrowed by something else, mostly the heart.
    """
    air = body & (hu < cut)
    lungs, bowel = _cores(shrunk(air, BRIDGE_MM, spacing), smooth, body, spacing**3 / 1000)
    if not lungs.any():
        return lungs
    whole, _ = ndimage.label(air)
    kept = np.isin(whole, np.unique(whole[lungs])) & air
    if (bowel & kept).any():
        markers, _ = parts(bowel & kept)
        markers[markers > 0] += 1
        markers[lungs] = 1
        box = box_of(kept)
        basins = watershed(np.zeros(kept[box].shape, np.uint8), markers[box], mask=kept[box])
        kept[box] = np.isin(basins, [1, *_pockets(markers[box], basins, spacing)])
    return kept


def _pockets(cores: np.ndarray, basins: np.ndarray, spacing: float) -> list[int]:
    """The numbers of those parts that are not bowel: wide open to lung, number 1, and not below it."""
    lung = basins == 1
    beside = ndimage.binary_dilation(lung) & ~lung
    faces = np.bincount(basins[beside], minlength=cores.max() + 1) * spacing**2 / 100
    bottom = _reach(cores == 1)[1] + BELOW_MM / spacing
    return [int(k) for k in np.flatnonzero(faces > OPEN_CM2) if k > 1 and _reach(cores == k)[1] < bottom]


def _cores(cores: np.ndarray, smooth: np.ndarray, body: np.ndarray, voxel_ml: float) -> tuple[np.ndarray, np.ndarray]:
    """Which of the `cores` of air are of lungs, and which of bowel or windpipe, bool both."""
    labels, order = parts(cores, CORE_ML / voxel_ml)
    sizes = np.bincount(labels.ravel()) * voxel_ml
    large = [k for k in order if sizes[k] >= CORE_SHARE * LUNG_ML]
    lungs = [k for k in large if _like_lung(labels == k, smooth, body, voxel_ml)]
    if not lungs:
        return np.zeros(cores.shape, bool), cores
    top, bottom = _reach(np.isin(labels, lungs))
    middle = (top + bottom) / 2
    rest = [k for k in large if k not in lungs]
    lungs += [k for k in rest if sizes[k] > COLLAPSED_ML and _reach(labels == k)[0] < middle]  # air, and no lung in it
    bowel = [k for k in rest if k not in lungs]
    boxes = ndimage.find_objects(labels)
    for k in order[len(large) :]:
        part = labels[boxes[k - 1]] == k
        low = boxes[k - 1][0].start > middle
        if low and np.percentile(smooth[boxes[k - 1]][part], 10) < GAS_HU:
            bowel.append(k)
    return np.isin(labels, lungs), np.isin(labels, bowel)


def _like_lung(core: np.ndarray, smooth: np.ndarray, body: np.ndarray, voxel_ml: float) -> bool:
    """True for a part as light as a lung, or partly so and large, that reaches as far back in the body as lungs do."""
    hu = smooth[core]
    level = float(np.median(hu))
    share = float(((hu > INNER_HU[0]) & (hu < INNER_HU[1])).mean())
    light = INNER_HU[0] < level < INNER_HU[1] or (share > LUNG_SHARE and LUNG_SHARE * len(hu) * voxel_ml > LUNG_ML)
    planes, rows = np.nonzero(core.any(2))
    return light and float(_depth(body)[planes, rows].max()) > BACK_SHARE


def _reach(mask: np.ndarray) -> tuple[int, int]:
    """The first and the last plane of `mask`."""
    planes = np.flatnonzero(mask.any((1, 2)))
    return int(planes[0]), int(planes[-1])


def _depth(body: np.ndarray) -> np.ndarray:
    """How far each row of each plane lies from the body's front (0) to its back (1)."""
    rows = body.any(2)
    first = rows.argmax(1)
    last = rows.shape[1] - 1 - rows[:, ::-1].argmax(1)
    return (np.arange(rows.shape[1]) - first[:, None]) / np.maximum(last - first, 1)[:, None]


def sides(air: np.ndarray, body: np.ndarray, spacing: float) -> np.ndarray:
    """1 where `air` is on the right, 2 where on the left, else 0; uint8."""
    out = np.zeros(air.shape, np.uint8)
    if not air.any():
        return out
    box = box_of(air, 1)
    middle = float(np.median(np.nonzero(body.any((0, 1)))[0])) - box[2].start
    markers = _markers(air[box], middle, spacing)
    if markers is None:
        columns = np.where(np.arange(air.shape[2]) - box[2].start < middle, RIGHT, LEFT).astype(np.uint8)
        return np.where(air, columns, 0).astype(np.uint8)
    out[box] = watershed(np.zeros(markers.shape, np.uint8), markers, mask=air[box]).astype(np.uint8)
    return out


def _markers(air: np.ndarray, middle: float, spacing: float) -> np.ndarray | None:
    """Where the two lungs are once what joins them has been taken off; None where they do not come apart."""
    for wall in WALLS_VOXELS:
        labels, order = parts(shrunk(air, wall * spacing, spacing))
        sizes = np.bincount(labels.ravel())
        order = [k for k in order if sizes[k] > SIDE_SHARE * sizes[order[0]]]
        centres = ndimage.center_of_mass(labels > 0, labels, order)
        side = {k: RIGHT if centre[2] < middle else LEFT for k, centre in zip(order, centres, strict=True)}
        if len(set(side.values())) == 2:
            chosen = np.zeros(labels.max() + 1, np.int32)
            for k, which in side.items():
                chosen[k] = which
            return chosen[labels]
    return None


def cavities(side: np.ndarray, airway: np.ndarray, spacing: float) -> np.ndarray:
    """Each side's lung and air with the vessels in them, 1 right and 2 left; uint8."""
    out = np.zeros(side.shape, np.uint8)
    for which in (RIGHT, LEFT):
        mask = side == which
        if not mask.any():
            continue
        box = box_of(mask, round(GAPS_MM / spacing) + 1)
        full = solid(closed(mask[box], GAPS_MM, spacing))
        free = ((side[box] == which) | (side[box] == 0)) & ~airway[box] & (out[box] == 0)
        out[box][full & free] = which
    return out
