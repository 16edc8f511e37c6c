"""A comparison's rows, what their columns mean, and the sentence that comes first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylift.compare.baselines import MEAN, SART
from raylift.compare.statistics import holm, paired_p
from raylift.evaluate import BETTER, EVERY, FEWEST_FOR_INTERVAL, Scores, definitions

FIRST = "psnr"  # ours: the metric that the first sentence is about


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method, refined or not (None: it has no such choice): its scores, cost, run folder and the paper's numbers."""

    label: str
    model: str
    paper: str
    views: tuple[str, ...]
    refined: bool | None
    run: str  # where its run folder lies, seen from the comparison's
    scores: Scores | None  # None: it failed as a whole
    failure: str | None = None
    cost: Mapping[str, float | int | None] = field(default_factory=dict)
    reported: Sequence[Mapping[str, Any]] = ()

    @property
    def title(self) -> str:
        """The label, with how it was refined."""
        return self.label if self.refined is None else f"{self.label}{', refined' if self.refined else ''}"

    def values(self, metric: str) -> dict[str, float | None]:
        """Each case's value."""
        return {} if self.scores is None else {case: row.get(metric) for case, row in self.scores.cases.items()}

    def mean(self, metric: str) -> float | None:
        """The mean over the cases."""
        return None if self.scores is None else self.scores.summary()[metric]["mean"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All rows on one split, and the row that the tests are against."""

    data: str
    profile: str
    split: str
    split_hash: str
    window: tuple[float, float]
    columns: tuple[str, ...]
    reference: str  # a row's title
    rows: tuple[Row, ...]
    each: str = "case"  # what a value is of; a "patient" where a patient's cases were averaged first

    def count(self) -> int:
        """How many cases the fullest row has."""
        return max((len(row.scores.cases) for row in self.rows if row.scores is not None), default=0)

    def p_values(self, metric: str) -> dict[str, float | None]:
        """Title -> p of Wilcoxon's signed-rank test against the reference, Holm-corrected over the other rows."""
        others = [row for row in self.rows if row.title != self.reference]
        base = next((row for row in self.rows if row.title == self.reference), None)
        if base is None or metric not in BETTER:
            return {row.title: None for row in others}
        return holm({row.title: paired_p(row.values(metric), base.values(metric)) for row in others})

    def finding(self) -> str:
        """First which networks lose to SART (mean PSNR of the volume), as they stand best, plain or refined; then which
        lose to the mean of the training CTs.
        """
        sart = {row.views: row.mean(FIRST) for row in self.rows if row.model == SART}
        best = self._best_of_networks()
        if None in sart.values() or not sart or not best:
            return "Nothing can be said against SART: there is no row of a network, or none of SART."
        least = next(row.mean(FIRST) for row in self.rows if row.label == SART)
        cases = f"{self.count()} {self.each}{'s' * (self.count() != 1)}"
        told = ", ".join(f"{' and '.join(views)} {value:.2f} dB" for views, value in sart.items())
        what = (
            f"SART of the same views ({told}; mean volume PSNR of {cases}, each net as it stands best, refined or not)"
        )
        said = [_against(what, best, {label: sart.get(views, least) for label, (views, _) in best.items()})]
        means = [row.mean(FIRST) for row in self.rows if row.model == MEAN and row.mean(FIRST) is not None]
        if means:
            what = f"the mean of the training CTs, which looks at no X-ray ({max(means):.2f} dB)"
            said.append(_against(what, best, dict.fromkeys(best, max(means))))
        return " ".join(said)

    def _best_of_networks(self) -> dict[str, tuple[tuple[str, ...], float]]:
        """Label -> views, and the better mean PSNR of refined and not."""
        found: dict[str, tuple[tuple[str, ...], float]] = {}
        for row in self.rows:
            value = row.mean(FIRST)
            if row.model not in (SART, MEAN) and value is not None:
                found[row.label] = (row.views, max(value, found.get(row.label, (row.views, value))[1]))
        return found

    def header(self) -> str:
        """What the numbers are of, with window, unit, definition and range."""
        low, high = self.window
        failed = sum(len(row.scores.failed) if row.scores is not None else 1 for row in self.rows)
        sizes = sorted({(r.scores.size, r.scores.spacing) for r in self.rows if r.scores is not None})
        cubes = ", ".join(f"{size}³ voxels of {spacing:g} mm" for size, spacing in sizes)
        few = self.count() < FEWEST_FOR_INTERVAL
        tests = (
            f"fewer than {FEWEST_FOR_INTERVAL} {self.each}s: every value is shown, and no interval and no p"
            if few
            else "95 % bootstrap interval of the mean; p of Wilcoxon's signed-rank test, "
            f"paired by {self.each}, against {self.reference}, two-sided, Holm-corrected over the rows of a column"
        )
        return (
            f"{self.data} (profile {self.profile}), split {self.split} ({self.split_hash}), "
            f"{self.count()} {self.each}s, failed {failed}; {cubes}; window {low:g} to {high:g} HU; "
            f"{definitions(self.columns)}; {tests}; GMAC are "
            "true multiply-accumulates of one volume; seconds and MiB are of one volume on this machine"
        )

    def record(self) -> dict[str, Any]:
        """Everything as JSON content; a value that is not finite is null."""
        told = {name: getattr(self, name) for name in ("data", "profile", "split", "split_hash", "reference")}
        p = {metric: self.p_values(metric) for metric in self.columns if metric in BETTER}
        return {
            "version": 1,
            **told,
            "finding": self.finding(),
            "definitions": self.header(),
            "window_hu": list(self.window),
            "columns": {name: EVERY[name][0] for name in self.columns},
            "rows": [self._row_record(row, p) for row in self.rows],
        }

    def _row_record(self, row: Row, p: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
        return {
            **{name: getattr(row, name) for name in ("label", "model", "paper", "refined", "run", "failure")},
            "views": list(row.views),
            "cost": dict(row.cost),
            "reported": [dict(r) for r in row.reported],
            "p": {metric: values.get(row.title) for metric, values in p.items()},
            "scores": None if row.scores is None else row.scores.record(),
        }


def _against(what: str, best: Mapping[str, tuple[tuple[str, ...], float]], bounds: Mapping[str, float]) -> str:
    """Which networks do not come above their bounds, and by how much."""
    lost = {label: bounds[label] - value for label, (_, value) in best.items() if value <= bounds[label]}
    if lost:
        told = ", ".join(f"{label} by {apart:.2f} dB" for label, apart in lost.items())
        return f"{len(lost)} of {len(best)} networks lose to {what}: {told}."
    return f"{'The network is' if len(best) == 1 else f'All {len(best)} networks are'} better than {what}."
