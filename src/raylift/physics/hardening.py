"""From intensities back to line integrals: the air value, and water's own beam hardening taken out."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from raylift.errors import BadInput
from raylift.physics.exposure import transmitted
from raylift.physics.spectrum import spectrum
from raylift.physics.values import MU_WATER, intensity_to_line_integral

THICKEST_MM, STEP_MM = 1000.0, 2.0  # ours: of the table of water
AIR_PERCENTILE = 99.9  # ours: as many pixels are taken for unattenuated and noise above it


def flat_fielded(
    raw: Float[Tensor, "*b rows cols"],
    flat: Float[Tensor, "*b rows cols"],
    dark: Float[Tensor, "*b rows cols"] | float = 0.0,
) -> Float[Tensor, "*b rows cols"]:
    """Intensities, 1 in air, of what a panel counted: `flat` without a patient, `dark` without X-rays."""
    open_field = torch.as_tensor(flat - dark)
    if not (open_field > 0).all():
        raise BadInput("the flat field is not above the dark field everywhere; mask those pixels first")
    return (raw - dark) / open_field


def air_value(intensity: Float[Tensor, "*b rows cols"]) -> Float[Tensor, "*b 1 1"]:
    """Each picture's unattenuated intensity, estimated: its 99.9 percentile. Too low where the body fills it."""
    if not (intensity > 0).flatten(-2).any(-1).all():
        raise BadInput("a picture holds no intensity above 0; it has no air value")
    return torch.quantile(intensity.flatten(-2), AIR_PERCENTILE / 100, dim=-1)[..., None, None]


def water_line_integrals(
    thick_mm: Float[Tensor, "*b"], spectrum_name: str, detector: str = "energy"
) -> Float[Tensor, "*b"]:
    """-ln of the intensity behind so much water: below a straight line wherever there is more than one energy."""
    mean, _ = transmitted(thick_mm[None] / 10, ["water"], spectrum(spectrum_name), detector)  # g/cm2 at 1 g/cm3
    return -mean.log()


def effective_mu_water(spectrum_name: str, thick_mm: float, detector: str = "energy") -> float:
    """1/mm: the one attenuation that gives the same intensity behind `thick_mm` of water; it falls with thickness.

    >>> effective_mu_water("60keV", 200.0) == round(effective_mu_water("60keV", 20.0), 12)  # one energy: it does not
    True
    """
    if not thick_mm > 0:
        raise BadInput(f"an effective attenuation needs some thickness, not {thick_mm:g} mm")
    thick = torch.tensor([thick_mm], dtype=torch.float64)
    return round(float(water_line_integrals(thick, spectrum_name, detector)) / thick_mm, 12)


def linearised(
    intensity: Float[Tensor, "*b rows cols"],
    spectrum_name: str,
    *,
    air: Float[Tensor, "*b 1 1"] | float = 1.0,
    detector: str = "energy",
    darkest: float = 1e-6,
) -> Float[Tensor, "*b rows cols"]:
    """Line integrals at 60 keV of the water that would let as much through; exact for water, too high for bone.

    `darkest` is the least share of `air` that can be told from nothing.
    """
    thick = torch.arange(0, THICKEST_MM + STEP_MM, STEP_MM, dtype=torch.float64)
    curve = water_line_integrals(thick, spectrum_name, detector).numpy()
    seen = intensity_to_line_integral(intensity.double(), air, darkest).clamp_min(0).cpu().numpy()
    water_mm = np.interp(seen, curve, thick.numpy())
    return torch.from_numpy(water_mm * MU_WATER).to(intensity)
