"""Losses of the volumes' gradients and edges."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from raylift.losses.parts import AXES, CT, Mask, Scalar, full, inside, mean_over, on_projections


def steps(x: Tensor, axis: int) -> Tensor:
    """x[i + 1] - x[i] along `axis`."""
    return x.narrow(axis, 1, x.shape[axis] - 1) - x.narrow(axis, 0, x.shape[axis] - 1)


def igdl(
    prediction: CT, truth: CT, *, valid: Mask = None, axes: Sequence[int] = AXES, power: float = 1.0, on: str = "volume"
) -> Scalar:
    """3DSRNet's image gradient difference (eq. 7): mean of ||grad p| - |grad t||^power, summed over the axes.

    The paper's brackets leave the outer modulus out; without it opposite errors would cancel. `axes=(3, 4)` are the
    paper's two; `on="projections"` compares the three mean projections instead, as the released code does.
    """
    if on == "projections":
        return on_projections(partial(igdl, axes=(3, 4), power=power), prediction, truth, valid)
    total = torch.zeros((), device=prediction.device, dtype=full(prediction).dtype)
    for axis in axes:
        unlike = steps(full(prediction), axis).abs() - steps(full(truth), axis).abs()
        size = prediction.shape[axis] - 1
        both = None if valid is None else valid.narrow(axis, 1, size) & valid.narrow(axis, 0, size)
        total = total + mean_over(unlike.abs() ** power, both)
    return total


def soft_edges(x: CT, scale: float = 1.0) -> CT:
    """How much of an edge each voxel is, in [0, 1): 1 - exp(-|grad x| / scale), central differences."""
    padded = F.pad(full(x), (1,) * 6, mode="replicate")
    squared = torch.zeros_like(full(x))
    for axis in AXES:
        core = padded
        for other in AXES:
            if other != axis:
                core = core.narrow(other, 1, x.shape[other])
        n = x.shape[axis]
        squared = squared + ((core.narrow(axis, 2, n) - core.narrow(axis, 0, n)) / 2) ** 2
    return 1 - torch.exp(-((squared + 1e-12).sqrt()) / scale)


def edge(
    prediction: CT, truth: CT, *, valid: Mask = None, scale: float = 1.0, floor: float = 1e-6, on: str = "volume"
) -> Scalar:
    """EAR's edge loss (eq. 6): binary cross-entropy of the prediction's soft edges against the truth's.

    Least, but not 0, at a match: what is left is the truth's own entropy. The paper does not define E. With
    `on="map"` the prediction is a map of edges already, as EAR's "edge_map".
    """
    wanted = soft_edges(inside(truth, valid), scale)
    drawn = full(prediction) if on == "map" else soft_edges(inside(prediction, valid), scale)
    drawn = drawn.clamp(floor, 1 - floor)
    return mean_over(-(wanted * drawn.log() + (1 - wanted) * (1 - drawn).log()), valid)
