"""EAM: one map of edges, drawn from the features of several resolutions (EAR, 3.3.2)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def resized(x: Float[Tensor, "B C D H W"], like: Float[Tensor, "B c d h w"]) -> Float[Tensor, "B C d h w"]:
    """`x` at the resolution of `like`, trilinear."""
    return F.interpolate(x, size=like.shape[2:], mode="trilinear", align_corners=False)


class GatedConvolution(nn.Module):
    """m-GCB (3.3.2, eq. 2): x (1 + gate). The gate comes of x and its guide: conv, BN, ReLU; 1x1x1, BN, sigmoid."""

    def __init__(self, width: int):
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv3d(2 * width, width, 3, padding=1, bias=False), nn.BatchNorm3d(width), nn.ReLU(),
            nn.Conv3d(width, width, 1, bias=False), nn.BatchNorm3d(width), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "B C D H W"], guide: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B C D H W"]:
        return x * self.gate(torch.cat([x, guide], 1)) + x


class EAM(nn.Module):
    """Edge attention (3.3.2): a stream at the finest resolution, gated by each coarser feature in turn.

    e1 --> + two convs --> gate --> + two convs --> gate --> 1x1x1, sigmoid --> edge map in [0, 1]
                            ^                        ^
                    e2, 1x1x1, resized       e3, 1x1x1, resized
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        width, *coarser = widths
        self.refine = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(width, width, 3, padding=1, bias=False), nn.BatchNorm3d(width), nn.ReLU(),
                nn.Conv3d(width, width, 3, padding=1, bias=False), nn.BatchNorm3d(width), nn.ReLU(),
            )
            for _ in coarser
        )  # fmt: skip
        self.guides = nn.ModuleList(nn.Conv3d(w, width, 1) for w in coarser)
        self.gates = nn.ModuleList(GatedConvolution(width) for _ in coarser)
        self.draw = nn.Conv3d(width, 1, 1)

    def forward(self, maps: list[Tensor]) -> Float[Tensor, "B 1 D H W"]:
        stream, *coarser = maps
        for refine, guide, gate, x in zip(self.refine, self.guides, self.gates, coarser, strict=True):
            stream = stream + refine(stream)  # B 16 64^3
            stream = gate(stream, resized(guide(x), stream))  # B 16 64^3
        return self.draw(stream).sigmoid()  # B 1 64^3
