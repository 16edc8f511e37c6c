"""How well a model does on a data set's split: each case's numbers, their mean, SD and confidence interval."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from raylift import metrics
from raylift.data import store
from raylift.data.atomic import write_file, write_json
from raylift.data.store import Case, open_dataset
from raylift.errors import BadInput, RayliftError
from raylift.estimate import Choice, run
from raylift.fit import check_fit
from raylift.models.spec import Model
from raylift.reconstruct import device_of, find_model, load_net

COLUMNS = {  # name -> title, digits
    "mae": ("MAE (HU)", 1),
    "mse": ("MSE (HU²)", 0),
    "psnr": ("PSNR (dB)", 2),
    "ssim": ("SSIM (3-D)", 4),
    "cosine": ("cosine", 4),
    "reprojection_before": ("re-projection before", 4),
    "reprojection_after": ("re-projection after", 4),
    "seconds": ("seconds", 2),
}
FEWEST_FOR_INTERVAL = 6  # ours: with fewer cases every value is shown and no interval
RESAMPLES = 10_000  # ours


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A model's numbers on one split; `cases` maps a case to its values (None: there is no such value)."""

    model: str
    data: str
    split: str
    split_hash: str
    window: tuple[float, float]  # HU
    size: int  # voxels a side
    spacing: float  # mm
    refine: bool
    cases: Mapping[str, Mapping[str, float | None]]
    failed: Mapping[str, str] = field(default_factory=dict)  # case -> reason

    def summary(self) -> dict[str, dict[str, float | list[float] | None]]:
        """Mean, SD (n - 1) and 95 % bootstrap interval of the mean of each column; None where there is none."""
        return {name: summarised([row[name] for row in self.cases.values()]) for name in COLUMNS}

    def header(self) -> str:
        """What the numbers are of: a line for above the table."""
        low, high = self.window
        failed = f"; {len(self.failed)} FAILED: {', '.join(self.failed)}" if self.failed else ""
        return (
            f"{self.model} on {self.data}, {self.split}, {len(self.cases)} cases{failed}; whole volume of {self.size}³ "
            f"voxels of {self.spacing:g} mm, window {low:g} to {high:g} HU, {'' if self.refine else 'not '}refined; "
            "SSIM 3-D, Gaussian 11³ of SD 1.5; re-projection |Ax - b| / |b|, mean of the views"
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Titles and rows of text: each case, then the mean, the SD and, from six cases on, the interval."""
        rows = [[case, *(_text(name, row[name]) for name in COLUMNS)] for case, row in self.cases.items()]
        summary = self.summary()
        for title, key in (("mean", "mean"), ("SD", "sd"), ("95 % CI of the mean", "ci95")):
            if any(summary[name][key] is not None for name in COLUMNS):
                rows.append([title, *(_text(name, summary[name][key]) for name in COLUMNS)])
        rows += [[case, "failed", *[""] * (len(COLUMNS) - 1)] for case in self.failed]
        return ["case", *(title for title, _ in COLUMNS.values())], rows

    def record(self) -> dict[str, Any]:
        """Everything as JSON content; a value that is not finite is null."""
        return {
            "version": 1,
            **{k: getattr(self, k) for k in ("model", "data", "split", "split_hash", "size", "spacing", "refine")},
            "window_hu": list(self.window),
            "definitions": self.header(),
            "cases": {case: {k: _finite(v) for k, v in row.items()} for case, row in self.cases.items()},
            "failed": dict(self.failed),
            "summary": self.summary(),
        }

    def csv(self) -> str:
        """One line a case; the window stands in each."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["model", "case", "window_low_hu", "window_high_hu", "refine", *COLUMNS, "failed"])
        for case, row in self.cases.items():
            values = ["" if row[name] is None else row[name] for name in COLUMNS]
            writer.writerow([self.model, case, *self.window, self.refine, *values, ""])
        for case, reason in self.failed.items():
            writer.writerow([self.model, case, *self.window, self.refine, *[""] * len(COLUMNS), reason])
        return text.getvalue()

    def write(self, folder: Path | str) -> None:
        """Write `scores.json` and `scores.csv` into the folder."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "scores.json", self.record())
            write_file(folder / "scores.csv", lambda path: path.write_text(self.csv(), encoding="utf-8"))
        except OSError as error:
            raise BadInput(f"{folder} cannot be written: {error.strerror}") from None


def evaluate(
    model_or_run: str | PathLike,
    dataset_folder: Path | str,
    *,
    split: str = "test",
    window: tuple[float, float],
    refine: bool | None = None,
    device: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Scores:
    """The scores of a model's name or a run's folder on a split of a data set, within `window` (HU).

    `refine` None means: where the rays are complete. `progress` is called with (done, all, case). A case that fails
    is named in the scores with its reason, and the rest goes on.
    """
    dataset = open_dataset(dataset_folder)
    model, folder = find_model(model_or_run)
    check_fit(model, dataset)
    if refine and not dataset.complete_rays:
        raise BadInput(
            f"{dataset.folder}: its cubes are a part of what the rays crossed, so nothing can be refined by them; "
            "leave --refine out"
        )
    chosen = dataset.splits.get(split) or dataset.cases(split)  # an unknown split's name is an error here
    if not chosen:
        raise BadInput(f"{dataset.folder}: its split '{split}' has no case")
    on = dataset.complete_rays if refine is None else refine
    place = device_of(device)
    net = load_net(model, folder).to(place)
    found, failed = {}, {}
    for number, name in enumerate(chosen):
        try:
            found[name] = score(model, net, dataset.case(name), window=window, refine=on, device=place)
        except (RayliftError, OSError) as error:
            failed[name] = str(error)
        if progress is not None:
            progress(number + 1, len(chosen), name)
    if not dataset.complete_rays:
        for row in found.values():
            row["reprojection_before"] = None
    return Scores(
        model=Path(model_or_run).name if folder is not None else model.name,
        data=dataset.folder.name,
        split=split,
        split_hash=dataset.split_hash,
        window=window,
        size=model.size,
        spacing=model.spacing,
        refine=on,
        cases=found,
        failed=failed,
    )


@torch.no_grad()
def score(
    model: Model, net: nn.Module, case: Case, *, window: tuple[float, float], refine: bool, device: torch.device
) -> dict[str, float | None]:
    """One case's values; the truth is the case's CT averaged down to the model's size."""
    batch = store.load_batch([case], views=model.views, size=model.size).to(device)
    choice = Choice(on=refine, unknown_scale=False, why="the data set's own rays")
    begun = perf_counter()
    found = run(model, net, batch.xrays[0], batch.beams[0], choice)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = perf_counter() - begun
    truth, valid = batch.hu[0, 0], None if batch.valid is None else batch.valid[0, 0]
    names = ("mae", "mse", "psnr", "ssim", "cosine")
    values = {n: float(getattr(metrics, n)(found.hu, truth, window=window, valid=valid)) for n in names}
    errors = {f"reprojection_{when}": _over_views(found.errors, when) for when in ("before", "after")}
    return {**values, **errors, "seconds": seconds}


def _over_views(errors: Mapping[str, Mapping[str, Any]], when: str) -> float | None:
    """The mean over the views of |Ax - b| / |b|; None where nothing was measured."""
    found = [stages[when]["relative_l2"] for stages in errors.values() if stages[when] is not None]
    return float(np.mean(found)) if found else None


def summarised(values: Sequence[float | None]) -> dict[str, float | list[float] | None]:
    """Mean, SD (n - 1) and 95 % bootstrap interval of the mean (percentiles, from six values on)."""
    known = np.array([value for value in values if value is not None], float)
    none: dict[str, float | list[float] | None] = {"mean": None, "sd": None, "ci95": None}
    if not known.size or not np.isfinite(known).all():
        return none
    interval = None
    if len(known) >= FEWEST_FOR_INTERVAL:
        drawn = np.random.default_rng(0).choice(known, (RESAMPLES, len(known))).mean(1)
        interval = [float(x) for x in np.percentile(drawn, [2.5, 97.5])]
    sd = float(known.std(ddof=1)) if len(known) > 1 else None
    return {"mean": float(known.mean()), "sd": sd, "ci95": interval}


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _text(name: str, value: float | Sequence[float] | None) -> str:
    """A cell: the value with the column's digits, an interval, or a dash."""
    if value is None:
        return "–"
    digits = COLUMNS[name][1]
    if isinstance(value, (list, tuple)):
        return " to ".join(f"{x:.{digits}f}" for x in value)
    return f"{value:.{digits}f}"
