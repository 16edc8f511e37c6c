"""What a tungsten tube sends out: its voltage, and what its filters leave of the photons."""

import re
from dataclasses import dataclass

import numpy as np

from raylift.errors import BadInput, unknown_name
from raylift.physics.materials import attenuation
from raylift.physics.tables import columns

DENSITY = {"aluminium": 2.699, "copper": 8.96}  # g/cm3, NIST
SPECTRA: dict[str, tuple[int, float]] = {  # kVp, mm of aluminium
    "60KV_AL35": (60, 3.5),  # EAR 3.1 (printed there as 60KV_35AL); DeepDRR's name
    "90KV_AL40": (90, 4.0),  # DeepDRR's name
    "120KV_AL43": (120, 4.3),  # DeepDRR's name
    "120KV_AL35": (120, 3.5),  # ours: a chest stand
}


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Photons at each energy: `photons` sums to 1."""

    name: str
    energy_kev: np.ndarray
    photons: np.ndarray

    @property
    def mean_kev(self) -> float:
        """The mean energy of a photon."""
        return float(self.energy_kev @ self.photons)


def filtered(voltage_kv: int, aluminium_mm: float, copper_mm: float = 0.0) -> Spectrum:
    """A tube of `voltage_kv` behind so much aluminium and copper; anode at 12 degrees.

    >>> round(filtered(120, 3.5).mean_kev, 1)
    56.3
    """
    table = columns("spectra")
    known = [name for name in table if name != "kev"]
    if str(voltage_kv) not in known:
        near = min(known, key=lambda name: abs(float(name) - voltage_kv))
        raise BadInput(f"no spectrum of {voltage_kv:g} kV; the nearest is {near} kV. Known: {', '.join(known)}")
    if not (1 <= aluminium_mm <= 50 and 0 <= copper_mm <= 5):
        raise BadInput(f"a tube has 1 to 50 mm Al and 0 to 5 mm Cu before it, not {aluminium_mm:g} and {copper_mm:g}")
    energy = table["kev"]
    through = _filter("aluminium", aluminium_mm, energy) * _filter("copper", copper_mm, energy)
    photons = table[str(voltage_kv)] * through
    kept = photons > 0
    name = f"{voltage_kv}KV_AL{aluminium_mm * 10:g}" + (f"_CU{copper_mm * 10:g}" if copper_mm else "")
    return Spectrum(name=name, energy_kev=energy[kept], photons=photons[kept] / photons.sum())


def _filter(material: str, thick_mm: float, energy_kev: np.ndarray) -> np.ndarray:
    return np.exp(-attenuation(material, energy_kev) * DENSITY[material] * thick_mm / 10)


def spectrum(name: str) -> Spectrum:
    """The spectrum of a name: '120KV_AL43' is 120 kVp behind 4.3 mm of aluminium, '_CU1' 0.1 mm of copper more;
    '60KEV' is photons of 60 keV alone.

    >>> spectrum("120kv_al43").name, round(spectrum("60KV_AL35").mean_kev, 1), spectrum("60keV").mean_kev
    ('120KV_AL43', 37.5, 60.0)
    """
    if line := re.fullmatch(r"(\d+(?:\.\d+)?)KEV", name.upper()):
        return Spectrum(name=name.upper(), energy_kev=np.array([float(line[1])]), photons=np.ones(1))
    found = re.fullmatch(r"(\d{2,3})KV_AL(\d{1,3})(?:_CU(\d{1,2}))?", name.upper())
    if found is None:
        raise unknown_name("spectrum", name, SPECTRA)
    return filtered(int(found[1]), int(found[2]) / 10, int(found[3] or 0) / 10)


def half_value_layer_mm(beam: Spectrum) -> float:
    """mm of aluminium behind which half of the air kerma (energy times air's attenuation) is left."""
    table = columns("attenuation")
    kerma = np.interp(beam.energy_kev, table["kev"], table["air kerma"]) * beam.energy_kev
    weight = beam.photons * kerma
    mu = attenuation("aluminium", beam.energy_kev) * DENSITY["aluminium"] / 10
    low, high = 0.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        left = (weight * np.exp(-mu * middle)).sum() / weight.sum()
        low, high = (middle, high) if left > 0.5 else (low, middle)
    return (low + high) / 2
