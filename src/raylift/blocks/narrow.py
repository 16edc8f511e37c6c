"""3-D convolutions that are safe to train in bf16 on a CPU."""

import torch
from torch import Tensor, nn


class NarrowConv3d(nn.Conv3d):
    """A convolution that computes in float32 where a volume has a side shorter than the kernel that crosses it.

    oneDNN 3.12 (torch 2.13, AVX-512) gets that kernel's bf16 gradient wrong there, by any amount, and may write past
    it. Such volumes are small, so their float32 costs little.
    """

    def forward(self, input: Tensor) -> Tensor:  # the name that nn.Conv3d's callers know
        """As `nn.Conv3d`."""
        sides = input.shape[2:]
        narrow = any(side < kernel for side, kernel in zip(sides, self.kernel_size, strict=True))
        if narrow and self.training and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return super().forward(input)


def narrow_in_float32(net: nn.Module) -> nn.Module:
    """`net` with each of its 3-D convolutions made a `NarrowConv3d`, in place; weights and names stay."""
    for layer in net.modules():
        if type(layer) is nn.Conv3d and set(layer.stride) == {1}:
            layer.__class__ = NarrowConv3d
    return net
