"""Grids, beams and targets as plain JSON content, each beside its way back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from raylift.errors import BadInput
from raylift.physics import Target, Unit, ZScore
from raylift.types import Beam, ConeBeam, Grid, ParallelBeam, View

Record = Mapping[str, Any]


def grid_record(grid: Grid) -> dict[str, Any]:
    """A grid's shape and affine."""
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def grid_from_record(record: Record) -> Grid:
    """The grid of a record."""
    return Grid(tuple(record["shape"]), np.array(record["affine"], float))


def beam_record(beam: Beam, view: View) -> dict[str, Any]:
    """A view's beam, absolute LPS mm, in the words of `geometry.json`; its X-ray holds line integrals."""
    record = {
        "view": str(view),
        "detector_centre_mm": list(beam.detector_centre_mm),
        "column_dir": list(beam.column_dir),
        "row_dir": list(beam.row_dir),
        "rows": beam.pixels[0],
        "columns": beam.pixels[1],
        "pixel_mm": list(beam.pixel_mm),
        "values": "line_integral",
        "scale": 1.0,
    }
    if isinstance(beam, ConeBeam):
        return {"type": "cone", "source_mm": list(beam.source_mm), **record}
    return {"type": "parallel", "ray_dir": list(beam.ray_dir), **record}


def beam_from_record(record: Record) -> Beam:
    """The beam of a record."""
    panel = {name: tuple(record[name]) for name in ("detector_centre_mm", "column_dir", "row_dir", "pixel_mm")}
    panel["pixels"] = (record["rows"], record["columns"])
    if record["type"] == "cone":
        return ConeBeam(source_mm=tuple(record["source_mm"]), **panel)
    if record["type"] == "parallel":
        return ParallelBeam(ray_dir=tuple(record["ray_dir"]), **panel)
    raise BadInput(f"no beam of type {record['type']!r}: cone or parallel")


def target_record(target: Target) -> dict[str, Any]:
    """A target's kind and numbers."""
    if isinstance(target, Unit):
        return {"kind": "unit", "window": list(target.window)}
    return {"kind": "zscore", "mean": target.mean, "sd": target.sd}


def target_from_record(record: Record) -> Target:
    """The target of a record."""
    if record["kind"] == "unit":
        return Unit(tuple(record["window"]))
    if record["kind"] == "zscore":
        return ZScore(record["mean"], record["sd"])
    raise BadInput(f"no target of kind {record['kind']!r}: unit or zscore")
