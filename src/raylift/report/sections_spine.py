"""The spine's part of an assessment's page."""

from collections.abc import Mapping
from typing import Any

from raylift.assess import Assessment
from raylift.report.known import known
from raylift.report.sections import Section, Table
from raylift.report.spine import angle_rows, levels_figure, measure_rows, surfaces
from raylift.report.spine_errors import KINDS, error_cells
from raylift.spine.compare import HEIGHTS

SPINE_OF_LABELS = "Measured on the vertebrae's label map: what is wrong there is wrong here."
SPINE_OF_RECONSTRUCTION = (
    "The reconstruction's bone was divided half-way between the true vertebrae's middles, so where vertebrae lie is "
    "known from the truth, and only their shape is the reconstruction's. From X-rays of a whole patient two views show "
    "no single vertebra: a number that looks possible may be far off. See the truth beside it."
)


def spine_section(found: Assessment) -> Section | None:
    """Heights, wedges and angles with the truth and the known errors beside them; None where no vertebra is known."""
    if found.spine is None:
        return None
    manifest = found.record["spine"]
    notes = [SPINE_OF_LABELS if found.spine.truth is None else SPINE_OF_RECONSTRUCTION, *manifest["notes"]]
    notes += [f"{level} is doubtful: {reason}" for level, reason in manifest["doubts"].items()]
    notes += [f"{level} not measured: {reason}" for level, reason in manifest["not_measured"].items()]
    heights = ["level", *(KINDS[name] for name in HEIGHTS), "depth, mm", "width, mm"]
    told = " (in brackets: on the true vertebra)" if "beside" in manifest else ""
    tables = [
        Table(
            caption="Angles between endplates",
            head=["", "measured", *(["on the true vertebrae"] if told else [])],
            rows=angle_rows(manifest),
        ),
    ]
    if manifest["bodies"]:
        tables.append(Table(caption=f"Vertebral bodies{told}", head=heights, rows=measure_rows(manifest)))
    tables.append(_spine_errors(manifest))
    meshes = surfaces(found.spine.vertebrae)
    pictures = {"spine.png": levels_figure(found.spine, meshes)} if meshes else {}
    return Section(title=f"Spine: {manifest['how']}", notes=notes, pictures=pictures, tables=tables)


def _spine_errors(manifest: Mapping[str, Any]) -> Table:
    """How far the measures are off here, where the truth is known, and on phantoms."""
    here, errors = manifest.get("beside", {}).get("errors", {}), known("spine")
    rows = []
    for name, cells in error_cells(errors).items():
        own = [f"{here[name]['mean_abs']:.1f}, {here[name]['max_abs']:.1f}" if name in here else "–"] * bool(here)
        rows.append([KINDS[name], *own, *cells])
    ways = (f"phantoms, {way}" for way in errors["ways"])
    drawn = f"{errors['phantoms']} phantoms of stated angles, {errors['spacing_mm']:g} mm"
    return Table(
        caption=f"How wrong such numbers are: {drawn}",
        head=["mean and largest absolute error", *["here"] * bool(here), *ways],
        rows=rows,
    )
