"""From a picture to a volume: each X-ray's features spread along that X-ray's rays.

A frontal view (PA, AP) has rows along D, columns along W, rays along H; a lateral one rows along D, columns along H,
rays along W. What is lifted stands in the CT's axes D, H, W at once, so that nothing has to be permuted later.
"""

from collections.abc import Sequence
from math import cos, radians, sin

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raylift.types import View

RAY_DIM = {"frontal": -2, "lateral": -1}  # the dimension of B C D H W along which the view's rays run


def replicate(x: Float[Tensor, "*b rows cols"], view: View, depth: int) -> Float[Tensor, "*b D H W"]:
    """`x` repeated `depth` times along the view's rays."""
    dim = RAY_DIM[view.axis]
    shape = list(x.shape)
    shape.insert(len(shape) + 1 + dim, depth)
    return x.unsqueeze(dim).expand(shape)


def to_ray_axes(ct: Float[Tensor, "*b D H W"], view: View) -> Float[Tensor, "*b ray row col"]:
    """The volume with its axes in the order that the view sees: along the ray, down the rows, along the columns."""
    return ct.movedim(RAY_DIM[view.axis], -3)


def from_ray_axes(seen: Float[Tensor, "*b ray row col"], view: View) -> Float[Tensor, "*b D H W"]:
    """The inverse of `to_ray_axes`."""
    return seen.movedim(-3, RAY_DIM[view.axis])


def expand_views(xrays: Float[Tensor, "B V H W"], views: Sequence[View]) -> Float[Tensor, "B V D h w"]:
    """Each X-ray repeated along its own rays, one channel a view, in the CT's axes: no layer has seen them yet."""
    size = xrays.shape[-1]
    return torch.cat([replicate(xrays[:, k : k + 1], view, size) for k, view in enumerate(views)], 1)


def expand_turned(xray: Float[Tensor, "B 1 rows cols"], primary_deg: float) -> Float[Tensor, "B 1 D H W"]:
    """A frontal X-ray taken `primary_deg` towards the patient's left, repeated along its own rays, which then are
    oblique in H and W; 0 where no ray runs. At 0 degrees a plain repetition.
    """
    n = xray.shape[-1]
    offset = torch.arange(n, device=xray.device, dtype=torch.float32) - (n - 1) / 2
    turn = radians(primary_deg)
    column = offset * cos(turn) + offset[:, None] * sin(turn) + (n - 1) / 2  # H W: along the picture's columns
    column = (column + 1).clamp(0, n + 1)  # of the padded picture
    left = column.floor().long().clamp_max(n)
    padded = F.pad(xray, (1, 1))
    share = (column - left).to(xray.dtype)
    return padded[..., left] * (1 - share) + padded[..., left + 1] * share


class RepeatLift(nn.Module):
    """X2CT-GAN's Connection-B: 1x1 to `out` channels, repeat along the rays, 3x3x3; each with InstanceNorm and ReLU."""

    def __init__(self, inside: int, out: int, view: View):
        super().__init__()
        self.view = view
        self.reduce = nn.Sequential(nn.Conv2d(inside, out, 1), nn.InstanceNorm2d(out), nn.ReLU())
        self.mix = nn.Sequential(nn.Conv3d(out, out, 3, padding=1), nn.InstanceNorm3d(out), nn.ReLU())

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c D h w"]:
        return self.mix(replicate(self.reduce(x), self.view, x.shape[-1]))


class FullyConnectedLift(nn.Module):
    """X2CT-GAN's Connection-A: the map's mean, a linear layer, dropout, ReLU, and `out` x side^3 of it."""

    def __init__(self, inside: int, out: int, side: int, dropout: float = 0.5):
        super().__init__()
        self.shape = (out, side, side, side)
        self.linear = nn.Linear(inside, out * side**3)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B c s s s"]:
        return self.dropout(self.linear(x.mean((-2, -1)))).relu().unflatten(1, self.shape)
