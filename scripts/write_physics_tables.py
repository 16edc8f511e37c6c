"""Writes src/raylift/physics/tables: mass attenuation, what air absorbs, and the spectra of a tungsten anode.

Run by hand, in an environment of its own, when a table must change:

    pip install xraydb==4.5.8 spekpy==2.5.4 && python scripts/write_physics_tables.py

raylift itself needs neither library. Both are under the MIT licence. What is printed are spekpy's own means and
half-value layers, which tests/test_xray_physics.py compares with.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import spekpy
import xraydb

TABLES = Path(__file__).parents[1] / "src" / "raylift" / "physics" / "tables"
ENERGIES_KEV = np.arange(10, 151)
VOLTAGES_KV = (50, 60, 70, 80, 90, 100, 110, 120, 125, 130, 140, 150)
ANODE_DEG = 12.0  # spekpy's usual anode angle

# mass fractions. Air, soft tissue and cortical bone: ICRU-44, as NIST's X-ray mass attenuation tables (table 2) give
# them; the others are pure or compounds
MATERIALS = {
    "water": {"H": 0.111898, "O": 0.888102},
    "air": {"C": 0.000124, "N": 0.755268, "O": 0.231781, "Ar": 0.012827},
    "soft tissue": dict(H=0.102, C=0.143, N=0.034, O=0.708, Na=0.002, P=0.003, S=0.003, Cl=0.002, K=0.003),
    "bone": dict(H=0.034, C=0.155, N=0.042, O=0.435, Na=0.001, Mg=0.002, P=0.103, S=0.003, Ca=0.225),
    "titanium": {"Ti": 1.0},
    "steel": {"Fe": 1.0},
    "aluminium": {"Al": 1.0},
    "copper": {"Cu": 1.0},
    "caesium iodide": {"Cs": 0.511549, "I": 0.488451},
}


def attenuation(fractions: dict[str, float], energies_kev: np.ndarray) -> np.ndarray:
    """cm2/g at `energies_kev`: photoelectric, coherent and incoherent, of the elements by their mass."""
    total = sum(fractions.values())
    return sum(part / total * xraydb.mu_elam(name, energies_kev * 1000.0) for name, part in fractions.items())


def energy_absorbed(fractions: dict[str, float], energies_kev: np.ndarray) -> np.ndarray:
    """cm2/g of the energy that a beam leaves behind: all that is photoelectric, and of incoherent scattering the part
    that the electron takes (Klein and Nishina)."""
    photoelectric, incoherent = (
        sum(part * xraydb.mu_elam(name, energies_kev * 1000.0, kind=kind) for name, part in fractions.items())
        for kind in ("photo", "incoh")
    )
    return photoelectric + incoherent * np.array([electrons_part(energy) for energy in energies_kev])


def electrons_part(energy_kev: float) -> float:
    """The mean share of a photon's energy that a free electron takes from it, 0 to 1."""
    cosine = np.linspace(-1, 1, 4001)
    left = 1 / (1 + energy_kev / 510.999 * (1 - cosine))  # of the photon's energy, at each angle
    weight = left**2 * (left + 1 / left - 1 + cosine**2)
    return float((weight * (1 - left)).sum() / weight.sum())


def fluence(voltage_kv: int) -> tuple[np.ndarray, np.ndarray]:
    """Bin centres (keV, 1 keV wide) and photons of the bare tube: what leaves the anode, without any filter."""
    tube = spekpy.Spek(kvp=voltage_kv, th=ANODE_DEG, dk=1.0)
    energy, photons = tube.get_spectrum(edges=False)
    return energy, photons


def write(name: str, head: list[str], columns: list[np.ndarray]) -> None:
    """One CSV with its head; five significant digits."""
    TABLES.mkdir(parents=True, exist_ok=True)
    with open(TABLES / name, "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(head)
        for values in zip(*columns, strict=True):
            rows.writerow([f"{value:.5g}" for value in values])


def write_spectra() -> None:
    """spectra.csv: photons a bin, from 10 keV up, the largest of each tube voltage 1."""
    centres = ENERGIES_KEV[:-1] + 0.5
    columns = [centres]
    for voltage in VOLTAGES_KV:
        energy, photons = fluence(voltage)
        kept = np.interp(centres, energy, photons, left=0, right=0)
        columns.append(kept / kept.max())
    write("spectra.csv", ["kev", *map(str, VOLTAGES_KV)], columns)


def main() -> None:
    """Write both tables, and print what spekpy says of two filtered spectra."""
    columns = [attenuation(fractions, ENERGIES_KEV) for fractions in MATERIALS.values()]
    columns.append(energy_absorbed(MATERIALS["air"], ENERGIES_KEV))
    write("attenuation.csv", ["kev", *MATERIALS, "air kerma"], [ENERGIES_KEV, *columns])
    write_spectra()
    for voltage, aluminium in ((60, 3.5), (90, 4.0), (120, 3.5), (120, 4.3)):
        tube = spekpy.Spek(kvp=voltage, th=ANODE_DEG, dk=1.0).filter("Al", aluminium)
        sys.stdout.write(
            f"{voltage} kVp, {aluminium} mm Al: mean {tube.get_emean():.2f} keV, "
            f"half-value layer {tube.get_hvl1():.3f} mm Al\n"
        )


if __name__ == "__main__":
    main()
