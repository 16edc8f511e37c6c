"""Discriminators: is this CT a real one, given the X-rays?"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raylift.blocks.checks import one_of
from raylift.blocks.lifts import expand_views
from raylift.types import View

COORDS = ("none", "first", "all")  # which convolutions are told where they are


def coordinates(like: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B 3 D H W"]:
    """Each voxel's D, H, W from -1 (first voxel) to 1 (last voxel)."""
    axes = [torch.linspace(-1, 1, n, device=like.device, dtype=like.dtype) for n in like.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(like.shape[0], -1, -1, -1, -1)


class CoordConv3d(nn.Conv3d):
    """A convolution that is told where it is: D, H and W join the channels."""

    def __init__(self, inside: int, out: int, kernel: int, **options):
        super().__init__(inside + 3, out, kernel, **options)

    def forward(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B c d h w"]:
        return super().forward(torch.cat([x, coordinates(x)], 1))


def patch_layers(inside: int, *, width: int, levels: int, coord: str = "none") -> nn.Sequential:
    """The PatchGAN's convolutions, from `inside` channels to a map of verdicts. InstanceNorm stands on the middle ones,
    which therefore have no bias; `coord` tells the first or all of them where they are.
    """
    widths = [width * 2**k for k in range(levels + 1)]  # 64, 128, 256, 512
    layers: list[nn.Module] = []
    for number, out in enumerate([*widths, 1]):
        first, last = number == 0, number == len(widths)
        conv = CoordConv3d if coord == "all" or (coord == "first" and first) else nn.Conv3d
        stride = 2 if number < levels else 1
        layers.append(conv(inside, out, 4, stride=stride, padding=2, bias=first or last))
        if not (first or last):
            layers.append(nn.InstanceNorm3d(out))
        if not last:
            layers.append(nn.LeakyReLU(0.2))
        inside = out
    return nn.Sequential(*layers)


class PatchD3D(nn.Module):
    """The conditional 3-D PatchGAN of X2CT-GAN and of all that follow it.

        X-rays, each repeated along its rays --.
        CT -----------------------------concat-'--> conv4 s2 w --> conv4 s2 2w --> conv4 s2 4w --> conv4 8w --> conv4 1
                                                    LeakyReLU      IN, LeakyReLU   ...             ...          a map

    `coord` tells the 'first' or 'all' convolutions where they are (X-Recon). The map's values are not squashed: LSGAN.
    """

    def __init__(self, views: Sequence[View], *, coord: str = "none", width: int = 64, levels: int = 3):
        super().__init__()
        self.views = tuple(views)
        one_of("the discriminator", "coord", coord, COORDS)
        self.layers = patch_layers(len(self.views) + 1, width=width, levels=levels, coord=coord)

    def forward(self, xrays: Float[Tensor, "B V H W"], ct: Float[Tensor, "B 1 D h w"]) -> Float[Tensor, "B 1 d1 h1 w1"]:
        seen = expand_views(xrays, self.views)  # B V D H W
        return self.layers(torch.cat([seen, ct], 1))
