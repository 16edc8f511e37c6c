"""CVAA-GAN: "Coarse-fine view attention alignment-based GAN for CT reconstruction from biplanar X-rays", 2024.

    PA  --> dense net --> each map: repeat along H, conv --> s1 --.          (Fig. 1: Feat2D, 2D=>3D)
                                                                  |
    LAT --> dense net --> each map: repeat along W, conv --> s2 --+
                                                                  |
    deepest:  s1 + s2 --> conv --> up --> deep --.                |
                                                 v                v
    every finer level:                         CVAA(s1, s2, deep) --> conv --> up --> deep --> ..  --> 3^3, ReLU --> CT

CVAA, coarse-fine view attention alignment:

    deep, s1 --> conv, ReLU --.
                              |--> conv 7^3 --> softmax over the views: w --> coarse = w1 s1 + w2 s2     (VAA)
    deep, s2 --> conv, ReLU --'
    coarse, deep --> conv 3^3 --> sigmoid: g --> fine = g coarse                                         (FD)
    concat: coarse, fine, s1 + s2, deep

`deep` is what came up from the level below. There is no public code. The paper's "dot product" is the element-wise one.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raylift.blocks.checks import halved
from raylift.blocks.decoders3d import conv_norm_relu, head, up_norm_relu
from raylift.blocks.discriminators import patch_layers
from raylift.blocks.encoders2d import DenseEncoder
from raylift.blocks.lifts import RepeatLift, replicate
from raylift.errors import BadInput
from raylift.models.spec import Model, Recipe
from raylift.models.x2ct import LAYERS, PAPER_SIZE, TINY, WIDTHS  # ours: the paper has "a typical densenet component"
from raylift.physics import Unit
from raylift.types import View


class VAA(nn.Module):
    """View attention alignment: how much of each voxel is taken from which view, given what lies below (II.A).

    The weights of a voxel are positive and add up to 1.
    """

    def __init__(self, width: int, kernel: int = 7):
        super().__init__()
        self.pa, self.lat = (nn.Sequential(nn.Conv3d(2 * width, width, 3, padding=1), nn.ReLU()) for _ in range(2))
        self.mix = nn.Conv3d(2 * width, 2, kernel, padding=kernel // 2)

    def forward(
        self, pa: Float[Tensor, "B C D H W"], lat: Float[Tensor, "B C D H W"], deep: Float[Tensor, "B C D H W"]
    ) -> Float[Tensor, "B 2 D H W"]:
        pa = self.pa(torch.cat([deep, pa], 1))  # B C D H W
        lat = self.lat(torch.cat([deep, lat], 1))  # B C D H W
        return self.mix(torch.cat([pa, lat], 1)).softmax(1)


class FD(nn.Module):
    """Fine distillation: how much of each voxel's coarse features is kept, in (0, 1), given what lies below (II.A)."""

    def __init__(self, width: int):
        super().__init__()
        self.weigh = nn.Conv3d(2 * width, 1, 3, padding=1)

    def forward(
        self, coarse: Float[Tensor, "B C D H W"], deep: Float[Tensor, "B C D H W"]
    ) -> Float[Tensor, "B 1 D H W"]:
        return self.weigh(torch.cat([coarse, deep], 1)).sigmoid()


class CVAALevel(nn.Module):
    """CVAA at one resolution, its convolution, and the way up where there is a finer level.

    Without `vaa` both views weigh 1/2; without `fd`, `plain_sum` or `deep` that part does not join. VAA and FD are
    told what lies below in any case.
    """

    def __init__(
        self, width: int, finer: int | None, *, vaa_kernel: int, vaa: bool, fd: bool, plain_sum: bool, deep: bool
    ):
        super().__init__()
        self.plain_sum, self.deep = plain_sum, deep
        self.vaa = VAA(width, vaa_kernel) if vaa else None
        self.fd = FD(width) if fd else None
        self.mix = conv_norm_relu((1 + fd + plain_sum + deep) * width, width)
        self.up = up_norm_relu(width, finer) if finer else nn.Identity()

    def fuse(
        self, pa: Float[Tensor, "B C D H W"], lat: Float[Tensor, "B C D H W"], deep: Float[Tensor, "B C D H W"]
    ) -> Float[Tensor, "B parts D H W"]:
        """Coarse, fine, sum and deep features, one after the other."""
        if self.vaa is None:
            coarse = (pa + lat) / 2
        else:
            w = self.vaa(pa, lat, deep)  # B 2 D H W
            coarse = w[:, :1] * pa + w[:, 1:] * lat  # B C D H W
        parts = [coarse]
        if self.fd is not None:
            parts.append(self.fd(coarse, deep) * coarse)  # B C D H W
        if self.plain_sum:
            parts.append(pa + lat)  # B C D H W
        if self.deep:
            parts.append(deep)  # B C D H W
        return torch.cat(parts, 1)

    def forward(
        self, pa: Float[Tensor, "B C D H W"], lat: Float[Tensor, "B C D H W"], deep: Float[Tensor, "B C D H W"]
    ) -> Float[Tensor, "B c d h w"]:
        return self.up(self.mix(self.fuse(pa, lat, deep)))


class ViewEncoder(nn.Module):
    """One X-ray's maps (Feat2D), each brought into the volume (2D=>3D), finest first."""

    def __init__(self, view: View, *, layers: Sequence[int], width: int, growth: int, widths: Sequence[int]):
        super().__init__()
        self.encode = DenseEncoder(layers, width=width, growth=growth)
        self.lifts = nn.ModuleList(RepeatLift(c, w, view) for c, w in zip(self.encode.channels, widths, strict=True))

    def forward(self, xray: Float[Tensor, "B 1 S S"]) -> list[Tensor]:
        return [lift(x) for lift, x in zip(self.lifts, self.encode(xray), strict=True)]


class CVAAGAN(nn.Module):
    """The generator; `vaa`, `fd`, `plain_sum` and `deep` switch the parts of CVAA."""

    def __init__(
        self,
        views: Sequence[View] = (View.PA, View.LAT),
        *,
        size: int = 128,
        layers: Sequence[int] = LAYERS,
        width: int = 64,
        growth: int = 32,
        widths: Sequence[int] = WIDTHS,
        vaa_kernel: int = 7,
        vaa: bool = True,
        fd: bool = True,
        plain_sum: bool = True,
        deep: bool = True,
    ):
        super().__init__()
        halved("cvaa-gan", size, len(layers))
        if len(widths) != len(layers) + 1:
            raise BadInput(f"cvaa-gan: {len(layers)} encoder steps need {len(layers) + 1} widths, not {len(widths)}")
        if vaa_kernel % 2 == 0:
            raise BadInput(f"cvaa-gan: vaa_kernel must be odd, not {vaa_kernel}")
        if not (vaa or fd or deep):
            raise BadInput("cvaa-gan: without vaa, fd and deep no level reads the one below; switch one of them on")
        self.pa, self.lat = (
            ViewEncoder(view, layers=layers, width=width, growth=growth, widths=widths) for view in views
        )
        *shallow, deepest = widths
        self.deepest = nn.Sequential(conv_norm_relu(deepest, deepest), up_norm_relu(deepest, shallow[-1]))
        parts = {"vaa_kernel": vaa_kernel, "vaa": vaa, "fd": fd, "plain_sum": plain_sum, "deep": deep}
        finer = [None, *shallow[:-1]]
        self.levels = nn.ModuleList(CVAALevel(w, up, **parts) for w, up in zip(shallow, finer, strict=True))
        self.head = head(shallow[0], 3)

    def forward(self, xrays: Float[Tensor, "B 2 S S"]) -> dict[str, Tensor]:
        *pa, pa_deepest = self.pa(xrays[:, :1])  # B 16 128^3, 16 64^3, 32 32^3, 64 16^3, 128 8^3, 256 4^3
        *lat, lat_deepest = self.lat(xrays[:, 1:])
        deep = self.deepest(pa_deepest + lat_deepest)  # B 128 8^3
        for k in reversed(range(len(self.levels))):
            deep = self.levels[k](pa[k], lat[k], deep)  # B 64 16^3 .. B 16 128^3
        return {"ct": self.head(deep)}  # B 1 128^3


class CVAADiscriminator(nn.Module):
    """The 3-D PatchGAN, shown features of the X-rays in place of the X-rays (II.B).

    X-rays, each repeated along its rays --> conv, IN, ReLU --.
    CT ------------------------------------------------concat-'--> patch_layers --> a map
    """

    def __init__(self, views: Sequence[View], *, width: int = 64, levels: int = 3, lifted: int = 16):
        super().__init__()
        self.views = tuple(views)
        self.lifts = nn.ModuleList(conv_norm_relu(1, lifted) for _ in self.views)
        self.judge = patch_layers(len(self.views) * lifted + 1, width=width, levels=levels)

    def forward(self, xrays: Float[Tensor, "B V S S"], ct: Float[Tensor, "B 1 S S S"]) -> Float[Tensor, "B 1 d h w"]:
        seen = [
            lift(replicate(xrays[:, k : k + 1], view, xrays.shape[-1]))  # B 16 S S S
            for k, (lift, view) in enumerate(zip(self.lifts, self.views, strict=True))
        ]
        return self.judge(torch.cat([*seen, ct], 1))


MODEL = Model(
    name="cvaa-gan",
    paper="arXiv 2408.09736, 2024, CVAA-GAN",
    views=(View.PA, View.LAT),
    size=128,
    spacing=2.0,  # III.A
    net=CVAAGAN,
    options={
        **PAPER_SIZE,
        "vaa_kernel": 7,  # II.A
        "vaa": True,
        "fd": True,
        "plain_sum": True,
        "deep": True,
    },
    tiny=TINY,
    target=Unit((-1000.0, 4096.0)),  # III.A
    discriminator=CVAADiscriminator,
    discriminator_options={"views": (View.PA, View.LAT), "width": 64},
    tiny_discriminator={"width": 4, "levels": 2, "lifted": 2},
    recipe=Recipe(
        losses={"gan": 0.1, "mse": 10.0, "projection": 10.0},  # II.B; the weights, not given, are X2CT-GAN's
        lr=2e-4,  # III.B
        betas=(0.5, 0.99),  # III.B
        epochs=200,  # III.B; it names no schedule
        batch_size=4,  # III.B
        init="normal",  # ours: X2CT-GAN's N(0, 0.02)
    ),
    profile="lumbar",
    reported={
        "Table I (56 lumbar CTs, volumes in [0, 1])": {
            "MAE": 0.01635,
            "MSE": 0.001253,
            "CS": 0.9757,
            "PSNR": 29.7508,
            "SSIM": 0.8113,
        }
    },
    choices=(
        "Encoder, widths and dense layers are X2CT-GAN's; the paper gives none.",
        "Each view has its own encoder, its own convolution in VAA and its own lift in the discriminator; whether "
        "they share weights is not said.",
        "Before it is repeated along the rays a map is reduced to its level's width by a 1x1 convolution.",
        "Loss weights are X2CT-GAN's; the projections of prediction and truth are compared by L1, both parallel.",
        "The discriminator is X2CT-GAN's with 16 features of each X-ray in place of the X-ray.",
        "Without VAA each view weighs one half; without the deep path VAA and FD are still told of the deep features.",
    ),
)

MODELS = (
    MODEL,
    *(
        replace(MODEL, name=f"cvaa-gan-no-{part}", options={**MODEL.options, switch: False}, reported={})
        for part, switch in (("vaa", "vaa"), ("fd", "fd"), ("sum", "plain_sum"), ("deep", "deep"))
    ),
)
