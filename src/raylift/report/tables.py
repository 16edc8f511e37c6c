"""Numbers as rows: of a result against a true CT, of its X-rays against the real ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from raylift import metrics
from raylift.physics import CHEST_WINDOW
from raylift.types import Volume

METRICS = {"mae": "MAE (HU)", "psnr": "PSNR (dB)", "ssim": "SSIM (3-D)", "cosine": "cosine"}


def scores(ct: Volume, truth: Volume, filled: np.ndarray, window: tuple[float, float] = CHEST_WINDOW) -> dict[str, Any]:
    """The metrics of `ct` against `truth` on the same grid, where the truth is known, and the window (HU).

    An infinite PSNR (no error at all) is None.
    """
    a, b, valid = (torch.as_tensor(np.ascontiguousarray(x)) for x in (ct.hu, truth.hu, filled))
    found = {name: float(getattr(metrics, name)(a.float(), b.float(), window=window, valid=valid)) for name in METRICS}
    found = {name: value if np.isfinite(value) else None for name, value in found.items()}
    return {"window_hu": list(window), "filled": float(filled.mean()), **found}


def score_rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The metrics as (name, value) to print."""
    digits = {"mae": 1, "psnr": 2}
    return [
        (title, "∞" if found[name] is None else f"{found[name]:.{digits.get(name, 4)}f}")
        for name, title in METRICS.items()
    ]


def window_text(found: Mapping[str, Any]) -> str:
    """The window as words."""
    low, high = found["window_hu"]
    return f"volume, window {low:g} to {high:g} HU, where the true CT fills the cube ({found['filled']:.0%})"


def reprojection_rows(errors: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    """(view, relative L2 before, after, mean absolute before, after) as text; a dash where there is none."""
    rows = []
    for view, stages in errors.items():
        cells = [
            "–" if stages[stage] is None else form.format(stages[stage][name])
            for name, form in (("relative_l2", "{:.2%}"), ("mean_abs", "{:.4f}"))
            for stage in ("before", "after")
        ]
        rows.append((view, *cells))
    return rows


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(markdown(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def summary_lines(manifest: Mapping[str, Any]) -> list[str]:
    """A result in some lines of text: the guesses first, then refining, re-projection and scores."""
    lines = [manifest["disclaimer"], *(f"guessed or assumed: {note}" for note in manifest["notes"])]
    agreed = "on" if manifest["refine"]["on"] else "off"
    lines.append(f"agreement with the X-rays: {agreed} ({manifest['refine']['why']})")
    for view, before, after, *_ in reprojection_rows(manifest["reprojection"]):
        lines.append(f"{view}: re-projection error (relative L2) {before} before, {after} after")
    if "truth" in manifest:
        found = ", ".join(f"{name} {value}" for name, value in score_rows(manifest["truth"]))
        lines.append(f"against the true CT: {found} ({window_text(manifest['truth'])})")
    return lines
