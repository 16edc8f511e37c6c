"""What a voxel is made of, by its HU, and how much a gram of it attenuates at each energy."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from raylift.errors import BadInput, unknown_name
from raylift.physics.tables import columns

MATERIALS = ("water", "air", "soft tissue", "bone", "titanium", "steel", "aluminium", "copper", "caesium iodide")
METAL_DENSITY = {"titanium": 4.506, "steel": 7.874}  # g/cm3; steel is reckoned as iron (CRC Handbook)


@dataclass(frozen=True, kw_only=True)
class Tissues:
    """Where HU divide air, soft tissue, bone and metal; over `transition_hu` (the whole width) they mix linearly."""

    air_hu: float = -800.0  # DeepDRR: air up to here
    bone_hu: float = 350.0  # DeepDRR: bone above
    metal_hu: float = 3000.0  # ours: 12 bits end at 3071 HU
    metal: str | None = None  # DeepDRR: even the densest voxels are bone; contrast agent reaches 3071 HU as metal does
    transition_hu: float = 0.0  # DeepDRR: hard thresholds

    def __post_init__(self):
        if not self.air_hu < self.bone_hu < self.metal_hu:
            raise BadInput(f"HU must rise from air to bone to metal: {self.air_hu}, {self.bone_hu}, {self.metal_hu}")
        room = min(self.bone_hu - self.air_hu, self.metal_hu - self.bone_hu)
        if not 0 <= self.transition_hu <= room:
            raise BadInput(f"a transition is 0 to {room:g} HU wide, not {self.transition_hu:g}")
        if self.metal is not None and self.metal not in METAL_DENSITY:
            raise unknown_name("metal", self.metal, METAL_DENSITY)

    @property
    def names(self) -> tuple[str, ...]:
        """The materials in the order of `densities`."""
        return ("air", "soft tissue", "bone") + ((self.metal,) if self.metal else ())


def attenuation(material: str, energy_kev: float | np.ndarray) -> np.ndarray:
    """Mass attenuation in cm2/g at 10 to 150 keV (coherent scattering included).

    >>> round(float(attenuation("water", 60.0)), 4)
    0.2059
    """
    if material not in MATERIALS:
        raise unknown_name("material", material, MATERIALS)
    table, energy = columns("attenuation"), np.asarray(energy_kev, float)
    if not ((energy >= 10) & (energy <= 150)).all():
        raise BadInput(f"attenuation is tabulated from 10 to 150 keV, not at {energy.min():g} to {energy.max():g}")
    return np.asarray(np.exp(np.interp(np.log(energy), np.log(table["kev"]), np.log(table[material]))))


def mass_density(hu: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """g/cm3 of tissue: two straight lines as in DeepDRR, 1.03 at 0 HU; nothing at or below -1000 HU."""
    lines = torch.minimum(0.001029 * hu + 1.03, 0.0005886 * hu + 1.03)
    return torch.where(hu > -1000, lines.clamp_min(0), 0.0)


def densities(hu: Float[Tensor, "D H W"], tissues: Tissues = Tissues()) -> Float[Tensor, "M D H W"]:
    """g/cm3 of each material of `tissues.names` in each voxel; metal has its own density, tissue that of its HU."""
    above = [_share(hu, tissues.air_hu, tissues), _share(hu, tissues.bone_hu, tissues)]
    shares = [1 - above[0], above[0] - above[1], above[1]]
    density = mass_density(hu)
    if tissues.metal is None:
        return torch.stack([share * density for share in shares])
    metal = _share(hu, tissues.metal_hu, tissues)
    shares[2] = above[1] - metal
    return torch.stack([share * density for share in shares] + [metal * METAL_DENSITY[tissues.metal]])


def _share(hu: Tensor, threshold: float, tissues: Tissues) -> Tensor:
    """How much of a voxel lies above a threshold, 0 to 1."""
    if tissues.transition_hu == 0:
        return (hu > threshold).to(hu)
    return ((hu - threshold) / tissues.transition_hu + 0.5).clamp(0, 1)
