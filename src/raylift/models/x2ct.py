"""X2CT-GAN: Ying et al., "X2CT-GAN: Reconstructing CT from biplanar X-rays with generative adversarial networks", 2019.

    PA  --> encode --.-- skips, lifted along H --> decode a --.         .--> a: goes on from v
                     '-- mean, linear ----------> 256, 4^3   |         |
                                                             v = (a + b) / 2 --> main decoder --> 7^3, ReLU --> CT
    LAT --> encode --.-- mean, linear ----------> 256, 4^3   |         |
                     '-- skips, lifted along W --> decode b --'         '--> b: goes on from v

The released code holds each view's volume in the order (ray, row, column) and permutes it to fuse. With kernels
permuted alike that is the same function, so here every volume stands in the CT's axes from its lift on. Norms are
InstanceNorm without weights, always with the sample's own statistics.
"""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn

from raylift.blocks.branch import XrayBranch, fused, own_heads
from raylift.blocks.decoders3d import convs_per_level, decoder_levels, head
from raylift.blocks.discriminators import PatchD3D
from raylift.models.spec import Model, Recipe
from raylift.types import View

LAYERS = (6, 12, 24, 16, 6)  # dense layers of each step (original code)
WIDTHS = (16, 16, 32, 64, 128, 256)  # of the volumes, finest first (original code)
PAPER_SIZE = {"size": 128, "width": 64, "growth": 32, "layers": LAYERS, "widths": WIDTHS}  # original code
TINY = {"size": 16, "width": 4, "growth": 4, "layers": (1, 1, 1), "widths": (4, 4, 8, 8)}


class X2CTSingle(nn.Module):
    """One view: encoder, lifts, U-shaped decoder, head."""

    def __init__(
        self,
        view: View = View.PA,
        *,
        size: int = 128,
        layers: Sequence[int] = LAYERS,
        width: int = 64,
        growth: int = 32,
        widths: Sequence[int] = WIDTHS,
    ):
        super().__init__()
        self.branch = XrayBranch(view, size=size, layers=layers, width=width, growth=growth, widths=widths)
        self.head = head(widths[0])

    def forward(self, xrays: Float[Tensor, "B 1 S S"]) -> dict[str, Tensor]:
        *skips, x = self.branch.lift(xrays)
        *levels, deepest = self.branch.levels
        x = deepest.rise(x)  # B 128 8^3
        for level, skip in zip(levels[::-1], skips[::-1], strict=True):
            x = level.rise(level.join(x, skip))  # B C 2s^3
        return {"ct": self.head(x)}  # B 1 S S S


class X2CTGAN(nn.Module):
    """Two views and the decoder that fuses them.

    `auxiliary_heads` builds what the released code computes and its weight 0 throws away: each view's last
    convolution and its own head, "ct_pa" and "ct_lat"; "ct" is the same without.
    """

    def __init__(
        self,
        views: Sequence[View] = (View.PA, View.LAT),
        *,
        size: int = 128,
        layers: Sequence[int] = LAYERS,
        width: int = 64,
        growth: int = 32,
        widths: Sequence[int] = WIDTHS,
        auxiliary_heads: bool = False,
    ):
        super().__init__()
        self.pa, self.lat = (
            XrayBranch(view, size=size, layers=layers, width=width, growth=growth, widths=widths) for view in views
        )
        self.main = decoder_levels(widths, convs_per_level(len(widths), 1))
        self.head = head(widths[0])
        branches = {"pa": self.pa, "lat": self.lat}
        self.heads = own_heads(branches, lambda: head(widths[0]), built=auxiliary_heads)

    def forward(self, xrays: Float[Tensor, "B 2 S S"]) -> dict[str, Tensor]:
        lifted = self.pa.lift(xrays[:, :1]), self.lat.lift(xrays[:, 1:])  # each B 16 128^3 .. B 256 4^3
        v, *finer = fused(self.pa, self.lat, *lifted)  # B 256 4^3
        x = self.main[-1].rise(v)  # B 128 8^3
        for level, v in zip(self.main[-2::-1], finer, strict=True):
            x = level.rise(level.join(v, x))  # B 64 16^3 .. B 16 128^3
        extras = {f"ct_{name}": self.heads[name](getattr(self, name).levels[0].rise(v)) for name in self.heads}
        return {"ct": self.head(x), **extras}  # B 1 S S S


RECIPE = Recipe(
    losses={"gan": 0.1, "mse": 10.0, "projection": 10.0},  # original code
    lr=2e-4,  # original code
    betas=(0.5, 0.99),  # original code
    schedule="linear-last-half",  # original code: 50 epochs, then 50 more towards 0
    epochs=100,
    batch_size=4,  # original code
    init="normal",  # original code: N(0, 0.02)
)

MODEL = Model(
    name="x2ct-gan",
    paper="Ying et al. 2019, X2CT-GAN",
    views=(View.PA, View.LAT),
    size=128,
    spacing=2.5,  # 320 mm cube
    net=X2CTGAN,
    options={**PAPER_SIZE, "auxiliary_heads": False},
    tiny=TINY,
    discriminator=PatchD3D,
    discriminator_options={"views": (View.PA, View.LAT), "width": 64},
    tiny_discriminator={"width": 4, "levels": 2},
    recipe=RECIPE,
    reported={
        "X2CT-GAN paper (LIDC-IDRI, slice-wise, peak 4095)": {"PSNR": 26.19, "SSIM": 0.656},
        "3DSRNet Table I": {"PSNR": 43.699, "SSIM": 0.8692, "CS": 0.6966, "MAE": 27.1507, "MSE": 12251.6784},
        "CVAA-GAN Table 1": {"MAE": 0.01975, "MSE": 0.001765, "CS": 0.9664, "PSNR": 27.8361, "SSIM": 0.7673},
    },
    stated_counts={
        "parameters": 61_740_467,  # original code
        "discriminator": 11_055_169,  # original code
        "x2": 623.345e9,  # 3DSRNet Table I
        "options": {"auxiliary_heads": True},
    },
    choices=(
        "The two views' own heads, whose loss has the weight 0, are not built; auxiliary_heads=true builds them.",
        "Volumes stand in the CT's axes throughout; the released code permutes them at each fusion.",
    ),
)

SINGLE = replace(
    MODEL,
    name="x2ct-gan-single",
    views=(View.PA,),
    net=X2CTSingle,
    options=PAPER_SIZE,
    discriminator_options={"views": (View.PA,), "width": 64},
    reported={"X2CT-GAN paper (GAN+S)": {"PSNR": 22.30, "SSIM": 0.525}},
    stated_counts={"parameters": 29_384_481, "discriminator": 11_051_073},  # original code
    choices=(),
)

CNN = replace(
    MODEL,
    name="x2ct-cnn",
    discriminator=None,
    recipe=replace(RECIPE, losses={"mse": 10.0, "projection": 10.0}),  # the paper's CNN+B: no discriminator
    stated_counts={"parameters": 61_740_467, "options": {"auxiliary_heads": True}},  # original code
    reported={"X2CT-GAN paper (CNN+B)": {"PSNR": 27.29, "SSIM": 0.721}},
)

MODELS = (MODEL, SINGLE, CNN)
