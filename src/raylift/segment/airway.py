"""The windpipe and the main bronchi: found as a column of air in the middle, grown while it does not burst."""

import numpy as np
from scipy import ndimage

from raylift.segment.levels import Levels
from raylift.segment.morphology import box_of, grown

AREA_MM2 = (40.0, 900.0)  # ours: of the windpipe across
ROUND = 0.45  # ours: its area over its box's, and short over long side
MIDDLE_MM = 45.0  # ours: from the body's middle
COLUMN_MM = 12.0  # ours: a shorter column is none
UPPER_SHARE = 0.6  # ours: of the lungs' height; gas below is not the windpipe's
STEP_HU = 25.0  # ours
BURST = 1.25  # ours: growing more than this in one step is a leak into the lung
MOST_ML = 120.0  # ours
WALL_MM = 2.0  # ours: the rim of partial volume


def airway_mask(hu: np.ndarray, air: np.ndarray, body: np.ndarray, levels: Levels, spacing: float) -> np.ndarray:
    """The windpipe with the main bronchi, bool; empty where no column of air is found above the lungs' lower part."""
    out = np.zeros(air.shape, bool)
    if not air.any():
        return out
    planes = np.flatnonzero(air.any((1, 2)))
    last = int(planes[0] + UPPER_SHARE * (planes[-1] - planes[0])) + 1
    column = _column(body[:last] & (hu[:last] < levels.tissue_cut), body, spacing)
    if not column.any():
        return out
    out[:last] = column
    box = box_of(air | out, 3)
    inner = (hu[box] < levels.tissue_cut) & body[box]
    out[box] = grown(_bronchi(hu[box], inner, out[box], levels, spacing**3 / 1000), WALL_MM, spacing) & inner
    return out


def _bronchi(hu: np.ndarray, inner: np.ndarray, column: np.ndarray, levels: Levels, voxel_ml: float) -> np.ndarray:
    """The column and what hangs on it, at the highest cut before it bursts into a lung."""
    found, size = column, None
    for cut in np.arange(levels.air_cut, levels.lung + 200, STEP_HU):
        labels, _ = ndimage.label((hu < cut) & inner)
        reached = np.isin(labels, np.unique(labels[column])) & (labels > 0)
        now = reached.sum()
        if now * voxel_ml > MOST_ML or (size is not None and now > BURST * size + 2 / voxel_ml):
            break
        found, size = column | reached, now
    return found


def _column(air: np.ndarray, body: np.ndarray, spacing: float) -> np.ndarray:
    """Round spots of air near the middle that lie above each other over a length."""
    middle = float(np.median(np.nonzero(body.any((0, 1)))[0]))
    best, chain = [], []
    for d in range(air.shape[0]):
        spot = _spot(air[d], middle, chain[-1][1] if chain else None, spacing)
        chain = [*chain, (d, spot)] if spot is not None else []
        best = max(best, chain, key=len)
    column = np.zeros(air.shape, bool)
    if len(best) * spacing >= COLUMN_MM:
        for d, spot in best:
            column[d] = spot
    return column


def _spot(plane: np.ndarray, middle: float, last: np.ndarray | None, spacing: float) -> np.ndarray | None:
    """The roundest spot of air near the middle, or the one that goes on from `last`."""
    labels, count = ndimage.label(plane)
    if not count:
        return None
    best, best_score = None, 0.0
    for k, box in enumerate(ndimage.find_objects(labels), 1):
        part = labels[box] == k
        area = part.sum() * spacing**2
        height, width = part.shape
        off = abs((box[1].start + box[1].stop - 1) / 2 - middle) * spacing
        score = min(height, width) / max(height, width) * part.mean()
        if not AREA_MM2[0] < area < AREA_MM2[1] or off > MIDDLE_MM or score < ROUND:
            continue
        if last is not None and not (last & (labels == k)).any():
            continue
        if score > best_score:
            best, best_score = labels == k, score
    return best
