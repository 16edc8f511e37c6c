"""Attention: which channels and which places of a feature map matter, as gates between 0 and 1."""

from math import log2

import torch
from jaxtyping import Float
from torch import Tensor, nn

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class ChannelGate(nn.Module):
    """CBAM's first half: mean and maximum of each channel through one small MLP, summed, sigmoid."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        hidden = max(2, channels // reduction)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Float[Tensor, "B C *space"]) -> Float[Tensor, "B C *space"]:
        flat = x.flatten(2)
        gate = (self.mlp(flat.mean(-1)) + self.mlp(flat.amax(-1))).sigmoid()
        return x * gate.reshape(*gate.shape, *[1] * (x.ndim - 2))


class SpatialGate(nn.Module):
    """CBAM's second half: mean and maximum over the channels, a convolution, sigmoid."""

    def __init__(self, dims: int, kernel: int = 7):
        super().__init__()
        self.conv = CONVS[dims](2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Float[Tensor, "B C *space"]) -> Float[Tensor, "B C *space"]:
        seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * self.conv(seen).sigmoid()


class CBAM(nn.Sequential):
    """Channels first, then places (Woo et al. 2018), in two or three dimensions."""

    def __init__(self, channels: int, *, dims: int = 2, reduction: int = 16, kernel: int = 7):
        super().__init__(ChannelGate(channels, reduction), SpatialGate(dims, kernel))


def eca_kernel(channels: int) -> int:
    """How many neighbouring channels ECA looks at: |log2(C) / 2 + 1/2|, made odd (Wang et al. 2020).

    >>> [eca_kernel(c) for c in (64, 128, 256)]
    [3, 5, 5]
    """
    near = int(abs(log2(channels) / 2 + 0.5))
    return near if near % 2 else near + 1


class ECA(nn.Module):
    """Each channel's mean, a convolution over neighbouring channels, sigmoid: the gate (Wang et al. 2020).

    `combine="add"` returns x + gated x in place of gated x.
    """

    def __init__(self, channels: int, combine: str = "mul"):
        super().__init__()
        kernel = eca_kernel(channels)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.combine = combine

    def forward(self, x: Float[Tensor, "B C *space"]) -> Float[Tensor, "B C *space"]:
        gate = self.conv(x.flatten(2).mean(-1)[:, None])[:, 0].sigmoid()  # B C
        gated = x * gate.reshape(*gate.shape, *[1] * (x.ndim - 2))
        return x + gated if self.combine == "add" else gated
