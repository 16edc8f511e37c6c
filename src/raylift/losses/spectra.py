"""Losses of the volumes' spectra."""

from collections.abc import Sequence
from functools import partial
from math import log

import torch

from raylift.losses.parts import AXES, CT, Mask, Scalar, apart, on_projections


def ffl(
    prediction: CT,
    truth: CT,
    *,
    valid: Mask = None,
    power: float = 1.0,
    dims: Sequence[int] = AXES,
    on: str = "volume",
) -> Scalar:
    """3DSRNet's focal frequency loss (eq. 10): mean of w |F(p) - F(t)|^2, F the orthonormal Fourier transform over
    `dims`, w = |F(p) - F(t)|^power of each volume, divided by its largest value and held constant (the paper omits
    both). `on="projections"` transforms the three mean projections instead, as the released code does.
    """
    if on == "projections":
        return on_projections(partial(ffl, dims=(3, 4), power=power), prediction, truth, valid)
    spectrum = torch.fft.fftn(apart(prediction, truth, valid), dim=tuple(dims), norm="ortho")
    squared = spectrum.real**2 + spectrum.imag**2
    weight = squared.detach() ** (power / 2)
    weight = weight / weight.amax(tuple(dims), keepdim=True).clamp_min(1e-12)
    return (weight * squared).mean()


def frequency(prediction: CT, truth: CT, *, valid: Mask = None, floor: float = 1e-6, exact: bool = False) -> Scalar:
    """EAR's frequency loss (eqs. 7, 8): log10 of the spectra's mean squared distance, real and imaginary parts added,
    over `floor`: log10(1 + d / floor), 0 at a match. `exact` is the paper's log10(d), which falls without end there.
    """
    spectrum = torch.fft.fftn(apart(prediction, truth, valid), dim=AXES, norm="ortho")
    distance = (spectrum.real**2).mean() + (spectrum.imag**2).mean()
    return distance.log10() if exact else torch.log1p(distance / floor) / log(10)
