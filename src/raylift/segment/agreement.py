"""How far values that were found agree with the true ones over many cases."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

FEWEST_FOR_INTERVAL = 6  # ours, as in evaluate: with fewer cases no interval is told
RESAMPLES = 2_000  # ours


def agreement(true: Sequence[float] | np.ndarray, found: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Pearson's r, Spearman's rho and Lin's concordance, each with a 95 % bootstrap interval over the cases, and Bland
    and Altman's bias (found less true) with its limits, ± 1.96 SD. None where there is no such value.
    """
    x, y = np.asarray(true, float), np.asarray(found, float)
    apart = y - x
    bias = float(apart.mean()) if len(x) else None
    spread = 1.96 * float(apart.std(ddof=1)) if len(x) > 1 else None
    return {
        "cases": len(x),
        "pearson": _with_interval(pearson, x, y),
        "spearman": _with_interval(spearman, x, y),
        "concordance": _with_interval(concordance, x, y),
        "bias": bias,
        "limits": None if spread is None else [bias - spread, bias + spread],
    }


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's r, [-1, 1]; NaN where either is constant."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rho, [-1, 1]: Pearson's r of the ranks."""
    return pearson(stats.rankdata(x), stats.rankdata(y))


def concordance(x: np.ndarray, y: np.ndarray) -> float:
    """Lin's concordance, [-1, 1]: 1 only where the values are equal (Lin 1989)."""
    if len(x) < 3 or np.ptp(x) == 0:
        return float("nan")
    shared = ((x - x.mean()) * (y - y.mean())).mean()
    return float(2 * shared / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def _with_interval(measure: Callable, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    value = measure(x, y)
    if not np.isfinite(value):
        return {"value": None, "ci95": None}
    interval = None
    if len(x) >= FEWEST_FOR_INTERVAL:
        rng = np.random.default_rng(0)
        drawn = (rng.integers(len(x), size=len(x)) for _ in range(RESAMPLES))
        values = np.array([measure(x[k], y[k]) for k in drawn])
        values = values[np.isfinite(values)]
        interval = [float(v) for v in np.percentile(values, [2.5, 97.5])] if values.size else None
    return {"value": float(value), "ci95": interval}
