"""The same nets, quicker in use: other layers in the place of some, with their weights, float32, the same answer.

    norms     InstanceNorm and ReLU of a volume, channels last, in place: two passes where there were six
    layout    convolutions with their channels last, which spares two reorderings each
    heads     a k^3 convolution to one channel fills one lane of the processor's sixteen; as a k^2 convolution to k
              channels, one for each tap along D, which are shifted and added, it fills k
    lifts     a map repeated along the rays gives, convolved, all slices alike but the first and the last: three are
              computed, and of the convolution that joins them to a volume five

Layers that need a gradient, another precision or a GPU run as they were.
"""

from typing import no_type_check

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numba import njit
from torch import Tensor, nn

from raylift.blocks.branch import XrayBranch
from raylift.blocks.decoders3d import DecoderLevel
from raylift.blocks.lifts import RAY_DIM, RepeatLift, replicate
from raylift.projector.compiled import FAST
from raylift.projector.cpu import in_threads

ROWS = 2048  # ours: voxels that one sum in float32 spans
LARGE = 5  # ours: the smallest kernel of a head that is worth it
SHORTEST = 5  # slices, below which the first and last two are all there are


@njit(**FAST)
@no_type_check
def _sums(first, last, x, guess, found):
    """For each block of voxels the channels' sums and sums of squares, both of what is above `guess`."""
    voxels, channels = x.shape
    for block in range(first, last):
        total, square = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
        for k in range(block * ROWS, min(voxels, (block + 1) * ROWS)):
            for c in range(channels):
                above = x[k, c] - guess[c]
                total[c] += above
                square[c] += above * above
        found[block, 0], found[block, 1] = total, square


@njit(**FAST)
@no_type_check
def _scale_relu(first, last, x, scale, shift):
    """max(0, x scale + shift), in place, in these blocks of voxels."""
    voxels, channels = x.shape
    for k in range(first * ROWS, min(voxels, last * ROWS)):
        for c in range(channels):
            x[k, c] = max(np.float32(0), x[k, c] * scale[c] + shift[c])


def norm_relu_(x: Float[Tensor, "B C D H W"], eps: float) -> Float[Tensor, "B C D H W"]:
    """InstanceNorm without weights, then ReLU, in place; `x` lies channels last in the CPU's memory."""
    for sample in x:
        rows = sample.permute(1, 2, 3, 0).flatten(0, 2).numpy()
        found = np.empty((-(-len(rows) // ROWS), 2, rows.shape[1]), np.float32)
        guess = rows[len(rows) // 2].copy()  # near the mean, so that little is lost where that is far from 0
        in_threads(_sums, len(found), rows, guess, found)
        mean, square = found.sum(0, dtype=np.float64) / len(rows)
        scale = 1 / np.sqrt(np.maximum(square - mean**2, 0) + eps)
        shift = -(guess + mean) * scale
        in_threads(_scale_relu, len(found), rows, scale.astype(np.float32), shift.astype(np.float32))
    return x


def plain_way(x: Tensor) -> bool:
    """True where the quick layers are not for `x`."""
    return (
        torch.is_grad_enabled()
        or x.device.type != "cpu"
        or x.dtype != torch.float32
        or torch.is_autocast_enabled("cpu")
    )


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


class QuickBlock(nn.Module):
    """A convolution, transposed or not, its InstanceNorm and ReLU; the norm takes the bias away, so none is added."""

    def __init__(self, plain: nn.Sequential):
        super().__init__()
        self.plain = plain.to(memory_format=torch.channels_last_3d)

    def forward(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B c d h w"]:
        if plain_way(x):
            return self.plain(x)
        conv, norm, _ = self.plain
        x = channels_last(x)
        if isinstance(conv, nn.ConvTranspose3d):
            x = F.conv_transpose3d(x, conv.weight, None, conv.stride, conv.padding, conv.output_padding)
        else:
            x = F.conv3d(x, conv.weight, None, conv.stride, conv.padding)
        return norm_relu_(channels_last(x), norm.eps)


class QuickHead(nn.Module):
    """A convolution of an odd k^3 to one channel, same size."""

    def __init__(self, plain: nn.Conv3d):
        super().__init__()
        self.plain = plain

    def forward(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B 1 D H W"]:
        if plain_way(x):
            return self.plain(x)
        taps, reach, depth = self.plain.kernel_size[0], self.plain.padding[0], x.shape[2]
        weight = channels_last(self.plain.weight.transpose(0, 2).squeeze(2)[:, :, None].contiguous())
        slices = F.conv3d(channels_last(x), weight, padding=(0, reach, reach))  # B taps D H W, one channel a tap
        out = torch.zeros_like(slices[:, :1], memory_format=torch.contiguous_format)
        if self.plain.bias is not None:
            out += self.plain.bias
        for tap in range(taps):
            shift = tap - reach
            first, last = max(0, -shift), min(depth, depth - shift)
            out[:, :, first:last] += slices[:, tap : tap + 1, first + shift : last + shift]
        return out


class QuickLift(nn.Module):
    """A `RepeatLift` that gives three slices along the rays: the first, all between, the last."""

    def __init__(self, plain: RepeatLift):
        super().__init__()
        self.plain = plain
        self.conv, self.norm, _ = plain.mix

    def forward(self, x: Float[Tensor, "B C S S"]) -> Float[Tensor, "B c d h w"]:
        side = x.shape[-1]
        if plain_way(x) or side < SHORTEST:
            return self.plain(x)
        y = self.conv(replicate(self.plain.reduce(x), self.plain.view, 3))  # the border's two slices, and one between
        dim = RAY_DIM[self.plain.view.axis]
        share = y.new_tensor([1, side - 2, 1]) / side / side**2
        share = share.view([3 if k == dim % 5 else 1 for k in range(5)])
        mean = (y * share).sum((2, 3, 4), keepdim=True)
        variance = ((y - mean).square() * share).sum((2, 3, 4), keepdim=True)
        return ((y - mean) * (variance + self.norm.eps).rsqrt()).relu()


class QuickLevel(nn.Module):
    """A `DecoderLevel` whose second volume comes as three slices along the rays."""

    def __init__(self, plain: DecoderLevel, dim: int):
        super().__init__()
        self.plain, self.dim = plain, dim
        self.conv, self.norm, _ = plain.compress

    @property
    def refine(self) -> nn.Module:
        return self.plain.refine

    def rise(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B c d h w"]:
        return self.plain.rise(x)

    def join(self, first: Float[Tensor, "B C D H W"], second: Float[Tensor, "B C d h w"]) -> Float[Tensor, "B C D H W"]:
        if second.shape == first.shape:
            return self.plain.join(first, second)
        one, other = self.conv.weight.split(first.shape[1], 1)
        x = channels_last(F.conv3d(channels_last(first), channels_last(one), padding=1))
        begin, middle, end = second.unbind(self.dim)
        five = torch.stack([begin, middle, middle, middle, end], self.dim)
        five = F.conv3d(five, other, padding=1)
        side = x.shape[self.dim]
        for place, k in ((0, 0), (1, 1), (side - 2, 3), (side - 1, 4)):
            x.select(self.dim, place).add_(five.select(self.dim, k))
        x.narrow(self.dim, 2, side - 4).add_(five.narrow(self.dim, 2, 1))
        return norm_relu_(x, self.norm.eps)


def quick_layers(net: nn.Module) -> nn.Module:
    """`net` with its blocks and heads replaced, in place."""
    for name, module in net.named_children():
        quick = _quick(module)
        if quick is None:
            quick_layers(module)
        else:
            setattr(net, name, quick)
    return net


def _quick(module: nn.Module) -> nn.Module | None:
    """What stands in for `module`, or None."""
    if isinstance(module, nn.Sequential) and len(module) == 3:
        conv, norm, last = module
        plain_norm = isinstance(norm, nn.InstanceNorm3d) and not norm.affine and not norm.track_running_stats
        if isinstance(conv, nn.Conv3d | nn.ConvTranspose3d) and plain_norm and isinstance(last, nn.ReLU):
            return QuickBlock(module) if _usual(conv) else None
    if isinstance(module, nn.Conv3d) and module.out_channels == 1 and _usual(module):
        size = module.kernel_size[0]
        same = module.stride == (1, 1, 1) and module.padding == (size // 2,) * 3 and module.kernel_size == (size,) * 3
        return QuickHead(module) if same and size % 2 and size >= LARGE else None
    return None


def _usual(conv: nn.Module) -> bool:
    return conv.groups == 1 and set(conv.dilation) == {1} and conv.padding_mode == "zeros" and conv.padding != "same"


def quick_branch(branch: XrayBranch) -> None:
    """The branch's lifts and the levels that join them, in place; nothing else may read what it lifts."""
    for k, lift in enumerate(branch.skips):
        branch.skips[k] = QuickLift(lift)
        branch.levels[k] = QuickLevel(branch.levels[k], RAY_DIM[lift.view.axis] % 5)
