"""Plots that experiments share: panels of slices, violins with quartiles, agreement, lines; each a PNG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from raylift import DISCLAIMER
from raylift.report.figures import DPI, png

TILE_INCHES = 1.5
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """A picture (rows columns, or rows columns 3), the values at the ends of its scale, its colours."""

    pixels: np.ndarray
    limits: tuple[float, float] = (0.0, 1.0)
    colours: str = "gray"


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height + 0.3), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(DISCLAIMER, fontsize=7, color="#8a1c12")
    return figure


def panels(
    rows: Mapping[str, Sequence[Tile | None]],
    columns: Sequence[str],
    *,
    scale: str = "",
    tile_inches: float = TILE_INCHES,
) -> bytes:
    """A row of tiles under each name (None: an empty place); `scale` names what the last tile's colours mean."""
    figure = _figure(tile_inches * len(columns) + 1.2, tile_inches * len(rows))
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    shown = None
    for r, (name, tiles) in enumerate(rows.items()):
        for c in range(len(columns)):
            axes, tile = grid[r, c], tiles[c] if c < len(tiles) else None
            axes.set_xticks([])
            axes.set_yticks([])
            for side in axes.spines.values():
                side.set_visible(False)
            if tile is not None:
                low, high = tile.limits
                shown = axes.imshow(tile.pixels, cmap=tile.colours, vmin=low, vmax=high)
            else:
                axes.text(0.5, 0.5, "nothing there", fontsize=6, color="#888", ha="center", transform=axes.transAxes)
            if r == 0:
                axes.set_title(columns[c], fontsize=8)
            if c == 0:
                axes.set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    if scale and shown is not None:
        figure.colorbar(shown, ax=grid, shrink=0.6, label=scale).ax.tick_params(labelsize=7)
    return png(figure)


def violins(metrics: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """One panel a metric, one violin a method, with the quartiles, the median and every value as a dot."""
    methods = max((len(groups) for groups in metrics.values()), default=1)
    figure = _figure(max(3.0, 0.6 * methods + 1) * len(metrics), 3.2)
    for k, (metric, groups) in enumerate(metrics.items()):
        axes = figure.add_subplot(1, len(metrics), k + 1)
        for place, values in enumerate(groups.values()):
            values = np.array([v for v in values if v is not None and np.isfinite(v)])
            if not values.size:
                continue
            if len(values) > 2 and np.ptp(values) > 0:
                for body in axes.violinplot([values], [place], showextrema=False)["bodies"]:
                    body.set_facecolor(COLOURS[place % len(COLOURS)])
            low, middle, high = np.percentile(values, [25, 50, 75])
            axes.vlines(place, low, high, color="k", lw=4)
            axes.plot([place], [middle], "o", color="w", ms=4, mec="k")
            axes.plot(np.full(len(values), place), values, ".", color="k", ms=2, alpha=0.4)
            axes.annotate(f"IQR {high - low:.3g}", (place, high), fontsize=6, ha="left", va="bottom")
        axes.set_xticks(range(len(groups)), list(groups), rotation=60, ha="right", fontsize=7)
        axes.set_title(metric, fontsize=8)
        axes.tick_params(axis="y", labelsize=7)
    return png(figure)


def agreement(truth: Sequence[float], found: Mapping[str, Sequence[float]], *, what: str) -> bytes:
    """For each method a scatter against the truth with Pearson's r, and Bland and Altman's plot with bias ± 1.96 SD."""
    figure = _figure(3.2 * max(1, len(found)), 6.0)
    true = np.array(truth, float)
    for k, (method, values) in enumerate(found.items()):
        values = np.array(values, float)
        above, below = (figure.add_subplot(2, len(found), k + 1 + row * len(found)) for row in (0, 1))
        ends = [min(true.min(), values.min()), max(true.max(), values.max())]
        above.plot(ends, ends, color="#999", lw=1)
        above.plot(true, values, "o", ms=3)
        r = np.corrcoef(true, values)[0, 1] if len(true) > 2 and np.ptp(values) > 0 and np.ptp(true) > 0 else np.nan
        above.set_title(f"{method}: r = {r:.2f}" if np.isfinite(r) else f"{method}: r is not defined", fontsize=8)
        above.set_xlabel(f"true {what}", fontsize=7)
        above.set_ylabel(f"reconstructed {what}", fontsize=7)
        apart = values - true
        bias, spread = apart.mean(), 1.96 * apart.std(ddof=1) if len(apart) > 1 else 0.0
        below.plot((values + true) / 2, apart, "o", ms=3)
        for level, style in ((bias, "-"), (bias - spread, "--"), (bias + spread, "--")):
            below.axhline(level, color="k", lw=0.8, ls=style)
        below.set_title(f"bias {bias:.3g} ± {spread:.3g}", fontsize=8)
        below.set_xlabel(f"mean of both, {what}", fontsize=7)
        below.set_ylabel("reconstructed - true", fontsize=7)
        for axes in (above, below):
            axes.tick_params(labelsize=6)
    return png(figure)


def lines(x: Sequence[float], series: Mapping[str, Mapping[str, Sequence[float | None]]], *, along: str) -> bytes:
    """One panel a metric, one line a method over `x`; a value that is missing leaves a gap."""
    figure = _figure(3.2 * len(series), 2.8)
    for k, (metric, methods) in enumerate(series.items()):
        axes = figure.add_subplot(1, len(series), k + 1)
        for place, (method, values) in enumerate(methods.items()):
            plotted = [np.nan if value is None else value for value in values]
            axes.plot(x, plotted, marker="o", ms=3, label=method, color=COLOURS[place % len(COLOURS)])
        axes.set_title(metric, fontsize=8)
        axes.set_xlabel(along, fontsize=7)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        if len(methods) > 1:
            axes.legend(fontsize=6)
    return png(figure)
