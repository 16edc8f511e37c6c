"""From a picture to a volume: each X-ray's features spread along that X-ray's rays.

A frontal view (PA, AP) has rows along D, columns along W, rays along H; a lateral one rows along D, columns along H,
rays along W. What is lifted stands in the CT's axes D, H, W at once, so that nothing has to be permuted later.
"""

from collections.abc import Sequence

import torch
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
