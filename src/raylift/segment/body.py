"""Where the body is, whatever stands around it: air that reaches the sides of the volume is outside."""

import numpy as np
from scipy import ndimage

from raylift.segment.morphology import closed, largest, opened, planes_filled

SKIN_HU = {  # ours: above mattresses; a reconstruction has none, and chest walls lighter than they should be
    "absolute": -300.0,
    "relative": -600.0,
}
AROUND_HU = -940.0  # ours: air around the body, and no lung that the volume's sides cut
THIN_MM = 4.0  # ours: sheets, tubes and a table's shell are thinner than twice this

GAPS_MM = 8.0  # ours: a reconstruction's chest wall has holes; narrower ones than twice this are closed


def body_mask(hu: np.ndarray, smooth: np.ndarray, spacing: float, kind: str = "absolute") -> np.ndarray:
    """The body with its lungs and gas, bool; lungs that the volume's sides cut are in it."""
    around = _reached_from_sides(smooth < AROUND_HU)
    walls = np.zeros(hu.shape, bool)
    walls[:, [0, -1]] = walls[:, :, [0, -1]] = True
    tissue = largest(opened(hu > SKIN_HU[kind], THIN_MM, spacing))
    if not tissue.any():
        return tissue
    reach = np.flatnonzero(tissue.any((1, 2)))
    filled = planes_filled(closed(tissue, GAPS_MM, spacing) | (walls & ~around))
    filled &= ~around & ~(walls & ~tissue)
    filled[: reach[0]] = filled[reach[-1] + 1 :] = False
    return largest(filled)


def _reached_from_sides(air: np.ndarray) -> np.ndarray:
    """The parts of `air` that touch the four sides (not top or bottom)."""
    labels, _ = ndimage.label(air)
    touching = np.unique(np.concatenate([labels[:, [0, -1]].ravel(), labels[:, :, [0, -1]].ravel()]))
    return np.isin(labels, touching[touching > 0])
