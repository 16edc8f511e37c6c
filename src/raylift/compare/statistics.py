"""Paired comparison of methods on the same cases: Wilcoxon's signed-rank test, corrected by Holm for their number."""

from collections.abc import Mapping

import numpy as np
from scipy.stats import wilcoxon

from raylift.evaluate import FEWEST_FOR_INTERVAL

Values = Mapping[str, float | None]  # case -> value


def paired_p(a: Values, b: Values) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test over the cases that both have; 1 where no case differs.

    None with fewer than six such cases: with five the smallest p there can be is 0.06.
    """
    shared = [case for case in a if case in b and a[case] is not None and b[case] is not None]
    apart = np.array([a[case] - b[case] for case in shared], float)
    if len(apart) < FEWEST_FOR_INTERVAL or not np.isfinite(apart).all():
        return None
    return 1.0 if not apart.any() else float(wilcoxon(apart).pvalue)


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Each p corrected by Holm's method for how many there are; None stays None and is not counted.

    >>> holm({"a": 0.01, "b": 0.04, "c": None})
    {'a': 0.02, 'b': 0.04, 'c': None}
    """
    known = sorted((name for name, p in p_values.items() if p is not None), key=lambda name: p_values[name])
    corrected, reached = dict.fromkeys(p_values), 0.0
    for place, name in enumerate(known):
        reached = max(reached, min(1.0, (len(known) - place) * p_values[name]))
        corrected[name] = reached
    return corrected
