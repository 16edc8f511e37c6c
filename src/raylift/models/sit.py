"""SIT: Henzler et al., "Single-image tomography: 3D volumes from 2D cranial X-rays", 2018, as X2CT-GAN's code has it.

    X-rays, twice the side --> conv7, stride 2 --> R R R R --.---------------- + --> 1x1 --> 1x1 --> planes = CT
    V 256^2                    64 128^2       256 128^2      |                 |     256     S
                                                   pool, R x 3 --.--- + --> R, up
                                                   256 64^2      |    |
                                                            pool, R x 3 ...
                                                                        pool, R x 5, up
                                                                        256 8^2

R is a bottleneck of 1x1, 3x3, 3x3; `up` a transposed convolution of each channel by itself. All is two-dimensional
and free of biases; each convolution but `up` and the last has BatchNorm, each but `up` ReLU. The planes lie along the
frontal rays.
"""

from dataclasses import replace
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raylift.blocks.lifts import from_ray_axes
from raylift.errors import BadInput
from raylift.models.spec import Model, Recipe
from raylift.types import View


def conv_norm_relu(inside: int, out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU."""
    conv = nn.Conv2d(inside, out, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


class Bottleneck(nn.Module):
    """ReLU(convs(x) + shortcut(x)): half the width in between where the width stays, a 1x1 shortcut where it grows."""

    def __init__(self, inside: int, out: int):
        super().__init__()
        middle = inside // 2 if inside == out else inside
        self.convs = nn.Sequential(
            conv_norm_relu(inside, middle, 1), conv_norm_relu(middle, middle, 3), conv_norm_relu(middle, out, 3)
        )
        self.shortcut = nn.Identity() if inside == out else conv_norm_relu(inside, out, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c H W"]:
        return (self.convs(x) + self.shortcut(x)).relu()


def bottlenecks(width: int, count: int) -> list[nn.Module]:
    """`count` bottlenecks of one width."""
    return [Bottleneck(width, width) for _ in range(count)]


class SIT(nn.Module):
    """`width` is the stem's; the rest is four times as wide. `pools` halvings below the stem."""

    def __init__(self, *, inputs: int = 1, size: int = 128, width: int = 64, pools: int = 4):
        super().__init__()
        if size % 2**pools:
            raise BadInput(f"sit: a size of {size} cannot be halved {pools} times; set net.pools or another size")
        wide = 4 * width  # 256
        self.stem = conv_norm_relu(inputs, width, 7, stride=2)
        self.top = nn.Sequential(Bottleneck(width, 2 * width), *bottlenecks(2 * width, 2), Bottleneck(2 * width, wide))
        self.downs = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), *bottlenecks(wide, 5 if k == pools - 1 else 3)) for k in range(pools)
        )
        self.ups = nn.ModuleList(
            nn.Sequential(
                *bottlenecks(wide, 0 if k == 0 else 1),
                nn.ConvTranspose2d(wide, wide, 4, stride=2, padding=1, groups=wide, bias=False),
            )
            for k in range(pools)
        )
        self.planes = nn.Sequential(conv_norm_relu(wide, wide, 1), nn.Conv2d(wide, size, 1, bias=False), nn.ReLU())

    def forward(self, xrays: Float[Tensor, "B V S S"]) -> dict[str, Tensor]:
        x = F.interpolate(xrays, scale_factor=2.0, mode="bilinear", align_corners=False)  # B V 256 256
        maps = [self.top(self.stem(x))]  # B 256 128 128
        for down in self.downs:
            maps.append(down(maps[-1]))  # B 256 64^2 .. 8^2
        x = maps.pop()
        for up in self.ups:
            x = up(x) + maps.pop()  # B 256 16^2 .. 128^2
        planes = self.planes(x)  # B S 128 128
        return {"ct": from_ray_axes(planes[:, None], View.PA)}  # B 1 S S S


MODEL = Model(
    name="sit",
    paper="Henzler et al. 2018, SIT",
    views=(View.PA,),
    size=128,
    spacing=2.5,  # ours: the chest cube of 320 mm
    net=SIT,
    options={"size": 128, "width": 64, "pools": 4},
    tiny={"size": 16, "width": 4, "pools": 2},
    recipe=Recipe(
        losses={"mse": 1.0},  # the paper's L2, known elsewhere
        lr=2e-4,  # X2CT-GAN 4.2, whose comparison this version is
        betas=(0.5, 0.99),  # X2CT-GAN 4.2
        schedule="linear-last-half",  # X2CT-GAN 4.2
        epochs=100,  # X2CT-GAN 4.2
        batch_size=4,  # X2CT-GAN's code
        init="normal",  # X2CT-GAN's code: N(0, 0.02)
    ),
    reported={
        "3DSRNet Table I": {
            "PSNR": 33.2308,
            "SSIM": 0.7669,
            "CS": 0.581,
            "MAE": 37.9719,
            "MSE": 16118.3614,
            "LPIPS": 0.1541,
        },
        "X2CT-GAN paper (CNN+S)": {"PSNR": 23.12, "SSIM": 0.587},
    },
    stated_counts={
        "parameters": 9_068_480,  # X2CT-GAN's code
        "unmatched": {"3DSRNet Table I": "123.674 G: of a version of their own that is not public (26.0 G true)"},
    },
    choices=(
        "The planes lie along the frontal rays; X2CT-GAN's loader leaves them along the CT's slices.",
        "No paper says how SIT is trained as a baseline; the recipe is that of X2CT-GAN's comparison.",
        "The second stage that sharpens the volume with the full X-ray is left out: no paper compares with it.",
    ),
)

BIPLANAR = replace(
    MODEL,
    name="sit-biplanar",
    views=(View.PA, View.LAT),
    net=partial(SIT, inputs=2),  # EAR 4.3: the first layer has two input channels
    reported={
        "EAR Table 1": {"MSE": 0.4118, "MAE": 0.2863, "Dice": 0.4451, "PSNR": 21.2628, "SSIM": 0.6464, "FD": 0.9525}
    },
    stated_counts={},
    choices=(
        *MODEL.choices,
        "The two views are stacked as channels; their pixels agree in the row only.",
        "EAR trains it at Adam 0.01, weight decay 1e-5, batch 2 (4.4); the recipe stays that of the single view.",
    ),
)

MODELS = (MODEL, BIPLANAR)
