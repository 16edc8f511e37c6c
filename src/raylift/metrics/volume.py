"""Metrics of whole volumes, voxel by voxel; see the package's docstring for the window and the mask."""

import torch
from jaxtyping import Float
from torch import Tensor

from raylift.errors import BadInput
from raylift.metrics.checks import CT, Mask, Truth, Values, Window, check, clipped, decibel, inside, mean, width


def mae(a: CT, b: Truth, *, window: Window, valid: Mask = None) -> Values:
    """Mean absolute error, HU; 0 or more."""
    return mean((clipped(a, b, window, valid)[2]).abs(), valid)


def mse(a: CT, b: Truth, *, window: Window, valid: Mask = None) -> Values:
    """Mean squared error, HU²; 0 or more."""
    return mean(clipped(a, b, window, valid)[2] ** 2, valid)


def rmse(a: CT, b: Truth, *, window: Window, valid: Mask = None) -> Values:
    """Root of the mean squared error, HU; 0 or more."""
    return mse(a, b, window=window, valid=valid).sqrt()


def psnr(a: CT, b: Truth, *, window: Window, valid: Mask = None) -> Values:
    """Peak signal-to-noise ratio of the whole volume, dB; the peak is the window's width. Equal volumes: inf."""
    return decibel(mse(a, b, window=window, valid=valid), width(window))


def psnr_slices(a: CT, b: Truth, *, window: Window, axis: int, valid: Mask = None) -> Values:
    """Mean PSNR of the slices across `axis` (0: D, 1: H, 2: W), dB, peak the window's width.

    Slices in which `b`, the truth, is one value throughout (air) or nothing is valid are left out; if none is left,
    that is an error. A slice that is met exactly makes the mean inf.
    """
    _, truth, difference = clipped(a, b, window, valid)
    dim = axis - 3
    others = [d for d in (-3, -2, -1) if d != dim]
    filled = torch.ones_like(truth, dtype=torch.bool) if valid is None else valid
    count = filled.sum(others)
    highest = torch.where(filled, truth, -torch.inf).amax(others)
    lowest = torch.where(filled, truth, torch.inf).amin(others)
    kept = (count > 0) & (highest > lowest)
    if not kept.any(-1).all():
        raise BadInput(f"no slice across {'DHW'[axis]} shows anything within the window {window}")
    errors = torch.where(filled, difference**2, 0).sum(others) / count.clamp_min(1)
    levels = decibel(errors, width(window))
    return torch.where(kept, levels, 0).sum(-1) / kept.sum(-1)


def cosine(a: CT, b: Truth, *, window: Window, valid: Mask = None) -> Values:
    """Cosine of the angle between the volumes, [0, 1], each as a fraction of the window (X2CT-GAN, original code).

    1 where both are at the window's floor throughout, 0 where only one is.
    """
    a, b, _ = clipped(a, b, window, valid)
    a, b = (inside((x - window[0]) / width(window), valid) for x in (a, b))
    product = (a * b).sum((-3, -2, -1))
    lengths = a.square().sum((-3, -2, -1)).sqrt() * b.square().sum((-3, -2, -1)).sqrt()
    both = (a == 0).all(-1).all(-1).all(-1) & (b == 0).all(-1).all(-1).all(-1)
    return torch.where(both, 1.0, product / lengths.clamp_min(1e-300)).clamp(0, 1)


def reprojection_error(again: Float[Tensor, "V rows cols"], xrays: Float[Tensor, "U P Q"]) -> float:
    """How far the reconstruction's own X-rays are from the measured ones: |again - xrays| / |xrays|, 0 or more.

    Line integrals; Euclidean norms over all views' pixels.
    """
    check(again, xrays, "re-projected and measured X-rays")
    size = xrays.double().norm()
    if size == 0:
        raise BadInput("the measured X-rays are 0 throughout, so a re-projection error has no scale")
    return float((again.double() - xrays.double()).norm() / size)
