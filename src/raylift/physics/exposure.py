"""An X-ray of real photons: grams along each ray in, the intensity that a detector shows out (1 where only air is)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from raylift.errors import BadInput, unknown_name
from raylift.physics.materials import Tissues, attenuation
from raylift.physics.pictures import blurred, collimated, noisy, scattered
from raylift.physics.spectrum import Spectrum, spectrum

CSI_G_CM2 = 0.27  # ours: 0.6 mm of caesium iodide (4.51 g/cm3), a usual flat panel
DETECTORS = ("energy", "photon", "csi")
RAYS_AT_ONCE = 1 << 15  # ours: 15 MB for 110 energies
FWHM = 2.3548  # of a Gaussian, in standard deviations


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """How one X-ray is taken. Without `photons` it is free of noise; lengths are at the panel, in mm."""

    spectrum: str = "120KV_AL35"  # a name that `physics.spectrum` knows
    detector: str = "energy"  # ideal and energy-integrating; 'photon': counts; 'csi': 0.6 mm of caesium iodide
    photons: float | None = None  # a pixel in air
    scatter: float = 0.0  # ratio of scatter to primary behind a slab that lets 1/e through
    scatter_mm: float = 120.0  # full width at half maximum of the scatter's kernel  # ours
    focal_spot_mm: float = 0.0  # side of the focal spot, at the tube
    blur_mm: float = 0.0  # full width at half maximum of the detector's own blur
    field_mm: tuple[float, float] | None = None  # height and width left open by the collimator
    values: str = "intensity"  # what is handed on; see `hardening.linearised`
    tissues: Tissues = Tissues()

    def __post_init__(self):
        spectrum(self.spectrum)
        if self.detector not in DETECTORS:
            raise unknown_name("detector", self.detector, DETECTORS)
        if self.values not in ("intensity", "line_integral"):
            raise unknown_name("kind of values", self.values, ("intensity", "line_integral"))
        if self.photons is not None and not 1 <= self.photons <= 1e12:
            raise BadInput(f"photons are 1 to 1e12 a pixel, not {self.photons:g}")
        lengths = (self.scatter, self.scatter_mm, self.focal_spot_mm, self.blur_mm, *(self.field_mm or (1.0, 1.0)))
        if not all(0 <= length < 1e4 for length in lengths):
            raise BadInput("scatter, blur, focal spot and field are 0 or more, and below 10000 mm")


def _seen(beam: Spectrum, detector: str) -> tuple[np.ndarray, np.ndarray]:
    """The chance that a photon of each energy is detected, and the signal of one that is."""
    chance = np.ones_like(beam.energy_kev)
    if detector == "csi":
        chance = 1 - np.exp(-attenuation("caesium iodide", beam.energy_kev) * CSI_G_CM2)
    return chance, np.ones_like(beam.energy_kev) if detector == "photon" else beam.energy_kev


def transmitted(
    areas: Float[Tensor, "M *b"], materials: Sequence[str], beam: Spectrum, detector: str = "energy"
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """Signal behind `areas` (g/cm2 of each material), 1 in air, and the mean square of the photons that make it up.

    The second is per photon sent, in units of the signal in air: what quantum noise is made of.
    """
    mu = np.stack([attenuation(name, beam.energy_kev) for name in materials])
    chance, signal = _seen(beam, detector)
    air = (beam.photons * chance * signal).sum()
    weights = np.stack([beam.photons * chance * (signal / air) ** power for power in (1, 2)], -1)
    mu, weights = (torch.from_numpy(x).to(areas.device) for x in (mu, weights))
    rays = areas.flatten(1).T.double()
    parts = [torch.exp(-some @ mu) @ weights for some in rays.split(RAYS_AT_ONCE)]
    mean, square = torch.cat(parts).T.reshape(2, *areas.shape[1:])
    return mean, square


def exposed(
    areas: Float[Tensor, "M *b rows cols"],
    exposure: Exposure,
    *,
    pixel_mm: tuple[float, float],
    magnification: float = 1.0,
    generator: Generator | None = None,
) -> Float[Tensor, "*b rows cols"]:
    """Intensities behind `areas` (g/cm2 of `exposure.tissues.names`): 1 in air without scatter, float64.

    In order: attenuation, focal spot, scatter, collimation, quantum noise, the detector's blur. `magnification` is
    that of the patient's middle; noise needs a `generator`.
    """
    if exposure.photons is not None and generator is None:
        raise BadInput("quantum noise needs a torch.Generator, so that it can be had again")
    beam = spectrum(exposure.spectrum)
    mean, square = transmitted(areas, exposure.tissues.names, beam, exposure.detector)
    spot = exposure.focal_spot_mm * (magnification - 1) / sqrt(12)  # the SD of an even spot  # ours
    mean, square = (blurred(x, _in_pixels(spot, pixel_mm)) for x in (mean, square))
    if exposure.scatter:
        more = scattered(mean, exposure.scatter, _in_pixels(exposure.scatter_mm / FWHM, pixel_mm))
        square = square * (1 + more / mean.clamp_min(1e-300))  # scattered photons reckoned as hard as their neighbours
        mean = mean + more
    if exposure.field_mm is not None:
        mean, square = (collimated(x, pixel_mm, exposure.field_mm) for x in (mean, square))
    if exposure.photons is not None:
        mean = noisy(mean, square, exposure.photons, generator)
    return blurred(mean, _in_pixels(exposure.blur_mm / FWHM, pixel_mm))


def _in_pixels(sigma_mm: float, pixel_mm: tuple[float, float]) -> tuple[float, float]:
    return sigma_mm / pixel_mm[0], sigma_mm / pixel_mm[1]
