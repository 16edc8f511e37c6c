"""What the losses are made of: precision, the valid voxels, and projections that are means."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CT = Float[Tensor, "B 1 D H W"]
Mask = Bool[Tensor, "B 1 D H W"] | None
Scalar = Float[Tensor, ""]
AXES = (2, 3, 4)


def full(x: Tensor) -> Tensor:
    """At least float32: mixed precision ends where a loss begins."""
    return x if x.dtype == torch.float64 else x.float()


def apart(prediction: CT, truth: CT, valid: Mask) -> CT:
    """Prediction minus truth, 0 where nothing is valid."""
    difference = full(prediction) - full(truth)
    return difference if valid is None else torch.where(valid, difference, 0)


def inside(x: CT, valid: Mask) -> CT:
    """`x`, 0 where nothing is valid."""
    return full(x) if valid is None else torch.where(valid, full(x), 0)


def mean_over(x: Tensor, valid: Tensor | None) -> Scalar:
    """The mean over what is valid; 0 where nothing is."""
    if valid is None:
        return x.mean()
    return torch.where(valid, x, 0).sum() / valid.sum().clamp_min(1)


def mean_projection(x: CT, axis: int, valid: Mask = None) -> Float[Tensor, "B 1 rows cols"]:
    """The mean of |x| along `axis`, over what is valid."""
    if valid is None:
        return full(x).abs().mean(axis)
    return inside(x, valid).abs().sum(axis) / valid.sum(axis).clamp_min(1)


def on_projections(loss: Callable[..., Scalar], prediction: CT, truth: CT, valid: Mask) -> Scalar:
    """The mean of `loss` over the three mean projections, each as a volume one voxel deep."""
    terms = []
    for axis in AXES:
        terms.append(loss(*(mean_projection(x, axis, valid)[:, :, None] for x in (prediction, truth))))
    return torch.stack(terms).mean()
