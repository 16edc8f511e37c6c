"""SRCT: volumes of three resolutions attend to each other (3DSRNet, III-B; after Xie et al., "CoTr", 2021).

    32, 32^3 --1x1x1--> 128 --.                                     .--> 1x1x1 --> with the first volume: 3x3x3, 1x1x1
    64, 16^3 --1x1x1--> 128 --|--> 37376 tokens --> 3 x [attention, MLP] --> 1x1x1 --> with the second
    128, 8^3 -----------------'                                     '-----------> with the third

Each token is told its place and its level. A deformable layer looks at two places a level and head only.
"""

from collections.abc import Sequence
from math import pi, prod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raylift.blocks.checks import one_of
from raylift.errors import BadInput

Side = tuple[int, ...]  # a volume's three extents
ATTENTIONS = ("deformable", "full")
# where the heads look first: a tetrahedron's corners, then the opposite ones; ours
CORNERS = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1), (-1, -1, -1), (-1, 1, 1), (1, -1, 1), (1, 1, -1))


def places(side: Side, like: Tensor) -> Float[Tensor, "N 3"]:
    """Each voxel's centre along the three axes, from 0 (the volume's first face) to 1 (its last), in the order that
    `flatten` gives; in float32.
    """
    axes = [(torch.arange(n, device=like.device, dtype=torch.float32) + 0.5) / n for n in side]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)


def sine_position(at: Float[Tensor, "N 3"], width: int) -> Float[Tensor, "N C"]:
    """Sines and cosines of 2 pi times each coordinate at falling frequencies: 42, 42 and 44 of 128 features."""
    third = width // 6 * 2
    parts = []
    for axis, count in enumerate((third, third, width - 2 * third)):
        turn = torch.arange(count // 2, device=at.device, dtype=torch.float32) * 2 / count
        angle = 2 * pi * at[:, axis, None] / 10000.0**turn  # Vaswani et al. 2017
        parts.append(torch.stack([angle.sin(), angle.cos()], -1).flatten(1))
    return torch.cat(parts, 1)


class DeformableAttention(nn.Module):
    """Each token looks, on every level, at `points` places near its own and weighs what it finds, for each head.

    Offsets are in voxels of the level looked at, along the volume's own axes in their order.
    """

    def __init__(self, width: int, *, levels: int, heads: int = 4, points: int = 2):
        super().__init__()
        self.shape = (heads, levels, points)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.weigh = nn.Linear(width, prod(self.shape))
        self.offset_weight = nn.Parameter(torch.empty(prod(self.shape) * 3, width))
        self.offset_bias = nn.Parameter(torch.empty(prod(self.shape) * 3))
        self.draw_weights()

    def draw_weights(self) -> None:
        """Point k of a head starts k + 1 voxels from the token, along the head's own direction."""
        heads, levels, points = self.shape
        ways = torch.tensor([CORNERS[k % len(CORNERS)] for k in range(heads)], dtype=torch.float32)
        start = ways[:, None, None] * torch.arange(1.0, points + 1)[:, None]  # heads 1 points 3
        with torch.no_grad():
            self.offset_weight.zero_()
            self.offset_bias.copy_(start.expand(-1, levels, -1, -1).flatten())

    def forward(
        self, query: Float[Tensor, "B N C"], tokens: Float[Tensor, "B N C"], sides: Sequence[Side]
    ) -> Float[Tensor, "B N C"]:
        heads = self.shape[0]
        offsets = F.linear(query, self.offset_weight, self.offset_bias).float()
        offsets = offsets.unflatten(-1, (*self.shape, 3)).movedim(1, 2).flatten(0, 1)  # B heads, N levels points 3
        weights = self.weigh(query).float().unflatten(-1, (heads, -1)).softmax(-1)
        weights = weights.unflatten(-1, self.shape[1:]).movedim(1, 2).flatten(0, 1)  # B heads, N levels points
        value = self.value(tokens).float().unflatten(-1, (heads, -1)).permute(0, 2, 3, 1).flatten(0, 1)  # B heads, c N
        here = torch.cat([places(side, query) for side in sides])[:, None]  # N 1 3
        found = torch.zeros_like(value)
        for level, volume in enumerate(value.split([prod(side) for side in sides], -1)):
            side = torch.tensor(sides[level], device=query.device, dtype=torch.float32)
            seen = sample(volume.unflatten(-1, sides[level]), here + offsets[:, :, level] / side)  # B heads, c N points
            found = found + (seen * weights[:, None, :, level]).sum(-1)
        return self.out(found.unflatten(0, (-1, heads)).permute(0, 3, 1, 2).flatten(2).to(tokens.dtype))


def sample(volume: Float[Tensor, "b c D H W"], at: Float[Tensor, "b N P 3"]) -> Float[Tensor, "b c N P"]:
    """The volume at these places (see `places`), trilinear, 0 outside."""
    grid = (2 * at - 1).flip(-1)[:, :, :, None]  # grid_sample's order is W, H, D
    return F.grid_sample(volume, grid, align_corners=False)[..., 0]


class FullAttention(nn.Module):
    """Every token looks at every token: SoftMax(Q K^T / sqrt(d)) V for each head (eq. 2)."""

    def __init__(self, width: int, *, levels: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(
        self, query: Float[Tensor, "B N C"], tokens: Float[Tensor, "B N C"], sides: Sequence[Side]
    ) -> Float[Tensor, "B N C"]:
        parts = [self.query(query), self.key(query), self.value(tokens)]
        q, k, v = (part.unflatten(-1, (self.heads, -1)).movedim(2, 1) for part in parts)  # B heads N c
        return self.out(F.scaled_dot_product_attention(q, k, v).movedim(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention, then an MLP of four times the width, each added to its input and normed."""

    def __init__(self, attend: nn.Module, width: int, dropout: float):
        super().__init__()
        self.attend, self.drop = attend, nn.Dropout(dropout)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(
        self, tokens: Float[Tensor, "B N C"], where: Float[Tensor, "N C"], sides: Sequence[Side]
    ) -> Float[Tensor, "B N C"]:
        attended = self.attend(tokens + where.to(tokens.dtype), tokens, sides)
        tokens = self.norm_attention(tokens + self.drop(attended))
        return self.norm_mlp(tokens + self.mlp(tokens))


class Join(nn.Module):
    """What convolutions saw and what the tokens saw, as one volume: x + convs(x + t), ReLU."""

    def __init__(self, width: int):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv3d(width, width, 3, padding=1, bias=False), nn.BatchNorm3d(width, eps=1e-6), nn.ReLU(),
            nn.Conv3d(width, width, 1, bias=False), nn.BatchNorm3d(width, eps=1e-6),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "B C D H W"], t: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B C D H W"]:
        return (x + self.convs(x + t)).relu()


class SRCT(nn.Module):
    """Volumes of `widths`, finest first; the last width is the tokens'. The same volumes come back, each with what
    the transformer found there. The axes are the view's own, so that one SRCT serves all views.

    `attn="full"` halves each side on the way in (4096 + 512 + 64 tokens) and doubles it on the way out.
    """

    def __init__(
        self, widths: Sequence[int], *, attn: str = "deformable", heads: int = 4, depth: int = 3, dropout: float = 0.1
    ):
        super().__init__()
        *narrow, width = widths
        if width % heads or width % 2:
            raise BadInput(f"SRCT: tokens {width} wide cannot be shared by {heads} heads; take an even multiple")
        full = one_of("SRCT", "attn", attn, ATTENTIONS) == "full"
        kind, step = (FullAttention, 2) if full else (DeformableAttention, 1)
        self.enter = nn.ModuleList(nn.Conv3d(w, width, step, stride=step) for w in narrow)
        self.leave = nn.ModuleList(nn.Conv3d(width, w, 1) for w in narrow)
        self.enter.append(nn.Conv3d(width, width, step, stride=step) if full else nn.Identity())
        self.leave.append(nn.Identity())
        self.grow = nn.Upsample(scale_factor=2.0, mode="trilinear") if full else nn.Identity()
        self.level = nn.Parameter(torch.empty(len(widths), width))
        self.layers = nn.ModuleList(
            Layer(kind(width, levels=len(widths), heads=heads), width, dropout) for _ in range(depth)
        )
        self.join = nn.ModuleList(Join(w) for w in widths)
        self.draw_weights()

    def draw_weights(self) -> None:
        """The levels' own marks, N(0, 1)."""
        nn.init.normal_(self.level)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        entered = [enter(x) for enter, x in zip(self.enter, maps, strict=True)]  # B 128 32^3, 16^3, 8^3
        sides = [tuple(x.shape[2:]) for x in entered]
        tokens = torch.cat([x.flatten(2).mT for x in entered], 1)  # B 37376 128
        where = torch.cat([self.where(side, mark) for side, mark in zip(sides, self.level, strict=True)])
        for layer in self.layers:
            tokens = layer(tokens, where, sides)
        parts = tokens.split([prod(side) for side in sides], 1)
        seen = [part.mT.unflatten(-1, side) for part, side in zip(parts, sides, strict=True)]
        told = [self.grow(leave(t)) for leave, t in zip(self.leave, seen, strict=True)]
        return [join(x, t) for join, x, t in zip(self.join, maps, told, strict=True)]  # B 32 32^3, 64 16^3, 128 8^3

    def where(self, side: Side, mark: Float[Tensor, " C"]) -> Float[Tensor, "N C"]:
        """What tells each token of a level its place and its level."""
        return sine_position(places(side, mark), len(mark)) + mark
