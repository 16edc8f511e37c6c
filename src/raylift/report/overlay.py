"""Label maps over the CTs that they were found in: axial and coronal slices through the chest."""

from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from raylift import DISCLAIMER
from raylift.report.figures import BACKGROUND, DISPLAY_HU, DPI, INK, png
from raylift.segment.chest import LABELS, Chest
from raylift.types import Volume

COLOURS = {  # ours
    "airway": (0.30, 0.85, 0.45),
    "lung_right": (0.90, 0.35, 0.30),
    "lung_left": (0.30, 0.55, 0.95),
    "pneumothorax_right": (1.00, 0.85, 0.10),
    "pneumothorax_left": (1.00, 0.65, 0.10),
}
ALPHA = 0.4  # ours
SLICES = 4  # of each plane
INCHES = 2.2


def overlay(rows: Mapping[str, tuple[Volume, Chest]]) -> bytes:
    """A PNG: for each named CT, on one grid, four axial and four coronal slices with the label map's colours."""
    chests = [chest for _, chest in rows.values()]
    places = [_places(chests, axis) for axis in (0, 1)]
    ct = next(iter(rows.values()))[0]
    heights = [n / ct.hu.shape[2] for n in (ct.hu.shape[1], ct.hu.shape[0])] * len(rows)
    height = INCHES * sum(heights) + 0.25 * len(heights) + 0.6
    figure = Figure(figsize=(INCHES * SLICES + 0.3, height), dpi=DPI, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(heights), SLICES, height_ratios=heights, wspace=0.02, hspace=0.2, left=0.01, right=0.99,
        top=1 - 0.55 / height, bottom=0.35 / height,
    )  # fmt: skip
    for r, (name, (volume, chest)) in enumerate(rows.items()):
        for axis, plane in enumerate(("axial", "coronal")):
            for c, k in enumerate(places[axis]):
                axes = figure.add_subplot(grid[2 * r + axis, c])
                axes.imshow(_coloured(np.take(volume.hu, k, axis), np.take(chest.labels, k, axis)), aspect="auto")
                axes.set_title(f"{name}, {plane} {k}", color=INK, fontsize=7, pad=2)
                axes.set_axis_off()
    patches = [Patch(color=colour, label=name.replace("_", ", ")) for name, colour in COLOURS.items()]
    figure.legend(
        handles=patches, loc="lower center", ncols=len(patches), fontsize=7, labelcolor=INK, facecolor=BACKGROUND
    )
    figure.text(0.5, 1 - 0.1 / height, DISCLAIMER, color="#ffb4a2", ha="center", va="top", fontsize=8)
    return png(figure)


def _places(chests: list[Chest], axis: int) -> list[int]:
    """Slices spread over where any of the maps has lung or air; over the whole grid where none has."""
    found = np.zeros(chests[0].labels.shape[axis], bool)
    for chest in chests:
        found |= (chest.labels > LABELS["airway"]).any(tuple(a for a in range(3) if a != axis))
    inside = np.flatnonzero(found) if found.any() else np.arange(len(found))
    steps = inside[0] + (np.arange(SLICES) + 0.5) / SLICES * (inside[-1] - inside[0])
    return [round(float(k)) for k in steps]


def _coloured(hu: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A slice as RGB in [0, 1]."""
    low, high = DISPLAY_HU
    picture = np.repeat(((hu - low) / (high - low)).clip(0, 1)[..., None], 3, -1)
    for name, colour in COLOURS.items():
        here = labels == LABELS[name]
        picture[here] = (1 - ALPHA) * picture[here] + ALPHA * np.array(colour)
    return picture
