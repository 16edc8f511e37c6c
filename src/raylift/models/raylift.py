"""raylift: the algebra of the X-rays first, a small network for what they leave open, the algebra again.

    X-rays --SART on their own geometry----------> start -+
    X-rays --lifted along their real rays----------------+--> 3-D U-Net --> what is missing, how sure
    where each voxel lies (mm, to the feet, back, left)--+        |
                                                                  v
                      consistency with the X-rays  <--  start + what is missing
                                  |
         (finer grid: the same volume, interpolated, and consistency with the full X-rays)
                                  v
                                 ct

The network works at 5 mm, whatever the size that comes back, and is told the geometry: it never has to learn where a
ray runs. Consistency is part of the forward pass and so of the loss. Ours; no paper.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raylift.consistency import FLOOR, cut, put, rounds_of, sart
from raylift.geometry import support
from raylift.models.spec import Model, Recipe
from raylift.physics import CHEST_WINDOW, MU_WATER, Unit, mu_to_hu
from raylift.projector.shadows import lifted
from raylift.types import Beam, Grid, View

OPEN = 0.05 * MU_WATER  # ours: how open to change what is air in the cube stays
NOMINAL_RANGE = (0.0, 6.0)  # ours: line integrals that an X-ray of unknown scale is taken to span


def coordinates(cube: Grid, like: Tensor) -> Float[Tensor, "3 D H W"]:
    """Where each voxel lies along D, H and W, in units of 160 mm from the cube's centre."""
    axes = [
        (torch.arange(n, dtype=like.dtype, device=like.device) - (n - 1) / 2) * s / 160
        for n, s in zip(cube.shape, cube.spacing_mm, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


class Level(nn.Module):
    """Two 3^3 convolutions, each with group norm and SiLU, and a shortcut."""

    def __init__(self, into: int, out: int):
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(into, out, 3, padding=1), nn.GroupNorm(min(8, out), out), nn.SiLU())
        self.second = nn.Sequential(nn.Conv3d(out, out, 3, padding=1), nn.GroupNorm(min(8, out), out))

    def forward(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B out D H W"]:
        """Features at the same resolution."""
        x = self.first(x)
        return F.silu(x + self.second(x))


class UNet(nn.Module):
    """A 3-D U-Net: each level halves the side and doubles the width; skips are added."""

    def __init__(self, into: int, width: int, levels: int, out: int):
        super().__init__()
        widths = [width * 2**k for k in range(levels)]
        self.down = nn.ModuleList(Level(a, b) for a, b in zip([into, *widths], widths, strict=False))
        self.narrow = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(Level(a, a) for a in widths[:-1])
        self.head = nn.Conv3d(width, out, 1)

    def forward(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B out D H W"]:
        """The head's maps at the input's resolution."""
        kept = []
        for index, level in enumerate(self.down):
            x = level(x if index == 0 else F.avg_pool3d(x, 2))
            kept.append(x)
        for index in reversed(range(len(self.up))):
            x = F.interpolate(self.narrow[index](x), scale_factor=2, mode="trilinear", align_corners=False)
            x = self.up[index](x + kept[index])
        return self.head(x)


def trust(mu: Float[Tensor, "D H W"], open_to_change: Float[Tensor, "D H W"]) -> Float[Tensor, "D H W"]:
    """The weights of consistency in the cube: like the estimate, times what the network says, which has mean 1 on what
    there is, so that it can shift a correction within the cube but not out of it.
    """
    mass = mu.detach().clamp_min(0) + OPEN
    say = open_to_change.clamp(-3, 3).exp()
    return mass * say * (mass.sum() / (mass * say).sum())


def _unit(cubes: Sequence[Tensor]) -> Float[Tensor, "B 1 D H W"]:
    return Unit(CHEST_WINDOW).encode(mu_to_hu(torch.stack(list(cubes))[:, None]))


class RayLift(nn.Module):
    """Line integrals and beams to a cube; see the module's picture."""

    def __init__(
        self,
        size: int = 128,
        spacing: float = 2.5,
        work: int = 64,
        views: int = 2,
        width: int = 16,
        levels: int = 4,
        start_rounds: int = 3,
        rounds: int = 2,
        fine_rounds: int = 3,
    ):
        super().__init__()
        self.size, self.work, self.fine = size, work, size // work
        self.cube = Grid.canonical((work,) * 3, spacing * size / work)
        self.start_rounds, self.rounds, self.fine_rounds = start_rounds, rounds, fine_rounds
        self.unet = UNet(1 + views + 3, width, levels, out=2)

    def learned_part(self) -> tuple[nn.Module, tuple[int, ...]]:
        """The network proper and the shape that it is given, for counting."""
        return self.unet, (1, self.unet.down[0].first[0].in_channels, *self.cube.shape)

    def forward(
        self,
        xrays: Float[Tensor, "B V rows cols"],
        beams: Sequence[tuple[Beam, ...]],
        refine: bool = True,
    ) -> dict[str, Float[Tensor, "B 1 D H W"] | list[Tensor]]:
        """{"ct", "unrefined"}: [0, 1] over the chest window, after and before the steps of consistency; "support": mu
        of each sample on all that its rays cross. `refine=False` leaves the steps out.
        """
        coarse = F.adaptive_avg_pool2d(xrays, self.work)  # B V work work
        shots = [tuple(beam.resized(self.work, self.work) for beam in shot) for shot in beams]
        starts = [self.start(xray, shot) for xray, shot in zip(coarse, shots, strict=True)]
        found = self.unet(torch.stack([features for _, _, features in starts]))  # B 2 d h w
        cubes, plain, wholes = [], [], []
        for index, (whole, around, _) in enumerate(starts):
            inside = cut(around, whole, self.cube) + MU_WATER * found[index, 0]
            mu = put(inside.clamp_min(0), around, whole, self.cube)
            plain.append(self.finish(mu, whole, xrays[index], beams[index], refine=False)[0])
            if refine:
                weights = put(trust(inside, found[index, 1]), around + FLOOR, whole, self.cube)
                mu = rounds_of(mu, coarse[index], whole, shots[index], rounds=self.rounds, weights=weights)
            ct, whole_mu = self.finish(mu, whole, xrays[index], beams[index], refine)
            cubes.append(ct)
            wholes.append(whole_mu.detach())
        return {"ct": _unit(cubes), "unrefined": _unit(plain), "support": wholes}

    @torch.no_grad()
    def start(self, xray: Float[Tensor, "V rows cols"], shot: tuple[Beam, ...]):
        """The support, SART's volume on it, and the network's input on the cube (all at 5 mm)."""
        whole = support(self.cube, shot, spacing_mm=self.cube.spacing_mm[0])
        around = sart(xray, shot, whole, rounds=self.start_rounds)
        seen = lifted(xray, shot, self.cube) / NOMINAL_RANGE[1]
        first = cut(around, whole, self.cube)[None] / MU_WATER
        return whole, around, torch.cat([first, seen, coordinates(self.cube, xray)])

    def finish(self, mu: Tensor, whole: Grid, xray: Tensor, beams: tuple[Beam, ...], refine: bool):
        """The cube at the size that is asked for, its detail from the full X-rays; and the support it is part of."""
        if self.fine == 1:
            return cut(mu, whole, self.cube), mu
        cube = Grid.canonical((self.size,) * 3, self.cube.spacing_mm[0] / self.fine)
        fine = support(cube, beams, spacing_mm=cube.spacing_mm[0])
        mu = F.interpolate(mu[None, None], scale_factor=self.fine, mode="trilinear", align_corners=False)
        pad = [(n - k) // 2 for n, k in zip(fine.shape[::-1], mu.shape[:1:-1], strict=True) for _ in range(2)]
        mu = F.pad(mu, pad, mode="replicate")[0, 0]  # finer pixels see a little further
        if refine:
            mu = rounds_of(mu, xray, fine, beams, rounds=self.fine_rounds)
        return cut(mu, fine, cube), mu


RECIPE = Recipe(  # ours throughout
    losses={"l1": 1.0, "mse": 10.0, "mse@unrefined": 3.0},
    optimiser="adamw",
    lr=1e-3,
    betas=(0.9, 0.99),
    weight_decay=1e-4,
    schedule="cosine",
    warmup_epochs=1,
    epochs=60,
    batch_size=1,
    ema=0.995,
    clip=1.0,
    precision="bf16",
    augment="paired",
)

MODEL = Model(
    name="raylift",
    paper="ours",
    views=(View.PA, View.LAT),
    size=128,
    spacing=2.5,
    net=RayLift,
    options={
        "size": 128,
        "spacing": 2.5,
        "work": 64,
        "views": 2,
        "width": 16,
        "levels": 4,
        "start_rounds": 3,
        "rounds": 2,
        "fine_rounds": 3,
    },
    tiny={"size": 16, "spacing": 20.0, "work": 16, "width": 4, "levels": 2, "start_rounds": 2, "rounds": 1},
    target=Unit(CHEST_WINDOW),
    recipe=RECIPE,
    told_geometry=True,
    xray_values="line_integral",
    consistent=True,
)

SINGLE = replace(
    MODEL,
    name="raylift-single",
    views=(View.PA,),
    options={**MODEL.options, "views": 1},
)

MODELS = (MODEL, SINGLE)
