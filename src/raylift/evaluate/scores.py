"""A model's numbers on one split: as a summary, a table, JSON and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from raylift.evaluate.columns import COLUMNS, EVERY, definitions, text_of
from raylift.io.files import write_json, write_text

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
    columns: tuple[str, ...] = tuple(COLUMNS)

    def summary(self) -> dict[str, dict[str, float | list[float] | None]]:
        """Mean, SD (n - 1) and 95 % bootstrap interval of the mean of each column; None where there is none."""
        return {name: summarised([row[name] for row in self.cases.values()]) for name in self.columns}

    def header(self) -> str:
        """What the numbers are of: a line for above the table."""
        low, high = self.window
        failed = f"; {len(self.failed)} FAILED: {', '.join(self.failed)}" if self.failed else ""
        return (
            f"{self.model} on {self.data}, {self.split}, {len(self.cases)} cases{failed}; whole volume of {self.size}³ "
            f"voxels of {self.spacing:g} mm, window {low:g} to {high:g} HU, {'' if self.refine else 'not '}refined; "
            + definitions(self.columns)
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Titles and rows of text: each case, then the mean, the SD and, from six cases on, the interval."""
        rows = [[case, *(text_of(name, row[name]) for name in self.columns)] for case, row in self.cases.items()]
        summary = self.summary()
        for title, key in (("mean", "mean"), ("SD", "sd"), ("95 % CI of the mean", "ci95")):
            if any(summary[name][key] is not None for name in self.columns):
                rows.append([title, *(text_of(name, summary[name][key]) for name in self.columns)])
        rows += [[case, "failed", *[""] * (len(self.columns) - 1)] for case in self.failed]
        return ["case", *(EVERY[name][0] for name in self.columns)], rows

    def record(self) -> dict[str, Any]:
        """Everything as JSON content; a value that is not finite is null."""
        return {
            "version": 1,
            **{k: getattr(self, k) for k in ("model", "data", "split", "split_hash", "size", "spacing", "refine")},
            "window_hu": list(self.window),
            "columns": list(self.columns),
            "definitions": self.header(),
            "cases": {case: {k: _finite(v) for k, v in row.items()} for case, row in self.cases.items()},
            "failed": dict(self.failed),
            "summary": self.summary(),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Scores":
        """The scores of what `record` gave; a value that was not finite is None."""
        names = ("model", "data", "split", "split_hash", "size", "spacing", "refine", "cases", "failed")
        lists = {"window": tuple(record["window_hu"]), "columns": tuple(record["columns"])}
        return cls(**{name: record[name] for name in names}, **lists)

    def csv(self) -> str:
        """One line a case; the window stands in each."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["model", "case", "window_low_hu", "window_high_hu", "refine", *self.columns, "failed"])
        for case, row in self.cases.items():
            values = ["" if row[name] is None else row[name] for name in self.columns]
            writer.writerow([self.model, case, *self.window, self.refine, *values, ""])
        for case, reason in self.failed.items():
            writer.writerow([self.model, case, *self.window, self.refine, *[""] * len(self.columns), reason])
        return text.getvalue()

    def write(self, folder: Path | str) -> None:
        """Write `scores.json` and `scores.csv` into the folder."""
        folder = Path(folder)
        write_json(folder / "scores.json", self.record())
        write_text(folder / "scores.csv", self.csv())


def summarised(values: Sequence[float | None]) -> dict[str, float | list[float] | None]:
    """Mean, SD (n - 1) and 95 % bootstrap interval of the mean (percentiles, from six values on)."""
    known = np.array([value for value in values if value is not None], float)
    none: dict[str, float | list[float] | None] = {"mean": None, "sd": None, "ci95": None}
    if not known.size or not np.isfinite(known).all():
        return none
    interval = _interval(tuple(known.tolist())) if len(known) >= FEWEST_FOR_INTERVAL else None
    sd = float(known.std(ddof=1)) if len(known) > 1 else None
    return {"mean": float(known.mean()), "sd": sd, "ci95": None if interval is None else list(interval)}


@lru_cache(maxsize=4096)
def _interval(values: tuple[float, ...]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, by percentiles."""
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
