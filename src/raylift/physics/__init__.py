"""From Hounsfield units to what a detector sees, and back. Each conversion stands beside its inverse.

`values` holds the scales (HU, mu, line integral, intensity, a net's input), `materials` and `spectrum` what one
voxel and one tube are made of, `exposure` what a detector makes of both, `hardening` the way back from there.
docs/physics.md has the equations and where each number comes from.
"""

from raylift.physics.exposure import DETECTORS, Exposure, exposed
from raylift.physics.hardening import air_value, effective_mu_water, flat_fielded, linearised, water_line_integrals
from raylift.physics.materials import MATERIALS, Tissues, attenuation, densities, mass_density
from raylift.physics.pictures import blurred, collimated, noisy, scattered
from raylift.physics.spectrum import SPECTRA, Spectrum, filtered, half_value_layer_mm, spectrum
from raylift.physics.values import (
    CHEST_WINDOW,
    MU_WATER,
    VACUUM_HU,
    Array,
    Target,
    Unit,
    ZScore,
    automatic_gamma,
    hu_to_mu,
    hu_to_unit,
    intensity_to_line_integral,
    line_integral_to_intensity,
    mu_to_hu,
    unit_to_hu,
    xray_to_input,
)

__all__ = [
    "CHEST_WINDOW",
    "DETECTORS",
    "MATERIALS",
    "MU_WATER",
    "SPECTRA",
    "VACUUM_HU",
    "Array",
    "Exposure",
    "Spectrum",
    "Target",
    "Tissues",
    "Unit",
    "ZScore",
    "air_value",
    "attenuation",
    "automatic_gamma",
    "blurred",
    "collimated",
    "densities",
    "effective_mu_water",
    "exposed",
    "filtered",
    "flat_fielded",
    "half_value_layer_mm",
    "hu_to_mu",
    "hu_to_unit",
    "intensity_to_line_integral",
    "line_integral_to_intensity",
    "linearised",
    "mass_density",
    "mu_to_hu",
    "noisy",
    "scattered",
    "spectrum",
    "unit_to_hu",
    "water_line_integrals",
    "xray_to_input",
]
