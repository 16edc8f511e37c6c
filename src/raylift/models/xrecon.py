"""X-Recon: "Learning-based patient-specific high-resolution CT reconstruction from orthogonal X-ray images", 2024.

    PA  --> encode --.-- skips, lifted along H --> decode a --.         .--> a: goes on from v
                     '-- mean, linear ----------> 256, 7^3   |         |
                                                             v = (a + b) / 2 --> main decoder: x
    LAT --> encode --.-- mean, linear ----------> 256, 7^3   |         |              |
                     '-- skips, lifted along W --> decode b --'         '--> b        |
                                                             |                        |
                                                             '--> MFusionRend <-------'
    at each scale 14, 28, 56, 112, 224:
                               v, x --> 1^3, LeakyReLU --.
        what the coarser scales drew --> twice the side --+--> their mean --> .. --> LeakyReLU --> CT

All numbers but the size are the released code's. Its parent is X2CT-GAN (x2ct.py): the same twin encoders with lighter
dense blocks, the same lifts, decoders and fusion. New are MFusionRend in place of the 7^3 head, a discriminator that is
told where it looks, and a projection loss over three jittered cone beams.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raylift.blocks.branch import XrayBranch, fused, own_heads
from raylift.blocks.decoders3d import convs_per_level, decoder_levels
from raylift.blocks.discriminators import PatchD3D
from raylift.models.spec import Model, Recipe
from raylift.types import View

LAYERS = (4, 8, 16, 8, 4)  # dense layers of each step (original code)
WIDTHS = (16, 16, 32, 64, 128, 256)  # of the volumes, finest first (original code)
SLOPE = 0.01  # of LeakyReLU, at the outputs only (original code)


class MFusionRend(nn.Module):
    """Multi-scale fusion rendering, one scale of it: what is drawn here, and what the coarser scales drew, in halves.

    Over n scales the finest one weighs 1/2, the next 1/4, .., the coarsest 2^-n: together 1 - 2^-n.
    """

    def __init__(self, width: int):
        super().__init__()
        self.draw = nn.Sequential(nn.Conv3d(2 * width, 1, 1), nn.LeakyReLU(SLOPE))

    def forward(
        self,
        views: Float[Tensor, "B C D H W"],
        main: Float[Tensor, "B C D H W"],
        coarser: Float[Tensor, "B 1 d h w"] | None = None,
    ) -> Float[Tensor, "B 1 D H W"]:
        drawn = self.draw(torch.cat([views, main], 1))
        if coarser is not None:
            drawn = drawn + F.interpolate(coarser, scale_factor=2.0, mode="trilinear", align_corners=False)
        return drawn / 2


class XRecon(nn.Module):
    """Two views, the decoder that fuses them, and the rendering of all its scales.

    `unpruned` builds what the released code computes and nothing reads: each view's last convolution and its own head
    ("ct_pa" and "ct_lat"), and the main decoder's stage at full resolution; "ct" is the same without.
    """

    def __init__(
        self,
        views: Sequence[View] = (View.PA, View.LAT),
        *,
        size: int = 224,
        layers: Sequence[int] = LAYERS,
        width: int = 64,
        growth: int = 32,
        widths: Sequence[int] = WIDTHS,
        unpruned: bool = False,
    ):
        super().__init__()
        self.pa, self.lat = (
            XrayBranch(view, size=size, layers=layers, width=width, growth=growth, widths=widths) for view in views
        )
        self.main = decoder_levels(widths, convs_per_level(len(widths), 1))
        self.render = nn.ModuleList(MFusionRend(w) for w in widths[:-1])
        self.out = nn.LeakyReLU(SLOPE)
        branches = {"pa": self.pa, "lat": self.lat}
        self.heads = own_heads(branches, lambda: view_head(widths[0]), built=unpruned)
        if not unpruned:
            self.main[0] = nn.Identity()

    def forward(self, xrays: Float[Tensor, "B 2 S S"]) -> dict[str, Tensor]:
        lifted = self.pa.lift(xrays[:, :1]), self.lat.lift(xrays[:, 1:])  # each B 16 224^3 .. B 256 7^3
        v, *finer = fused(self.pa, self.lat, *lifted)  # B 256 7^3
        x, ct = self.main[-1].rise(v), None  # B 128 14^3
        for k, v in zip(reversed(range(len(finer))), finer, strict=True):
            ct = self.render[k](v, x, ct)  # B 1 14^3 .. B 1 224^3
            if k or self.heads:
                x = self.main[k].rise(self.main[k].join(v, x))  # B C' 2s^3
        extras = {f"ct_{name}": self.heads[name](getattr(self, name).levels[0].rise(v)) for name in self.heads}
        return {"ct": self.out(ct), **extras}  # B 1 S S S


def view_head(inside: int) -> nn.Sequential:
    """One view's own CT, which the released code draws and does not use."""
    return nn.Sequential(nn.Conv3d(inside, 1, 7, padding=3), nn.LeakyReLU(SLOPE))


RECIPE = Recipe(
    losses={"gan": 1.0, "mse": 10.0, "cone_projection": 0.1},  # original code
    lr=5e-5,  # original code
    betas=(0.5, 0.99),  # original code
    schedule="linear-last-half",  # original code: 100 epochs, then 100 more towards 0
    epochs=200,  # original code
    batch_size=1,  # original code
    init="normal",  # ours: its parent's N(0, 0.02)
)

MODEL = Model(
    name="x-recon",
    paper="arXiv 2407.15356, 2024, X-Recon",
    views=(View.PA, View.LAT),
    size=224,
    spacing=1.6,  # abstract
    net=XRecon,
    options={"size": 224, "width": 64, "growth": 32, "layers": LAYERS, "widths": WIDTHS, "unpruned": False},
    tiny={"size": 16, "width": 4, "growth": 4, "layers": (1, 1, 1), "widths": (4, 4, 8, 8)},
    discriminator=PatchD3D,
    discriminator_options={"views": (View.PA, View.LAT), "coord": "first", "width": 64},
    tiny_discriminator={"width": 4, "levels": 2},
    recipe=RECIPE,
    profile="chest-224",
    reported={
        "X-Recon paper (25 patients with pneumothorax)": {
            "PSNR": 19.85,
            "SSIM": 0.70,
            "Dice of lungs and air, more than": 0.90,
            "r of pneumothorax volume": 0.82,
            "r of pleural occupancy": 0.77,
        }
    },
    stated_counts={
        "parameters": 98_799_735,  # original code
        "discriminator": 11_067_457,  # original code
        "options": {"unpruned": True},
    },
    choices=(
        "What the released code computes and does not read (512 of 1273 GMAC) is not built; unpruned=true builds it.",
        "Volumes stand in the CT's axes throughout; the released code permutes them at each fusion.",
        "The discriminator's first convolution is told where it is, as in the released code; the paper speaks of "
        "such layers in the plural (discriminator.coord=all).",
        "The projection loss keeps the released code's geometry, in which the cube counts as 128 mm a side.",
        "No running mean of the weights, which the released code offers (ema=0.9999), and no augmentation.",
    ),
)

SMALL = replace(
    MODEL,
    name="x-recon-128",
    size=128,
    spacing=2.5,  # ours: the chest profile's 320 mm cube
    options={**MODEL.options, "size": 128},
    profile="chest",
    reported={},
    stated_counts={**MODEL.stated_counts, "parameters": 37_517_943},  # original code
)

# the paper's first three experiments: L2 alone, with the projections, with the discriminator (MODEL)
L2, PROJECTIONS = (
    replace(
        MODEL,
        name=name,
        discriminator=None,
        discriminator_options={},
        tiny_discriminator={},
        recipe=replace(RECIPE, losses=losses),
        reported={},
        stated_counts={},
    )
    for name, losses in (
        ("x-recon-l2", {"mse": 10.0}),
        ("x-recon-proj", {"mse": 10.0, "cone_projection": 0.1}),
    )
)

NO_COORD = replace(
    MODEL,
    name="x-recon-no-coord",
    discriminator_options={**MODEL.discriminator_options, "coord": "none"},
    reported={},
    stated_counts={"discriminator": 11_055_169},  # X2CT-GAN's, original code
)

MODELS = (MODEL, SMALL, L2, PROJECTIONS, NO_COORD)
