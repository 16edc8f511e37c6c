"""Three-dimensional decoders: from the deepest volume up to the CT."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


def conv_norm_relu(inside: int, out: int) -> nn.Sequential:
    """3x3x3 convolution, InstanceNorm without weights, ReLU."""
    return nn.Sequential(nn.Conv3d(inside, out, 3, padding=1), nn.InstanceNorm3d(out), nn.ReLU())


def up_norm_relu(inside: int, out: int) -> nn.Sequential:
    """Twice the side by a transposed convolution of 3^3, InstanceNorm without weights, ReLU."""
    return nn.Sequential(
        nn.ConvTranspose3d(inside, out, 3, stride=2, padding=1, output_padding=1), nn.InstanceNorm3d(out), nn.ReLU()
    )


class DecoderLevel(nn.Module):
    """One resolution of a U-shaped decoder, in two parts that the net calls: `join` and `rise`.

    below, beside --concat--> compress 2C -> C --> refine (n convolutions) --> up C -> the next finer width
    """

    def __init__(self, width: int, finer: int | None, *, convs: int, deepest: bool = False):
        super().__init__()
        self.compress = None if deepest else conv_norm_relu(2 * width, width)
        self.refine = nn.Sequential(*(conv_norm_relu(width, width) for _ in range(convs)))
        self.up = None if finer is None else up_norm_relu(width, finer)

    def join(self, first: Float[Tensor, "B C D H W"], second: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B C D H W"]:
        """Two volumes of this level's width as one."""
        return self.compress(torch.cat([first, second], 1))

    def rise(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B c d h w"]:
        """Refined, and brought to the next finer level where there is one."""
        x = self.refine(x)
        return x if self.up is None else self.up(x)


def decoder_levels(widths: Sequence[int], convs: Sequence[int]) -> nn.ModuleList:
    """Levels of these widths, finest first; the deepest one only rises."""
    last = len(widths) - 1
    finer = [None, *widths[:-1]]
    return nn.ModuleList(
        DecoderLevel(widths[k], finer[k], convs=convs[k], deepest=k == last) for k in range(len(widths))
    )


def convs_per_level(levels: int, each: int) -> tuple[int, ...]:
    """X2CT-GAN's counts, finest first: one at the finest, none at the deepest, `each` between."""
    return (1, *[each] * (levels - 2), 0)


def head(inside: int, kernel: int = 7) -> nn.Sequential:
    """One channel and no negative value."""
    return nn.Sequential(nn.Conv3d(inside, 1, kernel, padding=kernel // 2), nn.ReLU())
