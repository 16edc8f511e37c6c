"""The spine's part of an assessment's page."""

from collections.abc import Mapping
from typing import Any

from raylift.assess import Assessment
from raylift.report.sections import Section, Table
from raylift.report.spine import angle_rows, levels_figure, measure_rows, surfaces

HEIGHTS = {
    "anterior_mm": ("anterior height", "mm"),
    "middle_mm": ("middle height", "mm"),
    "posterior_mm": ("posterior height", "mm"),
    "wedge_deg": ("wedge", "degrees"),
}
ANGLES = {
    "cobb_deg": ("Cobb angle", "degrees"),
    "kyphosis_deg": ("kyphosis", "degrees"),
    "lordosis_deg": ("lordosis", "degrees"),
}
SPINE_WAYS = ("phantoms, true labels", "phantoms, found by bone", "phantoms, SART, each vertebra X-rayed alone")
SPINE_ERRORS = {  # of python bench/spine.py: mean and largest absolute error a way
    "anterior_mm": ((0.17, 0.98), (1.3, 20), (0.8, 6.7)),
    "middle_mm": ((0.31, 1.1), (1.6, 12), (2.3, 4.0)),
    "posterior_mm": ((0.17, 0.96), (1.2, 16), (0.8, 5.2)),
    "wedge_deg": ((0.7, 3.3), (2.0, 37), (2.5, 20)),
    "cobb_deg": ((0.20, 0.40), (0.09, 0.15), (3.9, 8.1)),
    "kyphosis_deg": ((0.48, 0.72), (0.23, 0.64), (None, None)),
    "lordosis_deg": ((0.28, 0.53), (0.45, 0.92), (None, None)),
}
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
    heights = ["level", *(f"{title}, {unit}" for title, unit in HEIGHTS.values()), "depth, mm", "width, mm"]
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
    here = manifest.get("beside", {}).get("errors", {})
    rows = []
    for name, errors in SPINE_ERRORS.items():
        title, unit = {**HEIGHTS, **ANGLES}[name]
        own = [f"{here[name]['mean_abs']:.1f}, {here[name]['max_abs']:.1f}" if name in here else "–"] * bool(here)
        rows.append([f"{title}, {unit}", *own, *(f"{mean:g}, {most:g}" if mean else "–" for mean, most in errors)])
    head = ["mean and largest absolute error", *["here"] * bool(here), *SPINE_WAYS]
    return Table(
        caption="How wrong such numbers are: four phantoms of stated angles (docs/spine.md)", head=head, rows=rows
    )
