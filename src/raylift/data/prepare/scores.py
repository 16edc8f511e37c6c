"""Mean and SD (HU) of a training set's cubes, for nets that predict standard scores."""

import json
from collections.abc import Iterable, Sequence
from math import sqrt
from pathlib import Path

import numpy as np

from raylift.errors import BadInput
from raylift.physics import Target, ZScore


def moments(hu: np.ndarray) -> list[int]:
    """How many voxels, their sum and the sum of their squares: exact, so that no order of adding changes anything."""
    whole = hu.astype(np.int64)
    return [int(whole.size), int(whole.sum()), int((whole * whole).sum())]


def score_of(parts: Iterable[Sequence[int]]) -> ZScore:
    """The standard score of all voxels together that `moments` tells of.

    >>> score_of([moments(np.array([-10, 10]))])
    ZScore(mean=0.0, sd=10.0)
    """
    count, total, squares = (sum(column) for column in zip(*parts, strict=True))
    return ZScore(mean=total / count, sd=sqrt(max(count * squares - total * total, 0)) / count)


def training_target(declared: Target, cases: Path, train: Sequence[str]) -> Target:
    """What a net learns: for standard scores those of the training cases, where there are any, else `declared`."""
    if not isinstance(declared, ZScore) or not train:
        return declared
    try:
        metas = [json.loads((cases / name / "meta.json").read_text(encoding="utf-8")) for name in train]
        return score_of(meta["moments"] for meta in metas)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{cases}: a case's meta.json is damaged ({error}); prepare the data again") from None
