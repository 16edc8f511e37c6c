"""What a chest's label map says in millilitres and per cent, and how far two label maps agree."""

from typing import Any

import numpy as np
from jaxtyping import Bool

from raylift.segment.chest import Chest

SIDES = ("right", "left")
AIR = ("pneumothorax_right", "pneumothorax_left")
STRUCTURES = {"right lung": ("lung_right",), "left lung": ("lung_left",), "air outside the lungs": AIR}


def quantities(chest: Chest, inside: Bool[np.ndarray, "D H W"] | None = None) -> dict[str, dict[str, float | None]]:
    """For right, left and total: `lung_ml`, `pneumothorax_ml` and `occupancy_percent`, the air's share of lung and air.

    None where there is neither lung nor air; only voxels `inside` count.
    """
    voxel_ml = float(np.prod(chest.grid.spacing_mm)) / 1000
    rows = {side: (f"lung_{side}",) for side in SIDES} | {"total": ("lung_right", "lung_left")}
    found = {}
    for name, lungs in rows.items():
        air = AIR if name == "total" else (f"pneumothorax_{name}",)
        lung_ml, air_ml = (_count(chest, names, inside) * voxel_ml for names in (lungs, air))
        whole = lung_ml + air_ml
        found[name] = {
            "lung_ml": lung_ml if whole else None,
            "pneumothorax_ml": air_ml if whole else None,
            "occupancy_percent": 100 * air_ml / whole if whole else None,
        }
    return found


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


def _count(chest: Chest, names, inside) -> int:
    return int(_inside(chest.mask(*names), inside).sum())


def _inside(mask: np.ndarray, inside) -> np.ndarray:
    return mask if inside is None else mask & inside
