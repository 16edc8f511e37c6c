"""How methods stand faults: a table and a figure, metric against severity."""

import csv
import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from raylift import DISCLAIMER
from raylift.evaluate import EVERY
from raylift.io.files import write_json, write_text
from raylift.report.comparison import markdown_table
from raylift.report.figures import DPI, png
from raylift.stress import FAULTS, METRICS, Stress, Trial

ACROSS, PANEL_INCHES = 4, 3.0
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")


def write_stress(found: Stress, folder: Path | str) -> None:
    """Write stress.json, stress.csv, stress.md and stress.png into `folder`."""
    folder = Path(folder)
    write_json(folder / "stress.json", found.record())
    write_text(folder / "stress.csv", as_csv(found))
    write_text(folder / "stress.md", as_markdown(found))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stress.png").write_bytes(figure_of(found))


def severity_of(trial: Trial) -> str:
    """The fault and its severity, as a table says them.

    >>> severity_of(Trial(method="m", fault="angle", severity=5.0, label="5", refined=False, cases={}))
    'angle: 5 degrees off'
    """
    unit = FAULTS[trial.fault].unit if trial.fault in FAULTS else ""
    return f"{trial.fault}: {trial.label} {unit}".strip() if trial.label else trial.fault


def rows_of(found: Stress) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of text: one a fault and severity, the mean PSNR of each method, and its loss to no fault."""
    methods = list(dict.fromkeys((t.method, t.refined) for t in found.trials))
    titles = [f"{name}{', refined' if refined else ''}" for name, refined in methods]
    kinds = list(dict.fromkeys(severity_of(t) for t in found.trials))
    means = {(severity_of(t), t.method, t.refined): t.mean("psnr") for t in found.trials}
    rows = []
    for kind in kinds:
        cells = []
        for name, refined in methods:
            value, base = means.get((kind, name, refined)), means.get(("none", name, refined))
            same = kind != "none" and not kind.startswith("anatomy")  # another body has another truth
            away = f" ({value - base:+.2f})" if same and None not in (value, base) else ""
            cells.append("–" if value is None else f"{value:.2f}{away}")
        rows.append([kind, *cells])
    return ["PSNR (dB), mean of the cases (change)", *titles], rows


def header(found: Stress) -> str:
    """What the numbers are of."""
    low, high = found.window
    cases = max((len(t.cases) for t in found.trials), default=0)
    failed = sum(len(t.failed) for t in found.trials)
    lacking = "".join(f"; not tried: {text}" for text in found.missing)
    return (
        f"{found.data}, {found.split}, {cases} cases, failed {failed}; PSNR of the volume, window {low:g} to {high:g} "
        f"HU; the X-rays are taken under the fault, the method is told a faultless geometry{lacking}"
    )


def as_markdown(found: Stress) -> str:
    """The table, what it is of, and the figure beside it."""
    table = markdown_table(*rows_of(found))
    figure = "![Metric against severity](stress.png)"
    return "\n".join([DISCLAIMER, "", *table, "", f"{header(found)}.", "", figure, ""])


def as_csv(found: Stress) -> str:
    """One line a method, fault, severity and case."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    named = ["method", "refined", "fault", "severity", "label", "case", "window_low_hu", "window_high_hu"]
    writer.writerow([*named, *METRICS, "failed"])
    for t in found.trials:
        first = [t.method, t.refined, t.fault, t.severity, t.label]
        for case, row in t.cases.items():
            writer.writerow([*first, case, *found.window, *("" if row[m] is None else row[m] for m in METRICS), ""])
        for case, reason in t.failed.items():
            writer.writerow([*first, case, *found.window, *[""] * len(METRICS), reason])
    return text.getvalue()


def figure_of(found: Stress, metric: str = "psnr") -> bytes:
    """A PNG: one panel a fault, the metric's mean against the severity; refined is a full line, plain a dashed one."""
    faults = [name for name in dict.fromkeys(t.fault for t in found.trials) if name != "none"]
    rows = max(1, -(-len(faults) // ACROSS))
    size = (ACROSS * PANEL_INCHES, rows * PANEL_INCHES + 0.9)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, ACROSS, squeeze=False).ravel()
    for panel, fault in zip(panels, faults, strict=False):
        _panel(panel, found, fault, metric)
    for panel in panels[len(faults) :]:
        panel.set_axis_off()
    handles, names = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)), fontsize=8)
    figure.suptitle(f"{DISCLAIMER}\n{EVERY[metric][0]} under faults; {found.data}", fontsize=8)
    return png(figure)


def along(found: Stress, method: str, refined: bool, fault: str) -> list[Trial]:
    """The method's trials without a fault and under this one, from mild to severe, or from the least to the greatest
    where severities have signs.
    """
    chosen = [t for t in found.trials if (t.method, t.refined) == (method, refined)]
    base, points = ([t for t in chosen if t.fault == name] for name in ("none", fault))
    below = sum(t.severity < 0 for t in points)
    return [*points[:below], *base, *points[below:]]


def _panel(panel, found: Stress, fault: str, metric: str) -> None:
    methods = list(dict.fromkeys(t.method for t in found.trials))
    for k, method in enumerate(methods):
        for refined in (False, True):
            spots = [t for t in along(found, method, refined, fault) if t.mean(metric) is not None]
            if all(t.fault == "none" for t in spots):
                continue
            labels = ["none" if t.fault == "none" else t.label or "yes" for t in spots]
            values = [t.mean(metric) for t in spots]
            name = f"{method}{', refined' if refined else ''}"
            style = {"color": COLOURS[k % len(COLOURS)], "ls": "-" if refined else "--", "marker": "o", "ms": 3}
            panel.plot(labels, values, label=name, **style)
    unit = FAULTS[fault].unit if fault in FAULTS else ""
    panel.set_title(f"{fault}{f' ({unit})' if unit else ''}", fontsize=8)
    panel.tick_params(labelsize=7)
    panel.grid(alpha=0.3)
