"""geometry.json: where source, panel and isocentre stand, in absolute LPS millimetres."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from raylift.errors import BadInput, GeometryError
from raylift.io.files import shown, whole_file
from raylift.types import Beam, ConeBeam, ParallelBeam, Values, Vector, View, Xray

VERSION = 1
MAX_BYTES = 1 << 20  # ours: some hundred views take 100 kB
Triple = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Count = Annotated[int, Field(ge=1, le=20_000)]


class ViewEntry(BaseModel):
    """One view as the file has it; a cone names its source, parallel rays their direction."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    view: View
    type: Literal["cone", "parallel"]
    source_mm: Triple | None = None
    ray_dir: Triple | None = None
    detector_centre_mm: Triple
    column_dir: Triple
    row_dir: Triple
    rows: Count
    columns: Count
    pixel_mm: tuple[FiniteFloat, FiniteFloat]
    values: Literal["line_integral", "intensity", "unknown"] = "unknown"
    scale: Annotated[FiniteFloat, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> "ViewEntry":
        needed, other = ("source_mm", "ray_dir") if self.type == "cone" else ("ray_dir", "source_mm")
        if getattr(self, needed) is None or getattr(self, other) is not None:
            raise ValueError(f"type '{self.type}' needs {needed} and no {other}")
        if self.values == "line_integral" and self.scale is None:
            raise ValueError("values 'line_integral' needs scale, the line integral of one grey level")
        return self

    def beam(self) -> Beam:
        """The beam this entry describes."""
        panel = {
            "detector_centre_mm": self.detector_centre_mm,
            "column_dir": self.column_dir,
            "row_dir": self.row_dir,
            "pixels": (self.rows, self.columns),
            "pixel_mm": self.pixel_mm,
        }
        if self.type == "cone":
            return ConeBeam(source_mm=self.source_mm, **panel)
        return ParallelBeam(ray_dir=self.ray_dir, **panel)


class GeometryFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Literal[1]
    isocentre_lps_mm: Triple | None = None
    views: Annotated[list[ViewEntry], Field(min_length=1, max_length=1000)]


@dataclass(frozen=True, kw_only=True)
class ViewGeometry:
    """One view's beam, and what its file's numbers mean; `scale` is the line integral of one grey level."""

    view: View
    beam: Beam
    values: Values = "unknown"
    scale: float | None = None


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where all X-rays of one patient were taken."""

    views: tuple[ViewGeometry, ...]
    isocentre_mm: Vector | None = None


def read(path: Path) -> Geometry:
    """The geometry in a geometry.json, checked key by key."""
    name = shown(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{name}: too large for a geometry.json")
        content = json.loads(path.read_text(encoding="utf-8"))
        file = GeometryFile.model_validate(content)
        views = tuple(
            ViewGeometry(view=entry.view, beam=entry.beam(), values=entry.values, scale=entry.scale)
            for entry in file.views
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadInput(f"{name}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
    except GeometryError as error:
        raise GeometryError(f"{name}: {error}") from None
    except (OSError, ValueError, RecursionError):
        raise BadInput(f"{name}: not readable as JSON") from None
    if len({entry.view for entry in views}) != len(views):
        raise BadInput(f"{name}: names a view twice")
    return Geometry(views=views, isocentre_mm=file.isocentre_lps_mm)


def quantum(xray: Xray) -> float:
    """The line integral of one grey level when the X-ray is stored in 16 bits from 0 to its largest value."""
    return max(float(xray.pixels.max()), 1e-6) / 65535


def write(path: Path, xrays: Sequence[Xray]) -> None:
    """The beams of `xrays` as a geometry.json; `scale` is that of a 16-bit PNG written by `write_xray_png`."""
    entries = []
    for xray in xrays:
        if xray.beam is None or xray.view is None:
            raise BadInput(f"{xray.source or 'an X-ray'}: has no beam or no view to write down")
        entries.append(_entry(xray))
    if len({entry.view for entry in entries}) != len(entries):
        raise BadInput(f"{shown(path)}: two X-rays of the same view")
    isocentres = {xray.isocentre_mm for xray in xrays}
    if len(isocentres) > 1:
        raise BadInput(f"{shown(path)}: the X-rays have different isocentres")
    file = GeometryFile(version=VERSION, isocentre_lps_mm=next(iter(isocentres), None), views=entries)
    content = file.model_dump(mode="json", exclude_none=False)
    for entry in content["views"]:
        del entry["ray_dir" if entry["type"] == "cone" else "source_mm"]
    with whole_file(path) as beside:
        beside.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _entry(xray: Xray) -> ViewEntry:
    beam = xray.beam
    cone = isinstance(beam, ConeBeam)
    return ViewEntry(
        view=xray.view,
        type="cone" if cone else "parallel",
        source_mm=beam.source_mm if cone else None,
        ray_dir=None if cone else beam.ray_dir,
        detector_centre_mm=beam.detector_centre_mm,
        column_dir=beam.column_dir,
        row_dir=beam.row_dir,
        rows=beam.pixels[0],
        columns=beam.pixels[1],
        pixel_mm=beam.pixel_mm,
        values=xray.values,
        scale=quantum(xray) if xray.values == "line_integral" else None,
    )
