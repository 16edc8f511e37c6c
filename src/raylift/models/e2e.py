"""E2E, also ETE: Kasten et al., "End-to-end convolutional neural network for 3D reconstruction of knee bones from
bi-planar X-ray images", 2020; and CVAA-GAN's 3DCNN, which is the same net.

    PA  -- repeated along H --.
                              |--> level 1 ------------- skip -------------> level 1 --> 1x1x1 --> CT
    LAT -- repeated along W --'    16, 128^3  \\                           /
                                               level 2 ---- skip ---- level 2
                                               32, 64^3   \\         /
                                                            ... level 5: 256, 8^3

A V-Net: each level is a few 3x3x3 convolutions beside an identity; down by maximum, up by a transposed convolution
of 2^3. Going up, a level sees the skip too.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raylift.blocks.lifts import expand_views
from raylift.errors import BadInput, unknown_name
from raylift.models.spec import Model, Recipe
from raylift.physics import Unit
from raylift.types import View

NORMS = {"batch": nn.BatchNorm3d, "instance": nn.InstanceNorm3d}
ACTIVATIONS = ("linear", "relu")
CONVS = (1, 2, 3)  # of each level, finest first, three from the third on (the paper's V-Net, known elsewhere)


def widen(x: Float[Tensor, "B C D H W"], channels: int) -> Float[Tensor, "B c D H W"]:
    """`x` with its channels repeated until there are `channels`: the identity of a level that widens."""
    return x.repeat(1, channels // x.shape[1], 1, 1, 1)


def _check_size(size: int, levels: int) -> None:
    if size % 2 ** (levels - 1):
        raise BadInput(f"e2e: a size of {size} cannot be halved {levels - 1} times; set net.levels or another size")


class ResidualLevel(nn.Module):
    """ReLU(convs(x) + identity): `count` 3x3x3 convolutions, each normed, ReLU between them."""

    def __init__(self, inside: int, out: int, count: int, norm: str):
        super().__init__()
        layers = []
        for k in range(count):
            layers += [nn.Conv3d(out if k else inside, out, 3, padding=1, bias=False), NORMS[norm](out), nn.ReLU()]
        self.convs = nn.Sequential(*layers[:-1])
        self.out = out

    def forward(
        self, x: Float[Tensor, "B C D H W"], identity: Float[Tensor, "B c D H W"]
    ) -> Float[Tensor, "B c2 D H W"]:
        return (self.convs(x) + widen(identity, self.out)).relu()


class E2E(nn.Module):
    """`width` is the first level's; each level down has twice as many channels. Without `skips` an auto-encoder."""

    def __init__(
        self,
        views: Sequence[View] = (View.PA, View.LAT),
        *,
        size: int = 128,
        width: int = 16,
        levels: int = 5,
        norm: str = "batch",
        skips: bool = True,
        activation: str = "linear",
    ):
        super().__init__()
        _check_size(size, levels)
        if width % len(views):
            raise BadInput(f"e2e: a width of {width} is no multiple of {len(views)} views, whose channels it repeats")
        if norm not in NORMS:
            raise unknown_name("norm", norm, NORMS)
        if activation not in ACTIVATIONS:
            raise unknown_name("activation", activation, ACTIVATIONS)
        self.views, self.skips, self.activation = tuple(views), skips, activation
        widths = [width * 2**k for k in range(levels)]  # 16 .. 256
        counts = [CONVS[min(k, 2)] for k in range(levels)]  # 1 2 3 3 3
        inside = [len(self.views), *widths[:-1]]
        self.downs = nn.ModuleList(ResidualLevel(a, b, n, norm) for a, b, n in zip(inside, widths, counts, strict=True))
        self.rises = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose3d(2 * w, w, 2, stride=2, bias=False), NORMS[norm](w), nn.ReLU())
            for w in widths[:-1]
        )
        self.ups = nn.ModuleList(
            ResidualLevel(2 * w if skips else w, w, n, norm) for w, n in zip(widths[:-1], counts[:-1], strict=True)
        )
        self.head = nn.Conv3d(width, 1, 1)

    def forward(self, xrays: Float[Tensor, "B V S S"]) -> dict[str, Tensor]:
        x = expand_views(xrays, self.views)  # B 2 128^3
        maps = []
        for number, down in enumerate(self.downs):
            x = F.max_pool3d(x, 2) if number else x
            x = down(x, x)  # B 16 128^3 .. B 256 8^3
            maps.append(x)
        for k in reversed(range(len(self.ups))):
            x = self.rises[k](x)  # B C 2s^3
            x = self.ups[k](torch.cat([x, maps[k]], 1) if self.skips else x, x)  # B C 2s^3
        ct = self.head(x)  # B 1 128^3
        return {"ct": ct.relu() if self.activation == "relu" else ct}


class StridedUnit(nn.Module):
    """Two 3x3x3 convolutions with BatchNorm and ReLU, the first with the stride, beside a 3x3x3 convolution."""

    def __init__(self, inside: int, out: int, stride: int):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv3d(inside, out, 3, stride=stride, padding=1), nn.BatchNorm3d(out), nn.ReLU(),
            nn.Conv3d(out, out, 3, padding=1), nn.BatchNorm3d(out), nn.ReLU(),
        )  # fmt: skip
        self.shortcut = nn.Conv3d(inside, out, 3, stride=stride, padding=1)

    def forward(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B c d h w"]:
        return self.convs(x) + self.shortcut(x)


class StridedUp(nn.Module):
    """Twice the side by a transposed convolution of 3^3 with BatchNorm and ReLU, then one convolution beside an
    identity; the last one's convolution is bare.
    """

    def __init__(self, inside: int, out: int, *, last: bool):
        super().__init__()
        self.rise = nn.Sequential(
            nn.ConvTranspose3d(inside, out, 3, stride=2, padding=1, output_padding=1), nn.BatchNorm3d(out), nn.ReLU()
        )
        after = () if last else (nn.BatchNorm3d(out), nn.ReLU())
        self.refine = nn.Sequential(nn.Conv3d(out, out, 3, padding=1), *after)

    def forward(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B c d h w"]:
        x = self.rise(x)
        return x + self.refine(x)


class E2ESmall(nn.Module):
    """The later benchmark's E2E: no feature at full resolution; the coarsest two levels have the same side.

    2 128^3 --> 8 64^3 --> 16 32^3 --> 32 16^3 --> 64 8^3 --> 128 8^3 --> up x 4, each after its skip --> CT
    """

    def __init__(
        self, views: Sequence[View] = (View.PA, View.LAT), *, size: int = 128, width: int = 8, levels: int = 5
    ):
        super().__init__()
        _check_size(size, levels)
        self.views = tuple(views)
        widths = [width * 2**k for k in range(levels)]  # 8 .. 128
        inside = [len(self.views), *widths[:-1]]
        self.downs = nn.ModuleList(
            StridedUnit(a, b, 1 if k == levels - 1 else 2) for k, (a, b) in enumerate(zip(inside, widths, strict=True))
        )
        below = [*(2 * w for w in widths[:-2]), widths[-2] + widths[-1]]  # what each skip brings, and the level below
        finer = [1, *widths[:-2]]
        self.ups = nn.ModuleList(
            StridedUp(a, b, last=k == 0) for k, (a, b) in enumerate(zip(below, finer, strict=True))
        )

    def forward(self, xrays: Float[Tensor, "B V S S"]) -> dict[str, Tensor]:
        x = expand_views(xrays, self.views)  # B 2 128^3
        maps = []
        for down in self.downs:
            x = down(x)  # B 8 64^3 .. B 64 8^3, B 128 8^3
            maps.append(x)
        x = maps.pop()
        for up, skip in zip(reversed(self.ups), reversed(maps), strict=True):
            x = up(torch.cat([skip, x], 1))  # B 32 16^3 .. B 1 128^3
        return {"ct": x}


MODEL = Model(
    name="e2e",
    paper="Kasten et al. 2020, E2E (ETE)",
    views=(View.PA, View.LAT),
    size=128,
    spacing=2.5,  # ours: the chest cube of 320 mm
    net=E2E,
    options={"size": 128, "width": 16, "levels": 5, "norm": "batch", "skips": True, "activation": "linear"},
    tiny={"size": 16, "width": 4, "levels": 3},
    recipe=Recipe(
        losses={"mse": 1.0},  # ours
        lr=0.01,  # EAR 4.4: every net it compares is trained so
        weight_decay=1e-5,  # EAR 4.4
        schedule="cosine",  # EAR 4.4
        warmup_epochs=10,  # EAR 4.4
        epochs=100,  # EAR 4.4
        batch_size=2,  # EAR 4.4
    ),
    reported={
        "3DSRNet Table I (ETE)": {
            "PSNR": 43.958,
            "SSIM": 0.8546,
            "CS": 0.6466,
            "MAE": 29.8947,
            "MSE": 14428.335,
            "LPIPS": 0.1229,
        },
        "EAR Table 1": {"MSE": 0.3032, "MAE": 0.1764, "Dice": 0.8400, "PSNR": 22.9527, "SSIM": 0.7831, "FD": 0.3591},
    },
    stated_counts={
        "unmatched": {
            "3DSRNet Table I": "208.175 G: fits (within 1 %) only as twice the true count; under the rule that gives "
            "its X2CT-GAN, this net has 235 G"
        },
    },
    choices=(
        "Widths 16 to 256, so that twice the true operations are near 3DSRNet's 208 G; no paper states them.",
        "Down by maximum; the identity beside a level's convolutions is its input, channels repeated to the width.",
        "A single linear channel in place of the knee's five classes; squared error in place of the weighted "
        "cross-entropy and the reprojection loss.",
        "Kasten's own rates are not known here; EAR's setting for its comparisons (4.4) stands in.",
    ),
)

SMALL = replace(
    MODEL,
    name="e2e-small",
    net=E2ESmall,
    options={"size": 128, "width": 8, "levels": 5},
    tiny={"size": 16, "width": 4, "levels": 3},
    reported={},
    stated_counts={},
    choices=(
        "The U-Net of the later public benchmark: widths 8 to 128, first halving before the first feature.",
        "The coarsest unit's shortcut is of 3^3, as the specification counts it (1.4 M parameters, 3.3 G true); with a "
        "shortcut of 1^3 it would have 1.2 M.",
        *MODEL.choices[2:],
    ),
)

NO_SKIPS = replace(
    MODEL,
    name="e2e-no-skips",
    options={**MODEL.options, "skips": False},
    reported={},
    stated_counts={},
    choices=("EAR 4.3 calls E2E an auto-encoder: here without the skips.", *MODEL.choices),
)

CNN = replace(
    MODEL,
    name="3dcnn",
    paper="Kasten et al. 2020 as CVAA-GAN compares with it, 3DCNN",
    spacing=2.0,  # CVAA-GAN III.A
    target=Unit((-1000.0, 4096.0)),  # CVAA-GAN III.A
    options={**MODEL.options, "norm": "instance", "activation": "relu"},
    recipe=Recipe(
        losses={"mse": 1.0},  # CVAA-GAN's reconstruction loss alone
        lr=2e-4,  # CVAA-GAN III.B
        betas=(0.5, 0.99),  # CVAA-GAN III.B
        epochs=200,  # CVAA-GAN III.B
        batch_size=4,  # CVAA-GAN III.B
    ),
    profile="lumbar",
    reported={"CVAA-GAN Table 1": {"MAE": 0.02982, "MSE": 0.003093, "CS": 0.9389, "PSNR": 25.4031, "SSIM": 0.6328}},
    stated_counts={},
    choices=(
        "CVAA-GAN names the net by a reference only; that it is Kasten's follows from a sister paper.",
        "InstanceNorm and a ReLU at the end, as CVAA-GAN's other nets have.",
        *MODEL.choices[:2],
    ),
)

MODELS = (MODEL, SMALL, NO_SKIPS, CNN)

ALIASES = {"ete": "e2e"}
