"""An experiment's page: index.html that opens offline, and index.md with the figures beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raylift import DISCLAIMER
from raylift.compare import Comparison
from raylift.errors import BadInput
from raylift.io.files import write_text
from raylift.report.comparison import as_markdown, cells, head, markdown_table, reported_rows
from raylift.report.html import embedded, rendered


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure's title, its PNG or a table (head first), and a note; with neither the note says what is lacking."""

    title: str
    png: bytes | None = None
    table: tuple[tuple[str, ...], ...] = ()
    note: str = ""

    def __post_init__(self):
        if self.png is None and not self.table and not self.note:
            raise BadInput(f"the figure '{self.title}' is missing and nothing says why")


@dataclass(frozen=True, kw_only=True)
class Page:
    """What stands on an experiment's page beside the comparison."""

    experiment: str
    about: Mapping[str, str]
    held: tuple[str, ...]  # a sentence for each claim of the paper
    pictures: tuple[Picture, ...]


def write_page(page: Page, comparison: Comparison, folder: Path) -> None:
    """Write index.html, index.md and figure-<n>.png into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("figure-*.png"):
        old.unlink()
    names = {}
    for k, picture in enumerate(page.pictures, 1):
        if picture.png is not None:
            names[k] = f"figure-{k}.png"
            (folder / names[k]).write_bytes(picture.png)
    write_text(folder / "index.md", as_page_markdown(page, comparison, names))
    write_text(folder / "index.html", as_page_html(page, comparison))


def summary(held: Sequence[str]) -> str:
    """How many of the paper's orders held."""
    if not held:
        return "The paper claims no order here."
    true, false = (sum(text.startswith(word) for text in held) for word in ("held", "did not hold"))
    untried = len(held) - true - false
    more = f"; {untried} could not be tried" if untried else ""
    return f"{true} of {true + false} of the paper's orders held on this data{more}."


def as_page_markdown(page: Page, comparison: Comparison, names: Mapping[int, str]) -> str:
    """The page as Markdown; `names` are the files of its figures."""
    lines = [f"# {page.about['experiment']}", "", f"{comparison.finding()} {summary(page.held)}", "", DISCLAIMER, ""]
    lines += [f"- {name}: {text}" for name, text in page.about.items() if name != "experiment"]
    lines += ["", "## What held of the paper's orders", ""] if page.held else []
    lines += [f"- {text}" for text in page.held]
    lines += ["", "## Table", "", as_markdown(comparison)]
    for k, picture in enumerate(page.pictures, 1):
        lines += [f"## {picture.title}", ""]
        lines += [f"![{picture.title}]({names[k]})", ""] if k in names else []
        lines += (
            [*markdown_table(list(picture.table[0]), list(map(list, picture.table[1:]))), ""] if picture.table else []
        )
        lines += [picture.note, ""] if picture.note else []
    return "\n".join(lines)


def as_page_html(page: Page, comparison: Comparison) -> str:
    """The page as one file, everything in it escaped."""
    pictures = [
        {
            "title": p.title,
            "note": p.note,
            "table": p.table,
            "png": None if p.png is None else embedded(p.png),
        }
        for p in page.pictures
    ]
    return rendered(
        "experiment.html",
        about=page.about,
        finding=comparison.finding(),
        summary=summary(page.held),
        held=page.held,
        head=head(comparison),
        rows=cells(comparison),
        definitions=comparison.header(),
        reported=reported_rows(comparison),
        pictures=pictures,
    )


def write_overview(room: Path) -> None:
    """Write index.md into a folder of experiments: a line for each, from its outcome.json."""
    found = sorted(room.glob("*/outcome.json"))
    rows = []
    for outcome in (json.loads(path.read_text(encoding="utf-8")) for path in found):
        link = f"[{outcome['name']}]({outcome['folder']}/index.md)"
        rows.append([link, outcome["of"], summary(outcome["held"]), outcome["finding"]])
    table = markdown_table(["experiment", "of", "the paper's orders", "first finding"], rows)
    write_text(room / "index.md", "\n".join([f"# Experiments: {room.name}", "", DISCLAIMER, "", *table, ""]))
