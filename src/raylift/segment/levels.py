"""Which HU is air, lung and tissue in this volume: a CT's own values, or values found in the volume's histogram."""

from dataclasses import dataclass, replace

import numpy as np
from skimage.filters import threshold_otsu

KINDS = ("absolute", "relative")
DISPLAYED_HU = (-1024.0, 200.0)  # ours: bone and metal do not move a threshold
AROUND_HU = (-1024.0, -950.0)  # ours: where the air around a body may be measured
TISSUE_CUT_HU = (-600.0, -350.0)  # ours: Otsu's cut beyond these divides blurred tissue, not lung from it
NEAR_AIR_HU = 50.0  # ours: no lung's mean is nearer to air
NEAR_AIR_SHARE = 0.35  # ours: of the way from air to lung


@dataclass(frozen=True, kw_only=True)
class Levels:
    """HU levels of air, lung and soft tissue, and where lung ends and tissue begins."""

    kind: str
    air: float = -1000.0
    lung: float = -850.0  # ours
    tissue: float = 20.0  # ours
    tissue_cut: float = -400.0  # X-Recon, our reading of PTX-Seg

    @property
    def air_cut(self) -> float:
        """Halfway between air and lung."""
        return (self.air + self.lung) / 2


def first_levels(hu: np.ndarray, body: np.ndarray, kind: str) -> Levels:
    """The levels before the lungs are known. Relative: the air's is measured around the body, and Otsu's cut divides
    the body's air from its tissue.
    """
    levels = Levels(kind=kind)
    if kind == "absolute" or not body.any():
        return levels
    inner = hu[body].clip(*DISPLAYED_HU)
    cut = float(np.clip(threshold_otsu(inner), *TISSUE_CUT_HU))
    around = hu[~body]
    air = float(np.median(around).clip(*AROUND_HU)) if around.size else levels.air
    return replace(levels, air=air, tissue_cut=cut, tissue=float(np.median(inner[inner > cut])))


def with_lung(levels: Levels, inner: np.ndarray) -> Levels:
    """The levels with the lung's own, of the HU `inner` well inside the cavities: the median of what is not air.

    What air is: absolute, within 50 HU of it; relative, what Otsu's cut divides off, if that is near the air's level.
    """
    low = levels.air + NEAR_AIR_HU
    if levels.kind == "relative" and inner.size:
        inner = inner[inner < np.percentile(inner, 75) + NEAR_AIR_HU]  # no vessels
        cut = float(threshold_otsu(inner))
        classes = [float(np.median(part)) for part in (inner[inner <= cut], inner[inner > cut])]
        if classes[0] - levels.air < NEAR_AIR_SHARE * (classes[1] - levels.air):
            low = cut
    kept = inner[inner > low]
    return replace(levels, lung=float(np.median(kept))) if kept.size else levels
