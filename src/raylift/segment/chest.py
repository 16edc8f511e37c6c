"""The chest in a CT, true or reconstructed, by rules alone: body, airway, lungs, and air between lung and chest wall.

What is known of X-Recon's PTX-Seg (arXiv 2407.15356) is that it needs no training on the study's data and finds the
lungs with a pretrained net; the rules here are ours, and a net can take the place of one of them (`lungs`).
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from raylift.errors import BadInput, GeometryError, unknown_name
from raylift.geometry import is_upright
from raylift.segment.airway import airway_mask
from raylift.segment.body import body_mask
from raylift.segment.densitometry import air_share
from raylift.segment.levels import DISPLAYED_HU, KINDS, Levels, first_levels, with_lung
from raylift.segment.lungs import LEFT, RIGHT, LungModel, cavities, chest_air, sides
from raylift.segment.morphology import box_of, shrunk
from raylift.segment.pneumothorax import pneumothorax_mask
from raylift.types import Grid, Volume

LABELS = {
    "body": 1,
    "airway": 2,
    "lung_right": 3,
    "lung_left": 4,
    "pneumothorax_right": 5,
    "pneumothorax_left": 6,
}
CAVITIES = {"right": (3, 5), "left": (4, 6)}  # a pleural cavity: the lung and the air around it
SMOOTH_MM = 1.5  # ours: the standard deviation of the Gaussian that calms noise before a threshold
SKIN_MM = {"absolute": 0.0, "relative": 10.0}  # ours: a reconstruction's skin is as light as lung
INNER_MM = 5.0  # ours: so far from the wall a lung shows its own level


@dataclass(frozen=True, kw_only=True, eq=False)
class Chest:
    """A label map (uint8, see `LABELS`; 0 is outside the body) on an upright `grid`, and the levels behind it.

    `air` is each voxel's share of extrapulmonary air (`densitometry.air_share`); None where only the labels are known.
    """

    labels: np.ndarray
    grid: Grid
    levels: Levels
    air: np.ndarray | None = None

    def mask(self, *names: str) -> np.ndarray:
        """Where any of the named structures is, bool."""
        return np.isin(self.labels, [LABELS[name] for name in names])


def segment_chest(volume: Volume, *, thresholds: str = "absolute", lungs: LungModel | None = None) -> Chest:
    """The chest's label map; `thresholds` 'relative' finds them in the volume (for reconstructions), 'absolute' not.

    `volume` is upright with cubic voxels. `lungs` is asked for right (1) and left (2) lung, air pockets included, in
    place of our rules.
    """
    spacing = _cubic(volume)
    if thresholds not in KINDS:
        raise unknown_name("kind of thresholds", thresholds, KINDS)
    hu = volume.hu.astype(np.float32)
    smooth = ndimage.gaussian_filter(hu.clip(*DISPLAYED_HU), SMOOTH_MM / spacing, truncate=3)
    body = body_mask(hu, smooth, spacing, thresholds)
    labels = body.astype(np.uint8)
    levels = first_levels(hu, body, thresholds)
    if not body.any():
        return Chest(labels=labels, grid=volume.grid, levels=levels)
    given = None if lungs is None else _asked(lungs, volume)
    box = box_of(body, 2)
    part = None if given is None else given[box]
    share = np.zeros(hu.shape, np.float32)
    labels[box], share[box], levels = _labelled(hu[box], smooth[box], body[box], levels, spacing, part)
    return Chest(labels=labels, grid=volume.grid, levels=levels, air=share)


def _labelled(hu, smooth, body, levels: Levels, spacing: float, given) -> tuple[np.ndarray, np.ndarray, Levels]:
    """The labels of the body's box, each voxel's share of extrapulmonary air, and the levels with the lung's own."""
    if given is None:
        under_skin = shrunk(body, SKIN_MM[levels.kind], spacing)
        air = chest_air(hu, smooth, under_skin, levels.tissue_cut, spacing)
        airway = airway_mask(hu, air, body, levels, spacing)
        side = sides(air & ~airway, body, spacing)
    else:
        side, airway = given, np.zeros(hu.shape, bool)
    cavity = cavities(side, airway, spacing)
    levels = with_lung(levels, smooth[shrunk(cavity > 0, INNER_MM, spacing)])
    loose = pneumothorax_mask(hu, cavity, levels, spacing)
    share = air_share(hu, cavity, loose, levels, spacing)
    loose |= share > 0.5
    labels = body.astype(np.uint8)
    labels[airway] = LABELS["airway"]
    for which, name in ((RIGHT, "right"), (LEFT, "left")):
        labels[cavity == which] = LABELS[f"lung_{name}"]
        labels[(cavity == which) & loose] = LABELS[f"pneumothorax_{name}"]
    return labels, share, levels


def _cubic(volume: Volume) -> float:
    """The spacing of an upright volume with cubic voxels, mm."""
    spacing = volume.grid.spacing_mm
    if not is_upright(volume.grid) or max(spacing) > 1.01 * min(spacing):
        raise GeometryError(
            f"{volume.source or 'volume'}: needs an upright grid of cubic voxels, not {spacing}; resample it first"
        )
    return float(spacing[0])


def _asked(lungs: LungModel, volume: Volume) -> np.ndarray:
    """What the learned model says, checked."""
    found = np.asarray(lungs(volume))
    if found.shape != volume.hu.shape or not np.isin(np.unique(found), (0, RIGHT, LEFT)).all():
        raise BadInput(
            f"the lung model gave {found.dtype} {found.shape}; it must give 0, 1 (right) and 2 (left) "
            f"on {volume.hu.shape}"
        )
    return found.astype(np.uint8)
