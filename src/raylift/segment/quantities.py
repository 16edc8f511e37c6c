"""What a chest's label map says in millilitres and per cent, and how far two label maps agree."""

from typing import Any

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from raylift.segment.chest import Chest

SIDES = ("right", "left")
AIR = ("pneumothorax_right", "pneumothorax_left")
POSSIBLE_ML = (1000.0, 9000.0)  # ours: both cavities of an adult, from breathed out and small to breathed in and tall
LEAST_SIDE = 0.2  # ours: of the larger cavity's volume; a lung does not end there, a scan or an error does
STRUCTURES = {"right lung": ("lung_right",), "left lung": ("lung_left",), "air outside the lungs": AIR}


def quantities(chest: Chest, inside: Bool[np.ndarray, "D H W"] | None = None) -> dict[str, dict[str, float | None]]:
    """For right, left and total: `lung_ml`, `pneumothorax_ml` and `occupancy_percent`, the air's share of lung and air.

    Air counts by each voxel's share of it where the chest knows that, in voxels that are mostly wall too, else by its
    label. None where there is neither lung nor air; only voxels `inside` count.
    """
    voxel_ml = float(np.prod(chest.grid.spacing_mm)) / 1000
    found = {}
    for name, sides in {**{side: (side,) for side in SIDES}, "total": SIDES}.items():
        cavity = _inside(chest.mask(*(f"{what}_{side}" for what in ("lung", "pneumothorax") for side in sides)), inside)
        air = chest.mask(*AIR) if chest.air is None else chest.air
        around = cavity if chest.air is None else _inside(ndimage.binary_dilation(cavity), inside)
        whole, air_ml = float(cavity.sum() * voxel_ml), max(float(air[around].sum(dtype=np.float64)), 0.0) * voxel_ml
        lung_ml = whole - air_ml
        found[name] = {
            "lung_ml": lung_ml if whole else None,
            "pneumothorax_ml": air_ml if whole else None,
            "occupancy_percent": 100 * air_ml / whole if whole else None,
        }
    return found


def doubts(found: dict[str, dict[str, float | None]]) -> list[str]:
    """Why these `quantities` cannot be those of a whole adult's chest, in sentences; empty where they can."""
    whole = {
        side: None if row["lung_ml"] is None else row["lung_ml"] + row["pneumothorax_ml"] for side, row in found.items()
    }
    why = "The scan or the cube cuts the chest, the reconstruction is bad, or lungs were not found."
    told = [f"No {side} lung was found. {why}" for side in SIDES if whole[side] is None]
    total, low, high = whole["total"] or 0.0, *POSSIBLE_ML
    if whole["total"] is not None and not low <= total <= high:
        told.append(f"Both pleural cavities hold {total:.0f} ml; {low:.0f} to {high:.0f} ml are possible. {why}")
    if not told:
        small, large = sorted(SIDES, key=whole.__getitem__)
        if whole[small] < LEAST_SIDE * whole[large]:
            told.append(
                f"The {small} pleural cavity has {100 * whole[small] / whole[large]:.0f} % of the other's. {why}"
            )
    return told


def dices(found: Chest, true: Chest, inside: Bool[np.ndarray, "D H W"] | None = None) -> dict[str, float | None]:
    """Dice's coefficient [0, 1] of each lung and of the air outside them; None where neither map has any."""
    out = {}
    for title, names in STRUCTURES.items():
        a, b = (_inside(chest.mask(*names), inside) for chest in (found, true))
        both = int(a.sum() + b.sum())
        out[title] = 2 * int((a & b).sum()) / both if both else None
    return out


def against(found: dict[str, Any], true: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """The differences of two `quantities`, found less true; None where either says nothing."""
    return {
        side: {
            name: None if value is None or true[side][name] is None else value - true[side][name]
            for name, value in row.items()
        }
        for side, row in found.items()
    }


def _inside(mask: np.ndarray, inside) -> np.ndarray:
    return mask if inside is None else mask & inside
