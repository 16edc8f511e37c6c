"""Where each vertebra is in two X-rays, and so in the world: places by hand, or shadows of a label map's centroids.

The file is JSON: {"vertebrae": {"L1": {"PA": {"centre": [row, column]}, "LAT": {"box": [top, left, bottom, right]}}}},
in pixels of the pictures as they hang; a box stands for its middle.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raylift.errors import BadInput, unknown_name
from raylift.geometry import shadow
from raylift.io.files import existing, shown, whole_file
from raylift.segment.vertebrae import DOWN
from raylift.types import Beam, ConeBeam, Vector

FARTHEST_MM = 15.0  # ours: rays that miss one another by more than that do not show one vertebra

Pixel = tuple[float, float]  # row, column


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a vertebra is: the point (LPS mm) nearest to its two rays, and by how much these miss one another."""

    level: str
    centre_mm: Vector
    gap_mm: float


def project_places(centres_mm: Mapping[str, Any], beams: Mapping[str, Beam]) -> dict[str, dict[str, Pixel]]:
    """Where points of the world appear, level by level and view by view, in (fractional) pixels."""
    return {
        level: {view: tuple(float(x) for x in shadow(beam, centre)) for view, beam in beams.items()}
        for level, centre in centres_mm.items()
    }


def find_places(pixels: Mapping[str, Mapping[str, Pixel]], beams: Mapping[str, Beam]) -> dict[str, Place]:
    """The places of vertebrae seen at these pixels of two views; refused where two rays pass far from each other."""
    if len(beams) != 2:
        raise BadInput(f"a place in space needs two X-rays, not {len(beams)}")
    found = {}
    for level in sorted(pixels, key=DOWN.__getitem__):
        missing = [view for view in beams if view not in pixels[level]]
        if missing:
            raise BadInput(f"{level}: no place in the view {missing[0]}; state it in the places' file")
        rays = [_ray(beam, pixels[level][view]) for view, beam in beams.items()]
        point, gap = _meeting(*rays)
        if gap > FARTHEST_MM:
            raise BadInput(
                f"{level}: its places in the two X-rays lie on rays that pass {gap:.0f} mm from each other; mark the "
                "same vertebra in both, or state the geometry"
            )
        found[level] = Place(level=level, centre_mm=tuple(float(x) for x in point), gap_mm=gap)
    return found


def _ray(beam: Beam, pixel: Pixel) -> tuple[np.ndarray, np.ndarray]:
    """A point of the pixel's ray and its direction."""
    row, column = (float(x) - (n - 1) / 2 for x, n in zip(pixel, beam.pixels, strict=True))
    spot = np.asarray(beam.detector_centre_mm) + row * beam.pixel_mm[0] * np.asarray(beam.row_dir)
    spot = spot + column * beam.pixel_mm[1] * np.asarray(beam.column_dir)
    if not isinstance(beam, ConeBeam):
        return spot, np.asarray(beam.ray_dir, float)
    along = spot - beam.source_mm
    return np.asarray(beam.source_mm, float), along / np.linalg.norm(along)


def _meeting(first, second) -> tuple[np.ndarray, float]:
    """The middle of the shortest bridge between two rays, and its length (mm)."""
    (p, u), (q, v) = first, second
    across = 1 - np.dot(u, v) ** 2
    if across < 0.03:  # ours: rays within 10 degrees of each other
        raise BadInput("the two X-rays were taken from nearly the same side; they give no place in space")
    away = q - p
    s = (np.dot(away, u) - np.dot(away, v) * np.dot(u, v)) / across
    t = (np.dot(away, u) * np.dot(u, v) - np.dot(away, v)) / across
    a, b = p + s * u, q + t * v
    return (a + b) / 2, float(np.linalg.norm(a - b))


def read_places(path: Path | str) -> dict[str, dict[str, Pixel]]:
    """The pixels of a places' file."""
    path = existing(path)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["vertebrae"]
        items = {level: dict(views) for level, views in told.items()}
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError, RecursionError):
        raise BadInput(f'{shown(path)}: no places; needed is {{"vertebrae": {{"L1": {{"PA": ...}}}}}}') from None
    places = {}
    for level, views in items.items():
        if level not in DOWN:
            raise unknown_name("vertebra", level, DOWN)
        places[level] = {view: _pixel(spot, f"{shown(path)}: {level}, {view}") for view, spot in views.items()}
    if not places:
        raise BadInput(f"{shown(path)}: states no vertebra")
    return places


def _pixel(spot, where: str) -> Pixel:
    kinds = {"centre": 2, "box": 4}
    name = next((k for k in kinds if isinstance(spot, dict) and k in spot), None)
    if name is None:
        raise BadInput(f"{where}: state a centre [row, column] or a box [top, left, bottom, right]")
    try:
        numbers = [float(x) for x in spot[name]]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != kinds[name] or not np.isfinite(numbers).all():
        raise BadInput(f"{where}: its {name} must be {kinds[name]} finite numbers")
    if name == "centre":
        return numbers[0], numbers[1]
    return (numbers[0] + numbers[2]) / 2, (numbers[1] + numbers[3]) / 2


def write_places(pixels: Mapping[str, Mapping[str, Pixel]], path: Path | str) -> Path:
    """Writes a places' file, and returns where."""
    told = {
        level: {view: {"centre": [round(float(x), 2) for x in spot]} for view, spot in views.items()}
        for level, views in pixels.items()
    }
    with whole_file(path) as beside:
        beside.write_text(json.dumps({"vertebrae": told}, indent=1) + "\n", encoding="utf-8")
    return Path(path)
