"""Structural similarity (Wang et al. 2004), in three dimensions and in slices."""

from collections.abc import Sequence
from math import exp

import torch
from torch import Tensor

from raylift.errors import BadInput
from raylift.metrics.checks import CT, Mask, Truth, Values, Window, clipped, mean, width

K1, K2 = 0.01, 0.03  # Wang et al. 2004


def ssim(a: CT, b: Truth, *, window: Window, valid: Mask = None, kernel: str = "gaussian") -> Values:
    """Structural similarity in three dimensions, [-1, 1], range the window's width; 1 where equal.

    kernel "gaussian": 11³ voxels, SD 1.5, population covariance (Wang et al. 2004); "uniform": 7³, sample covariance
    (scikit-image's default). The mean is over the voxels whose whole neighbourhood lies in the volume.
    """
    a, b, _ = clipped(a, b, window, valid)
    if valid is not None:
        a = torch.where(valid, a, b)
    taps, sample = kernel_taps(kernel)
    check_fits(b, len(taps), (-3, -2, -1))
    unit = [(x - window[0]) / width(window) for x in (a, b)]
    local = local_ssim(*unit, taps, (-3, -2, -1), sample)
    edge = len(taps) // 2
    seen = None if valid is None else valid[..., edge:-edge, edge:-edge, edge:-edge]
    return mean(local, seen)


def ssim_slices(a: CT, b: Truth, *, window: Window, axis: int, valid: Mask = None, kernel: str = "gaussian") -> Values:
    """Mean structural similarity of the slices across `axis` (0: D, 1: H, 2: W), [-1, 1], range the window's width.

    Each slice has windows in its own plane: Gaussian 11 x 11 of SD 1.5, or "uniform" 7 x 7. The mean is over the places
    whose whole neighbourhood lies in the slice; empty slices count, and are 1 where they are met.
    """
    a, b, _ = clipped(a, b, window, valid)
    if valid is not None:
        a = torch.where(valid, a, b)
    plane = tuple(d for d in (-3, -2, -1) if d != axis - 3)
    taps, sample = kernel_taps(kernel)
    check_fits(b, len(taps), plane)
    unit = [(x - window[0]) / width(window) for x in (a, b)]
    local = local_ssim(*unit, taps, plane, sample)
    if valid is not None:
        edge = len(taps) // 2
        for d in plane:
            valid = valid.narrow(d, edge, valid.shape[d] - 2 * edge)
    return mean(local, valid)


def kernel_taps(name: str) -> tuple[list[float], bool]:
    """The taps along one axis, and whether the covariance is the sample's."""
    if name == "uniform":
        return [1 / 7] * 7, True
    if name == "gaussian":
        taps = [exp(-(k**2) / (2 * 1.5**2)) for k in range(-5, 6)]
        return [tap / sum(taps) for tap in taps], False
    raise BadInput(f"SSIM's kernel is 'gaussian' or 'uniform', not '{name}'")


def local_ssim(a: Tensor, b: Tensor, taps: Sequence[float], axes: Sequence[int], sample: bool) -> Tensor:
    """SSIM at each place where the kernel fits; `a` and `b` are on [0, 1]. In float32: twice as fast, 1e-6 off."""
    a, b = a.float(), b.float()
    mean_a, mean_b = _filtered(a, taps, axes), _filtered(b, taps, axes)
    both = mean_a * mean_b
    squares = mean_a.square() + mean_b.square()
    spread = _filtered(a.square() + b.square(), taps, axes) - squares
    shared = _filtered(a * b, taps, axes) - both
    if sample:
        count = len(taps) ** len(axes)
        spread, shared = (x * (count / (count - 1)) for x in (spread, shared))
    c1, c2 = K1**2, K2**2
    return (((2 * both + c1) * (2 * shared + c2)) / ((squares + c1) * (spread + c2))).double()


def _filtered(x: Tensor, taps: Sequence[float], axes: Sequence[int]) -> Tensor:
    """`x` filtered along each axis in turn, only where the kernel fits."""
    for axis in axes:
        length = x.shape[axis] - len(taps) + 1
        out = x.narrow(axis, 0, length) * taps[0]
        for k in range(1, len(taps)):
            out.add_(x.narrow(axis, k, length), alpha=taps[k])
        x = out
    return x


def check_fits(x: Tensor, taps: int, axes: Sequence[int]) -> None:
    """An error where the kernel is larger than the volume."""
    if min(x.shape[axis] for axis in axes) < taps:
        raise BadInput(f"SSIM needs at least {taps} voxels a side, the volume has {tuple(x.shape[-3:])}")
