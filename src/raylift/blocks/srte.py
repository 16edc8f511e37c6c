"""SRTE: the texture of feature maps, counted (3DSRNet, III-C; after Zhu et al., "Learning statistical texture", 2021).

    maps --> 1x1 --> z --.--> TEM --.---------> PTFEM --.
                         |          |                   |--> concat with the last map --> 1x1 --> the last map's width
                         |          '-------------------|
                         '------------------------------'

Both modules count how alike the pixels are to a mean: TEM over the whole map, PTFEM for neighbours within cells.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CELLS = (1, 2, 4, 8)  # a side, of PTFEM's pyramid (original code)
LEVELS = 128  # of TEM (original code)
CELL_LEVELS = 8  # of PTFEM (original code)
FLAT = 1e-6  # the narrowest level: where all pixels are alike, each counts in every level; ours


def likeness(x: Float[Tensor, "B C P"]) -> Float[Tensor, "B P"]:
    """The cosine between each pixel and the mean of all, in [-1, 1] (eq. 3), always in float32."""
    x = x.float()
    return F.cosine_similarity(x, x.mean(-1, keepdim=True), dim=1, eps=1e-4)  # the floor is ours


def quantised(like: Float[Tensor, "B P"], count: int) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B P N"]]:
    """`count` levels between the least and the greatest value (eq. 4, at the bins' centres), and each pixel's code for
    each level: 1 - its distance from it (eq. 5), 0 where that is a level's width or more (original code).
    """
    least, greatest = like.amin(-1, keepdim=True), like.amax(-1, keepdim=True)
    step = (greatest - least) / count  # B 1
    levels = least + step * (torch.arange(count, device=like.device) + 0.5)  # B N
    apart = (like[..., None] - levels[:, None]).abs()  # B P N
    return levels, torch.where(apart < step.clamp_min(FLAT)[..., None], 1 - apart, 0)


def shares(codes: Float[Tensor, "B *what"]) -> Float[Tensor, "B *what"]:
    """Each entry's part of the sum over all."""
    return codes / codes.flatten(1).sum(-1).reshape(-1, *[1] * (codes.ndim - 1))


def conv_norm(inside: int, out: int, dims: int, kernel: int = 1) -> list[nn.Module]:
    """A convolution without bias over pixels (2) or levels (1), and its BatchNorm."""
    if dims == 1:
        return [nn.Conv1d(inside, out, kernel, bias=False), nn.BatchNorm1d(out)]
    return [nn.Conv2d(inside, out, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(out)]


def count_layers(inside: int, width: int) -> nn.Sequential:
    """Features of each (level, share): 1x1, LeakyReLU, 1x1, ReLU."""
    return nn.Sequential(
        nn.Conv1d(inside, width // 4, 1, bias=False), nn.LeakyReLU(),
        nn.Conv1d(width // 4, width // 2, 1, bias=False), nn.ReLU(),
    )  # fmt: skip


def beside(counted: Float[Tensor, "B c N"], mean: Float[Tensor, "B C"]) -> Float[Tensor, "B cC N"]:
    """Each level's features, and with them the mean of the pixels."""
    return torch.cat([counted, mean[..., None].expand(-1, -1, counted.shape[-1]).to(counted.dtype)], 1)


class TEM(nn.Module):
    """Texture enhancement: how many pixels lie at each level of likeness, put back at the pixels of that level.

    z --> 3x3, 1x1 --> cosine --> levels, shares --> 1x1s, with the mean --> levels attend to levels --> pixels
    """

    def __init__(self, width: int, levels: int = LEVELS):
        super().__init__()
        half, self.levels = width // 2, levels
        self.reduce = nn.Sequential(
            *conv_norm(width, width, 2, 3), nn.LeakyReLU(), nn.Conv2d(width, half, 1, bias=False)
        )
        self.count = count_layers(2, width)
        self.join = nn.Sequential(*conv_norm(2 * half, half, 1), nn.ReLU())
        self.key, self.query, self.value = (nn.Conv1d(half, half, 1, bias=False) for _ in range(3))
        self.out = nn.Sequential(*conv_norm(half, width, 1), nn.ReLU())

    def forward(self, z: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        x = self.reduce(z).flatten(2)  # B 128 P
        levels, codes = quantised(likeness(x), self.levels)  # B N, B P N
        counted = self.count(torch.stack([levels, shares(codes.sum(1))], 1))  # B 128 N
        counted = self.join(beside(counted, x.mean(-1)))  # B 128 N
        alike = torch.bmm(self.key(counted).mT, self.query(counted)).softmax(-1)  # B N N
        attended = self.out(torch.bmm(self.value(counted), alike.mT))  # B 256 N
        return torch.bmm(attended, codes.mT.to(attended.dtype)).unflatten(-1, z.shape[2:])  # B 256 H W


class CellTexture(nn.Module):
    """PTFEM at one scale: within each of `cells`^2 cells, how often each level meets each at the lower right."""

    def __init__(self, width: int, cells: int, levels: int = CELL_LEVELS):
        super().__init__()
        half, self.cells, self.levels = width // 2, cells, levels
        self.count = count_layers(3, width)
        self.join = nn.Sequential(*conv_norm(half + width, half, 1), nn.ReLU(), *conv_norm(half, half, 1))

    def pairs(self, cell: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 NN"]:
        """For each pair of levels: the two, and the share of neighbours that have them."""
        levels, codes = quantised(likeness(cell.flatten(2)), self.levels)
        codes = codes.unflatten(1, cell.shape[2:])  # B h w N
        met = codes[:, :-1, :-1, :, None] * codes[:, 1:, 1:, None]  # a product, not a matmul: float32 stays
        share = shares(met.sum((1, 2)))  # B N N
        return torch.stack([levels[:, :, None].expand_as(share), levels[:, None].expand_as(share), share], 1).flatten(2)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c n n"]:
        n = self.cells
        cells = x.unflatten(3, (n, -1)).unflatten(2, (n, -1))  # B C n h n w
        cells = cells.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)  # B n n, C h w
        counted = self.join(beside(self.count(self.pairs(cells)), cells.mean((2, 3))))  # B n n, 128 64
        return counted.mean(-1).unflatten(0, (-1, n, n)).movedim(-1, 1)  # B 128 n n


class PTFEM(nn.Module):
    """The pyramid of cell textures, each spread over the picture again, as one map."""

    def __init__(self, inside: int, width: int, cells: Sequence[int] = CELLS):
        super().__init__()
        self.reduce = nn.Conv2d(inside, width, 1, bias=False)
        self.scales = nn.ModuleList(CellTexture(width, n) for n in cells)
        self.join = nn.Sequential(*conv_norm(len(cells) * (width // 2), width, 2), nn.ReLU())

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B C H W"]:
        x = self.reduce(x)  # B 256 H W
        size = x.shape[2:]
        scales = [F.interpolate(scale(x), size=size, mode="bilinear", align_corners=True) for scale in self.scales]
        return self.join(torch.cat(scales, 1))


class SRTE(nn.Module):
    """The last of `maps` with the texture of all: they are brought to its size and counted together.

    `inside`: the widths of the maps. The side of the last map must be a multiple of 16: eight cells of two pixels.
    """

    def __init__(self, inside: Sequence[int], width: int):
        super().__init__()
        self.enter = nn.Sequential(*conv_norm(sum(inside), width, 2), nn.ReLU())
        self.tem = TEM(width)
        self.ptfem = PTFEM(2 * width, width)
        self.join = nn.Conv2d(3 * width + inside[-1], inside[-1], 1)

    def forward(self, maps: Sequence[Tensor]) -> Float[Tensor, "B C H W"]:
        *earlier, last = maps
        size = last.shape[2:]
        z = self.enter(torch.cat([*(F.adaptive_avg_pool2d(x, size) for x in earlier), last], 1))  # B 256 S S
        tem = self.tem(z)  # B 256 S S
        ptfem = self.ptfem(torch.cat([tem, z], 1))  # B 256 S S
        return self.join(torch.cat([ptfem, tem, z, last], 1))  # B 64 S S
