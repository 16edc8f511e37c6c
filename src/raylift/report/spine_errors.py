"""How wrong a spine's measures are on phantoms of stated angles, as text: of what bench/spine.py left (`known`)."""

from collections.abc import Mapping
from typing import Any

KINDS = {
    "anterior_mm": "anterior height, mm",
    "middle_mm": "middle height, mm",
    "posterior_mm": "posterior height, mm",
    "wedge_deg": "wedge, degrees",
    "cobb_deg": "Cobb angle, degrees",
    "kyphosis_deg": "kyphosis, degrees",
    "lordosis_deg": "lordosis, degrees",
}


def error_cells(known: Mapping[str, Any]) -> dict[str, list[str]]:
    """For each kind of measure, way by way, 'mean, largest' of the absolute error; a dash where there is none."""
    return {
        kind: [_cell(way["errors"].get(kind), known["phantoms"]) for way in known["ways"].values()] for kind in KINDS
    }


def table(known: Mapping[str, Any]) -> list[list[str]]:
    """The whole table as text: the ways, their errors, Dice with the true labels, how many vertebrae were measured."""
    ways = known["ways"].values()
    rows = [["", *known["ways"]]]
    rows += [[title, *cells] for title, cells in zip(KINDS.values(), error_cells(known).values(), strict=True)]
    rows.append(
        ["Dice with the true labels", *("1" if "dice" not in w else f"{w['dice']:.2f} on average" for w in ways)]
    )
    rows.append(["vertebrae measured", *(f"{w['measured']} of {w['asked']}" for w in ways)])
    return rows


def _cell(error: Mapping[str, Any] | None, phantoms: int) -> str:
    if error is None:
        return "–"
    few = f" ({error['n']} of {phantoms})" if error["n"] < phantoms else ""
    return f"{_short(error['mean_abs'])}, {_short(error['max_abs'])}{few}"


def _short(value: float) -> str:
    """Two digits that count, none after the point from 10 up."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"
