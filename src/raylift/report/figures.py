"""The pictures of a result: three planes of the CT, the X-rays beside the result's own, and where they differ."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from raylift import DISCLAIMER
from raylift.reconstruct import Result
from raylift.types import Grid, Volume

DISPLAY_HU = (-1000.0, 500.0)  # ours: lung, soft tissue and bone in one picture
ERROR_HU = 500.0  # ours: the ends of the difference's colours
INCHES, DPI = 3.1, 100
GAP, EDGE, HEADER = 0.24, 0.06, 0.3  # inches: a title's height, the margins, the disclaimer's line
PLANES = ("axial", "coronal", "sagittal")
BACKGROUND, INK = "#111417", "#e8eaed"


def planes(volume: Float[np.ndarray, "D H W"]) -> list[Float[np.ndarray, "rows cols"]]:
    """The middle axial (H W), coronal (D W) and sagittal (D H) slices, as they hang on a light box."""
    d, h, w = (n // 2 for n in volume.shape)
    return [volume[d], volume[:, h], volume[:, :, w]]


def aspects(grid: Grid) -> list[float]:
    """Height of a pixel over its width in each of `planes`."""
    d, h, w = grid.spacing_mm
    return [h / w, d / w, d / h]


def preview(result: Result, truth: Volume | None = None) -> bytes:
    """A PNG: the CT's planes (with `truth` on the same grid: the true ones, and the difference), then each X-ray."""
    rows = _ct_rows(result.ct, truth) + [_xray_row(*pair) for pair in _pairs(result)]
    heights = [max(p[0].shape[0] * p[1] / p[0].shape[1] for p in row) for row in rows]
    height = INCHES * sum(heights) + GAP * len(rows) + HEADER
    figure = Figure(figsize=(3 * INCHES + 4 * EDGE, height), dpi=DPI, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    sides = {"left": EDGE / figure.get_figwidth(), "right": 1 - EDGE / figure.get_figwidth()}
    figure.subplots_adjust(top=1 - (HEADER + GAP) / height, bottom=EDGE / height, **sides)
    between = GAP * len(rows) / (INCHES * sum(heights))
    grid = figure.add_gridspec(len(rows), 3, height_ratios=heights, wspace=EDGE / INCHES, hspace=between)
    for r, row in enumerate(rows):
        for c, (pixels, aspect, title, limits, colours) in enumerate(row):
            _draw(figure, figure.add_subplot(grid[r, c]), pixels, aspect, title, limits, colours)
    figure.text(0.5, 1 - 0.1 / height, DISCLAIMER, color="#ffb4a2", ha="center", va="top", fontsize=9)
    return png(figure)


def write_preview(result: Result, path: Path, truth: Volume | None = None) -> None:
    """Writes `preview` to `path`."""
    path.write_bytes(preview(result, truth))


def _ct_rows(ct: Volume, truth: Volume | None) -> list[list[tuple]]:
    window = f"{DISPLAY_HU[0]:g} to {DISPLAY_HU[1]:g} HU"
    shape = aspects(ct.grid)
    rows = [
        [(p, a, f"{n}, {window}", DISPLAY_HU, "gray") for p, a, n in zip(planes(ct.hu), shape, PLANES, strict=True)]
    ]
    if truth is None:
        return rows
    error = planes(ct.hu - truth.hu)
    rows.append(
        [(p, a, f"truth, {n}", DISPLAY_HU, "gray") for p, a, n in zip(planes(truth.hu), shape, PLANES, strict=True)]
    )
    ends, told = (-ERROR_HU, ERROR_HU), f"± {ERROR_HU:g} HU"
    rows.append([(p, a, f"result - truth, {told}", ends, "RdBu_r") for p, a in zip(error, shape, strict=True)])
    return rows


def _pairs(result: Result) -> Sequence[tuple]:
    return list(zip(result.xrays, result.reprojections, strict=True))


def _xray_row(xray, again) -> list[tuple]:
    """The X-ray, the result's own, and their difference, on one scale."""
    aspect = xray.pixel_mm[0] / xray.pixel_mm[1]
    top = float(np.percentile(np.maximum(xray.pixels, again.pixels), 99.9)) or 1.0
    rest = again.pixels - xray.pixels
    end = max(float(np.percentile(np.abs(rest), 99.5)), 0.01 * top)
    scale = "line integrals" if xray.values == "line_integral" else "line integrals, scale fitted"
    return [
        (xray.pixels, aspect, f"{xray.view}: input, {scale}, 0 to {top:.2g}", (0, top), "gray"),
        (again.pixels, aspect, f"{xray.view}: the result's own X-ray", (0, top), "gray"),
        (rest, aspect, f"{xray.view}: difference, ± {end:.2g}", (-end, end), "RdBu_r"),
    ]


def _draw(figure: Figure, axes, pixels, aspect: float, title: str, limits, colours: str) -> None:
    axes.imshow(pixels, cmap=colours, vmin=limits[0], vmax=limits[1], aspect=aspect, interpolation="bilinear")
    axes.set_title(title, color=INK, fontsize=8, pad=3)
    axes.set_axis_off()


def png(figure: Figure) -> bytes:
    """The figure as a PNG that carries the disclaimer."""
    stream = BytesIO()
    figure.savefig(stream, format="png", facecolor=figure.get_facecolor(), metadata={"Description": DISCLAIMER})
    return stream.getvalue()
