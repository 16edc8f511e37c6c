"""Masks of a cube, stored beside it: body, airway, lungs, air around them (X-Recon's assessment), and bone."""

import numpy as np

from raylift.segment import bone, chest
from raylift.types import Volume

NAMES = chest.LABELS | {"bone": max(chest.LABELS.values()) + 1}


def of_cube(ct: Volume) -> tuple[np.ndarray, dict[str, int]]:
    """A label map (uint8, 0 outside the body) of the cube, and what its numbers are called."""
    labels = chest.segment_chest(ct).labels.copy()
    inside = labels == NAMES["body"]
    labels[inside & bone.skeleton(ct.hu, ct.grid.spacing_mm)] = NAMES["bone"]
    return labels, dict(NAMES)
