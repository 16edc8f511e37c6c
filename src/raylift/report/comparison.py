"""A comparison as files: table.csv, table.json, table.tex, table.md and table.html, all from the same cells."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from raylift.compare import Comparison, Row
from raylift.compare.table import FIRST
from raylift.evaluate import BETTER, EVERY, FEWEST_FOR_INTERVAL, text_of
from raylift.io.files import write_json, write_text
from raylift.report.html import rendered

COST = {  # name -> title, digits
    "parameters": ("parameters (M)", 2),
    "gmac": ("GMAC", 2),
    "seconds": ("s a volume", 3),
    "mib": ("MiB a volume", 0),
}
Cells = list[list[str]]


def write_comparison(found: Comparison, folder: Path | str) -> None:
    """Write the five files into `folder`."""
    folder = Path(folder)
    write_json(folder / "table.json", found.record())
    write_text(folder / "table.csv", as_csv(found))
    write_text(folder / "table.tex", as_latex(found))
    write_text(folder / "table.md", as_markdown(found))
    write_text(folder / "table.html", as_html(found))


def head(found: Comparison) -> list[str]:
    """The columns' titles, with their units and an arrow to the good end."""
    metrics = [_title(name) for name in found.columns if name != "seconds"]
    return ["method", "X-rays", "n", "failed", *metrics, *(title for title, _ in COST.values()), "run"]


def cells(found: Comparison) -> Cells:
    """One row a method, as text: mean ± SD, with the interval and p below where there are enough cases."""
    shown = [name for name in found.columns if name != "seconds"]
    p = {name: found.p_values(name) for name in shown}
    return [_row(row, shown, {name: p[name].get(row.title) for name in shown}) for row in found.rows]


def brief(found: Comparison) -> tuple[list[str], Cells]:
    """Titles and rows for a terminal: mean ± SD of each metric, seconds a volume; the files hold the rest."""
    shown = [name for name in found.columns if name not in ("seconds", "mse", "rmse")]
    rows = [
        [row.title, str(len(row.values(FIRST))), *(_mean(row, name) for name in shown), _costs(row)[2]]
        for row in found.rows
    ]
    return ["method", "n", *map(_title, shown), COST["seconds"][0]], rows


def _title(name: str) -> str:
    """A metric's title with an arrow to its good end."""
    return EVERY[name][0] + {1: " ↑", -1: " ↓", 0: ""}[BETTER.get(name, 0)]


def _mean(row: Row, name: str) -> str:
    """Mean ± SD, a dash where there is none."""
    summary = {"mean": None} if row.scores is None else row.scores.summary()[name]
    if summary["mean"] is None:
        return "–" if row.scores is not None else "failed"
    spread = f" ± {text_of(name, summary['sd'])}" if summary["sd"] is not None else ""
    return text_of(name, summary["mean"]) + spread


def _row(row: Row, shown: list[str], p: Mapping[str, float | None]) -> list[str]:
    about = [row.title, " ".join(row.views)]
    if row.scores is None:
        return [*about, "0", "all", *["–"] * (len(shown) + len(COST)), f"{row.run}: {row.failure}"]
    numbers = [_cell(row, name, p[name]) for name in shown]
    return [*about, str(len(row.scores.cases)), str(len(row.scores.failed)), *numbers, *_costs(row), row.run]


def _cell(row: Row, name: str, p: float | None) -> str:
    """Mean ± SD and interval, or every value where there are few."""
    summary = row.scores.summary()[name]
    if summary["mean"] is None:
        return "–"
    if len(row.scores.cases) < FEWEST_FOR_INTERVAL:
        each = [text_of(name, case.get(name)) for case in row.scores.cases.values()]
        return f"{text_of(name, summary['mean'])} ({'; '.join(each)})"
    told = _mean(row, name)
    if summary["ci95"] is not None:
        told += f" [{text_of(name, summary['ci95'])}]"
    return told if p is None else f"{told} p {p_text(p)}"


def p_text(p: float) -> str:
    """A p-value with two digits, never 0.

    >>> p_text(0.03125), p_text(1e-9)
    ('0.031', '< 0.0001')
    """
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _costs(row: Row) -> list[str]:
    told = []
    for name, (_, digits) in COST.items():
        value = row.cost.get(name)
        value = value / 1e6 if name == "parameters" and value is not None else value
        told.append("–" if value is None else f"{value:,.{digits}f}")
    return told


def reported_rows(found: Comparison) -> Cells:
    """Each paper's own numbers: method, source, values, how they were measured."""
    rows, seen = [], set()
    for row in found.rows:
        for entry in row.reported:
            told = ", ".join(f"{name} {value}" for name, value in entry["values"].items())
            line = (row.label, entry["source"], told, entry["definition"])
            if line not in seen:
                seen.add(line)
                rows.append(list(line))
    return rows


def as_csv(found: Comparison) -> str:
    """One line a method and case, plain numbers, then the window in each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    named = ["method", "refined", "run", "case", "window_low_hu", "window_high_hu"]
    writer.writerow([*named, *found.columns, *COST, "failed"])
    for row in found.rows:
        first = [row.label, "" if row.refined is None else row.refined, row.run]
        costs = ["" if row.cost.get(name) is None else row.cost[name] for name in COST]
        if row.scores is None:
            writer.writerow([*first, "", *found.window, *[""] * len(found.columns), *costs, row.failure])
            continue
        for case, values in row.scores.cases.items():
            numbers = ["" if values[name] is None else values[name] for name in found.columns]
            writer.writerow([*first, case, *found.window, *numbers, *costs, ""])
        for case, reason in row.scores.failed.items():
            writer.writerow([*first, case, *found.window, *[""] * len(found.columns), *costs, reason])
    return text.getvalue()


def as_markdown(found: Comparison) -> str:
    """The finding, the table, the definitions, and the papers' numbers."""
    lines = [found.finding(), "", *markdown_table(head(found), cells(found)), "", f"{found.header()}."]
    reported = reported_rows(found)
    if reported:
        lines += ["", "The papers' own numbers, on their own data by their own definitions:", ""]
        lines += markdown_table(["method", "source", "reported", "measured on and how"], reported)
    return "\n".join(lines) + "\n"


def markdown_table(titles: list[str], rows: Cells) -> list[str]:
    """The lines of a Markdown table."""
    line = lambda row: "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"  # noqa: E731
    return [line(titles), line(["---"] * len(titles)), *(line(row) for row in rows)]


LATEX = str.maketrans(
    {"&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$"}
    | {"±": r"$\pm$", "–": "--", "²": "$^2$", "³": "$^3$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$"}
)


def as_latex(found: Comparison) -> str:
    """A tabular with booktabs' rules; the definitions and the finding are its caption."""
    titles = [title.translate(LATEX) for title in head(found)]
    rows = [" & ".join(cell.translate(LATEX) for cell in row) + r" \\" for row in cells(found)]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{found.finding().translate(LATEX)} {found.header().translate(LATEX)}.}}",
            r"\begin{tabular}{ll" + "r" * (len(titles) - 3) + "l}",
            r"\toprule",
            " & ".join(titles) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def as_html(found: Comparison) -> str:
    """One page that opens offline, everything in it escaped."""
    return rendered(
        "comparison.html",
        finding=found.finding(),
        definitions=found.header(),
        head=head(found),
        rows=cells(found),
        reported=reported_rows(found),
    )
