"""The folders of `raylift segment` and `raylift assess`: label maps, JSON, figures, and one page that opens offline."""

import json
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from raylift import DISCLAIMER, __version__, io, models
from raylift.assess import LIMITS, Assessment, Study, assess, read, segment_ct
from raylift.io.files import filled_folder, write_json
from raylift.report.html import embedded, rendered
from raylift.report.overlay import overlay
from raylift.report.plots import agreement as agreement_plot
from raylift.report.sections import Section, Table
from raylift.report.sections_spine import spine_section
from raylift.report.sections_worth import worth_section
from raylift.report.spine import angle_rows
from raylift.segment.chest import LABELS, Chest
from raylift.segment.quantities import doubts, quantities
from raylift.segment.vertebrae import as_volume
from raylift.types import Volume

QUANTITIES = {"lung_ml": "lung, ml", "pneumothorax_ml": "pneumothorax, ml", "occupancy_percent": "of the cavity, %"}


def segment_to(out: str | PathLike, ct: str | PathLike, *, thresholds: str | None = None) -> dict[str, Any]:
    """Fill the folder `out` with labels.nii.gz, on the CT's own grid, and segment.json; what segment.json says.

    `ct` may be a folder of `raylift reconstruct`; thresholds are then relative unless told.
    """
    volume, model = read(ct)
    chest = segment_ct(volume, thresholds=thresholds or ("absolute" if model is None else "relative"))
    found = quantities(chest)
    record = {
        "program": "raylift",
        "version": __version__,
        "disclaimer": DISCLAIMER,
        "source": volume.source,
        "reconstructed_by": model,
        "labels": LABELS,
        "thresholds": chest.levels.kind,
        "quantities": found,
        "doubts": doubts(found),
        "limits": list(LIMITS),
    }
    with filled_folder(Path(out), last="segment.json") as folder:
        _write_labels(chest, folder / "labels.nii.gz")
        write_json(folder / "segment.json", record)
    return record


def assess_to(out: str | PathLike, ct: str | PathLike, **options: Any) -> Assessment:
    """Assess (with `raylift.assess.assess`'s options) and fill the folder `out`."""
    found = assess(ct, **options)
    write_assessment(found, out)
    return found


def write_assessment(found: Assessment, out: str | PathLike) -> None:
    """Fill `out` with assess.json, assess.html, chest.png, labels.nii.gz; with a truth labels-truth.nii.gz, and with
    vertebrae vertebrae.nii.gz and spine.png.
    """
    sections = [section for make in SECTIONS if (section := make(found)) is not None]
    with filled_folder(Path(out), last="assess.json") as folder:
        _write_labels(found.chest, folder / "labels.nii.gz")
        if found.true_chest is not None:
            _write_labels(found.true_chest, folder / "labels-truth.nii.gz")
        if found.spine is not None:
            io.write_ct(as_volume(found.spine.vertebrae), folder / "vertebrae.nii.gz")
        _write_page(folder, f"Assessment of {found.record['source'] or 'a CT'}", sections, found.record)


def write_study(study: Study, out: str | PathLike) -> dict[str, Any]:
    """Fill `out` with assess.json, assess.html and the scatter figures; what assess.json says."""
    record = study.record()
    with filled_folder(Path(out), last="assess.json") as folder:
        title = f"{study.model} on {study.data}, {study.split}"
        _write_page(folder, f"Assessment of {title}", [study_section(study, record)], record)
    return record


def _write_page(folder: Path, title: str, sections: Sequence[Section], record: Mapping[str, Any]) -> None:
    for section in sections:
        for name, picture in section.pictures.items():
            (folder / name).write_bytes(picture)
    (folder / "assess.html").write_text(page(title, sections, record), encoding="utf-8")
    write_json(folder / "assess.json", record)


def page(title: str, sections: Sequence[Section], record: Mapping[str, Any]) -> str:
    """The page's HTML: the sections, then all of the record."""
    pictures = [{name: embedded(png) for name, png in section.pictures.items()} for section in sections]
    return rendered(
        "assess.html",
        title=title,
        sections=list(zip(sections, pictures, strict=True)),
        content=json.dumps(record, indent=1, ensure_ascii=False),
    )


def chest_section(found: Assessment) -> Section:
    """Lungs and pneumothorax: the label map over the CT, and the quantities, with the truth beside them."""
    rows = {"assessed": (found.ct, found.chest)}
    if found.truth is not None:
        rows["true CT"] = (found.truth, found.true_chest)
    doubtful = {"assessed": found.record["chest"]["doubts"], "true CT": found.record.get("truth", {}).get("doubts", [])}
    notes = [f"Doubtful ({whose}): {why}" for whose, reasons in doubtful.items() for why in reasons] + list(LIMITS)
    if found.record["reconstructed_by"]:
        notes.insert(
            0,
            f"Reconstructed by {found.record['reconstructed_by']}: two X-rays do not fix where in depth air lies. A "
            "pneumothorax that is there may be missing here.",
        )
    tables = [Table(caption="Quantities", head=["", *_heads(found)], rows=quantity_rows(found.record))]
    if "dice" in found.record:
        dice = [[name, text(value, 3)] for name, value in found.record["dice"].items()]
        tables.append(Table(caption="Overlap with the true CT's label map", head=["", "Dice"], rows=dice))
    return Section(title="Lungs and pneumothorax", notes=notes, pictures={"chest.png": overlay(rows)}, tables=tables)


SECTIONS: list[Callable[[Assessment], Section | None]] = [
    chest_section,
    spine_section,
    worth_section,
]  # the page's parts


def _heads(found: Assessment) -> list[str]:
    titles = list(QUANTITIES.values())
    return titles if found.truth is None else [f"{t}{what}" for t in titles for what in ("", " (true CT)", ": error")]


def quantity_rows(record: Mapping[str, Any]) -> list[list[str]]:
    """Right, left and total; with a truth each value, the true CT's, and the error."""
    rows = []
    for side, values in record["chest"]["quantities"].items():
        cells = []
        for name in QUANTITIES:
            cells.append(text(values[name], 1))
            if "truth" in record:
                cells.append(text(record["truth"]["quantities"][side][name], 1))
                cells.append(text(record["error"][side][name], 1, signed=True))
        rows.append([side, *cells])
    return rows


def study_section(study: Study, record: Mapping[str, Any]) -> Section:
    """A study's agreement with the truth beside X-Recon's, scatter and Bland-Altman figures, and every case."""
    pictures = {}
    for file, side, name in (
        ("volume", "total", "pneumothorax_ml"),
        ("occupancy", "total", "occupancy_percent"),
        ("lung-right", "right", "lung_ml"),
        ("lung-left", "left", "lung_ml"),
    ):
        true, found = study.values(side, name)
        if len(true) > 1:
            pictures[f"{file}.png"] = agreement_plot(true, {study.model: found}, what=f"{side} {QUANTITIES[name]}")
    true, found = study.values("total", "pneumothorax_ml")
    leaky, seen = (sum(ml > 0 for ml in values) for values in (true, found))
    missed = [f"Of {leaky} true CTs with a pneumothorax {seen} reconstructions show one."] if seen < leaky else []
    return Section(
        title="Lungs and pneumothorax, found against true",
        notes=[*missed, *LIMITS, *(f"{case} failed: {reason}" for case, reason in study.failed.items())],
        pictures=pictures,
        tables=[_agreement_table(record), _dice_table(study), _case_table(study)],
    )


def x_recon_r() -> dict[str, float]:
    """X-Recon's reported correlation of each quantity with the truth."""
    paper = models.get("x-recon").reported["X-Recon paper (25 patients with pneumothorax)"]
    return {
        "pneumothorax_ml": paper["r of pneumothorax volume"],
        "occupancy_percent": paper["r of pleural occupancy"],
    }


def _agreement_table(record: Mapping[str, Any]) -> Table:
    reported = {f"total {quantity}": r for quantity, r in x_recon_r().items()}
    rows = []
    for name, row in record["agreement"].items():
        side, quantity = name.split(" ", 1)
        cells = [_with_interval(row[key]) for key in ("pearson", "spearman", "concordance")]
        limits = "–" if row["limits"] is None else " to ".join(text(x, 1, signed=True) for x in row["limits"])
        title = f"{side} {QUANTITIES[quantity]}"
        rows.append([title, str(row["cases"]), *cells, text(row["bias"], 1, signed=True), limits])
        rows[-1].append(text(reported.get(name), 2))
    head = ["", "cases", "Pearson (95 % CI)", "Spearman", "concordance", "bias", "limits of agreement"]
    return Table(
        caption="Agreement; the last column is Pearson's r that X-Recon reports of 25 patients, with other data",
        head=[*head, "X-Recon"],
        rows=rows,
    )


def _dice_table(study: Study) -> Table:
    rows = []
    for name in next(iter(study.cases.values()), {"dice": {}})["dice"]:
        values = [row["dice"][name] for row in study.cases.values() if row["dice"][name] is not None]
        mean = text(float(np.mean(values)) if values else None, 3)
        low, high = (text(f(values) if values else None, 3) for f in (min, max))
        rows.append([name, str(len(values)), mean, low, high])
    return Table(
        caption="Dice, where either map has the structure; X-Recon reports more than 0.90",
        head=["", "cases", "mean", "lowest", "highest"],
        rows=rows,
    )


def _case_table(study: Study) -> Table:
    rows = []
    for case, row in study.cases.items():
        cells = [text(row[who]["total"][name], 0) for name in QUANTITIES for who in ("true", "found")]
        rows.append([case, *cells])
    head = ["case", *(f"{title} ({who})" for title in QUANTITIES.values() for who in ("true", "found"))]
    return Table(caption="Every case, both sides together", head=head, rows=rows)


def _with_interval(value: Mapping[str, Any]) -> str:
    if value["ci95"] is None:
        return text(value["value"], 2)
    low, high = value["ci95"]
    return f"{value['value']:.2f} ({low:.2f} to {high:.2f})"


def text(value: float | None, digits: int, *, signed: bool = False) -> str:
    """A number for a cell; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:{'+' if signed else ''}.{digits}f}"


def _write_labels(chest: Chest, path: Path) -> None:
    io.write_ct(Volume(hu=chest.labels.astype(np.int16), grid=chest.grid, source="labels"), path)


def summary_lines(record: Mapping[str, Any]) -> list[str]:
    """An assessment or a segmentation in some lines of text."""
    lines = [record["disclaimer"]]
    chest = record.get("chest", record)
    found = chest["quantities"]
    for side, values in found.items():
        if values["lung_ml"] is None:
            lines.append(f"{side}: no lung found")
            continue
        told = (
            f"{side}: lung {values['lung_ml']:.0f} ml, pneumothorax {values['pneumothorax_ml']:.0f} ml "
            f"({values['occupancy_percent']:.1f} % of the cavity)"
        )
        true = record["truth"]["quantities"][side] if "truth" in record else {"lung_ml": None}
        if true["lung_ml"] is not None:
            told += f"; in the true CT {true['lung_ml']:.0f} ml and {true['pneumothorax_ml']:.0f} ml"
        lines.append(told)
    lines += [f"doubtful: {why}" for why in chest["doubts"]]
    if "spine" in record:
        lines += [": ".join(row[:2]) + (f"; truth: {row[2]}" if row[2:] else "") for row in angle_rows(record["spine"])]
    if "dice" in record:
        lines.append("Dice: " + ", ".join(f"{name} {text(value, 3)}" for name, value in record["dice"].items()))
    return lines


def study_lines(record: Mapping[str, Any]) -> list[str]:
    """A study in some lines of text."""
    table = _agreement_table(record)
    return [record["disclaimer"], *(f"{row[0]}: r {row[2]}, bias {row[5]}, {row[1]} cases" for row in table.rows)]
