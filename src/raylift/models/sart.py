"""SART: the method without a network, and the baseline that every network must beat.

    X-rays --rounds of SART over the views, on a support that holds all that the rays cross--> cut out the cube

Andersen and Kak 1984; weighted by the current estimate (ours). Nothing is learned.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raylift.consistency import ROUNDS, cut, sart
from raylift.geometry import support
from raylift.models.spec import Model
from raylift.physics import CHEST_WINDOW, Unit, mu_to_hu
from raylift.types import Beam, Grid, View


class Sart(nn.Module):
    """Line integrals and beams to a cube, by algebra alone."""

    def __init__(self, size: int = 128, spacing: float = 2.5, rounds: int = ROUNDS):
        super().__init__()
        self.cube = Grid.canonical((size,) * 3, spacing)
        self.rounds = rounds

    def forward(
        self, xrays: Float[Tensor, "B V rows cols"], beams: tuple[tuple[Beam, ...], ...]
    ) -> dict[str, Float[Tensor, "B 1 D H W"]]:
        """{"ct": [0, 1] over the chest window} of line integrals, one sample at a time."""
        cubes = []
        for xray, shot in zip(xrays, beams, strict=True):
            whole = support(self.cube, shot, spacing_mm=self.cube.spacing_mm[0])
            cubes.append(cut(sart(xray, shot, whole, rounds=self.rounds), whole, self.cube))
        return {"ct": Unit(CHEST_WINDOW).encode(mu_to_hu(torch.stack(cubes)[:, None]))}


MODEL = Model(
    name="sart",
    paper="Andersen and Kak 1984; no network",
    views=(View.PA, View.LAT),
    size=128,
    spacing=2.5,
    net=Sart,
    options={"size": 128, "spacing": 2.5, "rounds": ROUNDS},
    tiny={"size": 16, "spacing": 20.0, "rounds": 2},
    target=Unit(CHEST_WINDOW),
    told_geometry=True,
    xray_values="line_integral",
    consistent=True,
    choices=("Each step is weighted by the current estimate, so that nothing is put where a ray met only air.",),
)


def fitted(size: int, spacing: float, profile: str, views: Sequence[View]) -> Model:
    """SART of these views for any kind of data: having learned none, it fits all. `spacing` in mm."""
    options = {**MODEL.options, "size": size, "spacing": spacing}
    return replace(MODEL, size=size, spacing=spacing, options=options, profile=profile, views=tuple(views))
