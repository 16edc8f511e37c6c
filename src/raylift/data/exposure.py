"""X-rays of a CT as a detector measures them: materials projected in one call, then `physics` for each pixel."""

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
import torch

from raylift.errors import BadInput
from raylift.physics import Exposure, Tissues, densities, exposed, linearised
from raylift.projector import project
from raylift.types import Beam, ConeBeam, Vector, View, Volume

NOISELESS_DARKEST = 1e-9  # ours: of the air value; without noise there is no photon count to bound it
PRESET_EXPOSURES = {
    # EAR 3.1: 60 kV, 3.5 mm Al, over 1e6 photons, scatter (how much is not said: ours)
    "ear": Exposure(spectrum="60KV_AL35", photons=1e6, scatter=0.1),
}


def exposure_of(preset: str, **settings: object) -> Exposure | None:
    """The preset's exposure with those of `settings` that are not None; None where neither says anything.

    Settings are those of `Exposure` and of its `Tissues`. Without a spectrum the photons have 60 keV.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    known = PRESET_EXPOSURES.get(preset)
    if not given:
        return known
    base = known or Exposure(spectrum="60KEV")
    tissues = {field.name: given.pop(field.name) for field in fields(Tissues) if field.name in given}
    return replace(base, tissues=replace(base.tissues, **tissues), **given)


def exposures(
    volume: Volume, beams: Mapping[View, Beam], exposure: Exposure, isocentre_mm: Vector, seed: int
) -> np.ndarray:
    """X-rays (V rows cols) of `volume`, float32, in `exposure.values`: intensities (1 in air) or line integrals."""
    hu = torch.from_numpy(volume.hu.astype(np.float32))
    grams = densities(hu, exposure.tissues) / 10  # g/cm3 to g/cm2 for each mm of ray
    areas = project(grams, volume.grid, list(beams.values()), backend="cpu")  # M V rows cols
    generator = torch.Generator().manual_seed(seed)
    pictures = []
    for view, beam in enumerate(beams.values()):
        seen = exposed(
            areas[:, view],
            exposure,
            pixel_mm=beam.pixel_mm,
            magnification=beam.magnification(isocentre_mm) if isinstance(beam, ConeBeam) else 1.0,
            generator=generator,
        )
        pictures.append(seen.numpy().astype(np.float32))
    if exposure.values == "line_integral":
        pictures = [integrals(picture, exposure) for picture in pictures]
    return np.stack(pictures)


def integrals(intensity: np.ndarray, exposure: Exposure) -> np.ndarray:
    """Line integrals at 60 keV estimated from intensities (1 in air): water's beam hardening is taken out, scatter and
    what bone hardens more are left in. A pixel without a photon counts as one with half a photon."""
    darkest = 0.5 / exposure.photons if exposure.photons else NOISELESS_DARKEST
    return linearised(
        torch.from_numpy(intensity), exposure.spectrum, detector=exposure.detector, darkest=darkest
    ).numpy()


def jittered(beams: Mapping[View, Beam], by_mm: float, seed: int) -> dict[View, Beam]:
    """The beams with each source moved along each axis by up to `by_mm` either way, evenly drawn (XctNet 3.1)."""
    if not 0 <= by_mm <= 1000:
        raise BadInput(f"a source is moved by 0 to 1000 mm, not {by_mm:g}")
    draw = np.random.default_rng(seed)
    moved = {}
    for view, beam in beams.items():
        step = draw.uniform(-by_mm, by_mm, 3) if by_mm else np.zeros(3)
        moved[view] = replace(beam, source_mm=tuple(np.add(beam.source_mm, step))) if by_mm else beam
    return moved
