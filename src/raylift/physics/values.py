"""From Hounsfield units to what a detector sees, and back. Each conversion stands beside its inverse.

Works on numpy arrays and torch tensors alike. Attenuation is that of 60 keV photons unless an argument says
otherwise; below -1000 HU there is nothing to attenuate, so round trips hold from there up.
"""

from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

MU_WATER = 0.02059  # 1/mm at 60 keV: 0.2059 cm2/g (NIST, through xraydb 4.5.8) at 1 g/cm3
CHEST_WINDOW = (-1024.0, 1476.0)  # HU; X2CT-GAN's [0, 2500] of HU + 1024
VACUUM_HU = -1000.0  # what attenuates nothing

Array = Any  # numpy array or torch tensor


def hu_to_mu(hu: Array, mu_water: float = MU_WATER, floor_hu: float = VACUUM_HU) -> Array:
    """Linear attenuation in 1/mm, never negative.

    A `floor_hu` above -1000 is the threshold of ITK's ray caster: what lies below it adds nothing, and the rest adds
    what it is above it, which is no attenuation any more.

    >>> float(hu_to_mu(np.float64(0.0)))
    0.02059
    """
    return mu_water * (hu / 1000 - floor_hu / 1000).clip(0)


def mu_to_hu(mu: Array, mu_water: float = MU_WATER) -> Array:
    """Hounsfield units of an attenuation in 1/mm."""
    return (mu / mu_water - 1) * 1000


def line_integral_to_intensity(integral: Array, air: float = 1.0) -> Array:
    """What arrives of `air` behind a line integral (Beer-Lambert, one energy)."""
    return air * (torch.exp(-integral) if isinstance(integral, Tensor) else np.exp(-integral))


def intensity_to_line_integral(intensity: Array, air: float = 1.0, darkest: float = 1e-6) -> Array:
    """Line integrals of intensities; below `darkest` of `air` (a dead pixel) nothing can be told apart."""
    ratio = (intensity / air).clip(darkest)
    return -(torch.log(ratio) if isinstance(ratio, Tensor) else np.log(ratio))


def hu_to_unit(hu: Array, window: tuple[float, float]) -> Array:
    """[0, 1] over `window` (HU), clipped outside it."""
    low, high = window
    return ((hu - low) / (high - low)).clip(0, 1)


def unit_to_hu(unit: Array, window: tuple[float, float]) -> Array:
    """HU of a value over `window`; what lies outside [0, 1] is not clipped."""
    low, high = window
    return unit * (high - low) + low


@dataclass(frozen=True)
class Unit:
    """A net that predicts [0, 1] over a fixed window of HU."""

    window: tuple[float, float]

    def encode(self, hu: Array) -> Array:
        """HU to the net's scale."""
        return hu_to_unit(hu, self.window)

    def decode(self, value: Array) -> Array:
        """The net's scale to HU, clipped to the window."""
        return unit_to_hu(value.clip(0, 1), self.window)


@dataclass(frozen=True)
class ZScore:
    """A net that predicts standard scores with the training set's mean and SD (HU)."""

    mean: float
    sd: float

    def encode(self, hu: Array) -> Array:
        """HU to the net's scale."""
        return (hu - self.mean) / self.sd

    def decode(self, value: Array) -> Array:
        """The net's scale to HU."""
        return value * self.sd + self.mean


Target = Unit | ZScore


def xray_to_input(xrays: Float[Tensor, "*b rows cols"]) -> Float[Tensor, "*b rows cols"]:
    """A net's view of an X-ray, the same in training and in use: each picture's 0.5 and 99.5 percentiles
    (line-integral polarity, dense is high) to 0 and 1, clipped. A constant picture becomes 0.
    """
    flat = xrays.flatten(-2).float()
    low, high = torch.quantile(flat, torch.tensor([0.005, 0.995], device=flat.device), dim=-1)
    span = (high - low).clamp_min(1e-6)[..., None, None]
    return ((xrays - low[..., None, None]) / span).clip(0, 1).to(xrays.dtype)


def automatic_gamma(pictures: Float[Tensor, "*b rows cols"], target: float) -> Float[Tensor, "*b rows cols"]:
    """Pictures of [0, 1], each raised to the power that takes its own mean to `target` (3DSRNet IV-A1).

    One that is black or white all over stays as it is.
    """
    mean = pictures.flatten(-2).float().mean(-1)
    plain = (mean <= 1e-6) | (mean >= 1 - 1e-6)
    power = torch.where(plain, 1.0, log(target) / torch.where(plain, 0.5, mean).log())
    return pictures ** power[..., None, None].to(pictures.dtype)
