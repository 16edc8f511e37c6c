"""Torsos with a pneumothorax of stated volume: which side or both, how much, and in which posture, drawn by lot."""

import numpy as np
from numpy.random import Generator

from raylift.data.phantom.torso import POSTURES, Phantom, torso
from raylift.types import Grid

SIDES = ("right", "left", "both")
MOST_ML = 2000.0  # of both sides together  # issue 6
LARGEST_SHARE = 0.6  # ours: of a lung as it was
LEAST_ML = 20.0  # ours: a rim of a millimetre
UPPERMOST = {"right": "left-down", "left": "right-down"}  # lying on the other side


def pneumothorax(
    seed: int | Generator,
    *,
    grid: Grid | None = None,
    ml: float | None = None,
    side: str | None = None,
    posture: str | None = None,
    noise_hu: float = 0.0,
    **fixed,
) -> Phantom:
    """A torso with a pneumothorax; what is not given is drawn by lot: 20 to 2000 ml, at most 60 % of a lung.

    `ml` counts both sides together. The truth has the volume of each side's air and of what is left of its lung.
    """
    rng = seed if isinstance(seed, Generator) else np.random.default_rng(seed)
    side = side or str(rng.choice(SIDES))
    posture = posture or str(rng.choice(["supine", "upright", UPPERMOST.get(side, "supine")]))
    share, body = float(rng.beta(1, 1.5)), int(rng.integers(2**31))
    parts = {"right": 1.0, "left": 0.0} if side == "right" else {"right": 0.0, "left": 1.0}
    if side == "both":
        right = float(rng.uniform(0.2, 0.8))
        parts = {"right": right, "left": 1 - right}
    if ml is None:
        whole = _lungs_ml(body, fixed)
        most = min(MOST_ML, *(LARGEST_SHARE * whole[s] / part for s, part in parts.items() if part))
        ml = LEAST_ML + share * (most - LEAST_ML)
    volumes = {s: part * ml for s, part in parts.items() if part}
    return torso(body, grid=grid, pneumothorax_ml=volumes, posture=posture, noise_hu=noise_hu, **fixed)


def _lungs_ml(body: int, fixed: dict) -> dict[str, float]:
    """The volumes of the same person's whole lungs, on a coarse grid."""
    truth = torso(body, grid=Grid.canonical((80, 80, 112), 5.0), **fixed).truth
    return {side: truth[f"lung_{side}_ml"] for side in ("right", "left")}


__all__ = ["POSTURES", "SIDES", "pneumothorax"]
