"""XctNet: Tan et al., "XctNet: Reconstruction network of volumetric images from a single X-ray image", 2022.

    X-ray --> conv1 --CBAM--> pool, layer2 --ECA--> layer3 --ECA--> layer4 --ECA--> layer5 --CBAM--.
                                  |                     |               |                          | reshape
                              transform             transform       transform                      v
                                  |'--- exchange ---'|'--- exchange ---'|                    128, 4^3 --> 256
                                  v                     v               v                          |
    CT <-- 1^3, depth mixing <-- up5 <-- up4 <-- up3, + <-- up2, + <-- up1, + <--------------------'

Each up is a transposed convolution, then a NewInception (but for the last). Inside, volumes stand as (depth, row,
column): with `depth_axis="ray"` depth becomes H, the axis along which a frontal X-ray's rays run; with "slice" it
becomes D, as in the released code, whose planes are the CT's slices (and whose rows then run to the back).
Three switches make the paper's other nets: `attention`, `multiscale`, `inception`.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raylift.blocks.attention import CBAM, ECA
from raylift.blocks.checks import halved, one_of
from raylift.blocks.encoders2d import residual_stage
from raylift.blocks.fusion import OctaveExchange
from raylift.blocks.lifts import from_ray_axes
from raylift.errors import BadInput
from raylift.models.spec import Model, Recipe
from raylift.physics import Unit
from raylift.types import View

BLOCKS = (3, 4, 6, 3)  # ResNet34 (3.1; counts of the original code)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and SD of the pretrained encoder's pictures
CHOICES = {
    "attention": ("none", "cbam", "cbam-eca"),
    "deep": ("reshape", "transform"),
    "eca": ("mul", "add"),
    "stem": ("grey", "imagenet3"),
    "depth_axis": ("ray", "slice"),
}


class ResNetEncoder(nn.Module):
    """ResNet34 whose first and last maps pass a CBAM and whose middle stages an ECA; returns each stage's map."""

    def __init__(self, blocks: Sequence[int], *, width: int, attention: str, combine: str, stem: str):
        super().__init__()
        self.stem = stem
        self.conv1 = nn.Sequential(
            nn.Conv2d(1 if stem == "grey" else 3, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.cbam = CBAM(width) if attention != "none" else nn.Identity()
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages, self.gates, inside = nn.ModuleList(), nn.ModuleList(), width
        for k, count in enumerate(blocks):
            out = width * 2**k
            self.stages.append(residual_stage(inside, out, count, stride=1 if k == 0 else 2))
            self.gates.append(_gate(attention, out, last=k == len(blocks) - 1, combine=combine))
            inside = out

    def forward(self, xray: Float[Tensor, "B 1 S S"]) -> list[Tensor]:
        """Maps: 64 at S/4, 128 at S/8, 256 at S/16, 512 at S/32."""
        if self.stem == "imagenet3":
            mean, sd = xray.new_tensor(IMAGENET)[..., None, None]
            xray = (xray.expand(-1, 3, -1, -1) - mean) / sd
        x = self.pool(self.cbam(self.conv1(xray)))  # B 64 S/4
        maps = []
        for stage, gate in zip(self.stages, self.gates, strict=True):
            x = gate(stage(x))
            maps.append(x)
        return maps


def _gate(attention: str, channels: int, *, last: bool, combine: str) -> nn.Module:
    """What stands behind a stage: a CBAM behind the last, an ECA behind the others."""
    if attention == "none":
        return nn.Identity()
    if last:
        return CBAM(channels)
    return ECA(channels, combine) if attention == "cbam-eca" else nn.Identity()


class NewInception(nn.Module):
    """1^3 to fewer channels, then 3^3 and 5^3 side by side, concatenated to `channels` again."""

    def __init__(self, channels: int, reduced: int, threes: int):
        super().__init__()
        self.reduce = _conv_bn(channels, reduced, 1)
        self.threes, self.fives = _conv_bn(reduced, threes, 3), _conv_bn(reduced, channels - threes, 5)

    def forward(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B C D H W"]:
        x = self.reduce(x)
        return torch.cat([self.threes(x), self.fives(x)], 1)


def _conv_bn(inside: int, out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(inside, out, kernel, padding=kernel // 2), nn.BatchNorm3d(out), nn.ReLU())


def _up(inside: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose3d(inside, out, 4, stride=2, padding=1), nn.BatchNorm3d(out), nn.ReLU())


class Transform(nn.Module):
    """3.3: (C, h, w) to (C, 1, h, w), a transposed convolution of depth x 1 x 1, batch norm, ReLU."""

    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.lift = nn.Sequential(
            nn.ConvTranspose3d(channels, channels, (depth, 1, 1), bias=False), nn.BatchNorm3d(channels), nn.ReLU()
        )

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C d h w"]:
        return self.lift(x[:, :, None])


INCEPTION = {256: (80, 156), 128: (50, 68), 64: (20, 34), 32: (10, 18)}  # original code: reduced, 3^3; the rest 5^3


def _inception(channels: int, width: int) -> NewInception:
    """The code's widths for a net whose first width is 64, scaled to `width`."""
    reduced, threes = INCEPTION[channels * 64 // width]
    return NewInception(channels, max(1, reduced * width // 64), max(1, threes * width // 64))


class Generator(nn.Module):
    """From the deepest map to the volume (depth, row, column); `extra[k]` is added after up k, where there is one."""

    def __init__(self, deepest: int, side: int, ups: int, *, width: int, inception: bool, transform: bool):
        super().__init__()
        if deepest % side:
            raise BadInput(f"xctnet: {deepest} channels at the deepest level give no volume {side} deep; widen the net")
        self.side = side
        first = deepest if transform else deepest // 2
        lifted, size = deepest // side, side << ups
        self.expand = nn.Sequential(nn.ConvTranspose3d(lifted, first, 1, bias=False), nn.ReLU())
        if transform:
            self.expand = Transform(deepest, side)
        self.transform = transform
        widths = [first, *(deepest >> k for k in range(1, ups + 1))]  # 256, 256, 128, 64, 32, 16
        self.ups = nn.ModuleList(_up(a, b) for a, b in pairwise(widths))
        self.inceptions = nn.ModuleList(
            _inception(c, width) if inception and k < ups - 1 else nn.Identity() for k, c in enumerate(widths[1:])
        )
        self.head = nn.Sequential(nn.Conv3d(widths[-1], 1, 1), nn.ReLU())
        self.mix_depth = nn.Conv2d(size, size, 1, bias=False)

    def forward(self, x: Float[Tensor, "B C s s"], extra: Sequence[Tensor] = ()) -> Float[Tensor, "B d h w"]:
        if not self.transform:
            x = x.unflatten(1, (-1, self.side))  # B 128 4 4 4: channel 4c + d becomes channel c, depth d
        x = self.expand(x)  # B 256 4^3
        for k, (up, inception) in enumerate(zip(self.ups, self.inceptions, strict=True)):
            x = up(x)  # B 256 8^3, 128 16^3, 64 32^3, 32 64^3, 16 128^3
            x = inception(x + extra[k] if k < len(extra) else x)
        return self.mix_depth(self.head(x)[:, 0])


class XctNet(nn.Module):
    """One frontal X-ray to a volume; see the module's picture."""

    def __init__(
        self,
        *,
        size: int = 128,
        width: int = 64,
        blocks: Sequence[int] = BLOCKS,
        attention: str = "cbam-eca",
        multiscale: bool = True,
        exchange: bool = True,
        inception: bool = True,
        deep: str = "reshape",
        eca: str = "mul",
        stem: str = "grey",
        depth_axis: str = "ray",
    ):
        super().__init__()
        given = {"attention": attention, "deep": deep, "eca": eca, "stem": stem, "depth_axis": depth_axis}
        for option, value in given.items():
            one_of("xctnet", option, value, CHOICES[option])
        if width not in (4, 8, 16, 32, 64, 128):
            raise BadInput(f"xctnet: a width of {width} does not halve down to the last volume; take a power of 2")
        self.depth_axis = depth_axis
        self.encode = ResNetEncoder(blocks, width=width, attention=attention, combine=eca, stem=stem)
        scales = range(len(blocks) - 1) if multiscale else range(0)
        self.transforms = nn.ModuleList(Transform(width << k, size >> (k + 2)) for k in scales)
        self.exchanges = nn.ModuleList(
            OctaveExchange(width << k, width << (k + 1)) for k in (scales[:-1] if exchange else ())
        )
        ups = len(blocks) + 1
        self.generate = Generator(
            width << (len(blocks) - 1),
            halved("xctnet", size, ups),
            ups,
            width=width,
            inception=inception,
            transform=deep == "transform",
        )

    def forward(self, xrays: Float[Tensor, "B 1 S S"]) -> dict[str, Float[Tensor, "B 1 D H W"]]:
        *maps, deepest = self.encode(xrays)  # B 64 32^2, 128 16^2, 256 8^2; B 512 4^2
        scales = [transform(x) for transform, x in zip(self.transforms, maps, strict=False)]  # B C s^3, finest first
        for k, exchange in enumerate(self.exchanges):
            scales[k], scales[k + 1] = exchange(scales[k], scales[k + 1])
        ct = self.generate(deepest, scales[::-1])[:, None]  # B 1 depth row column
        return {"ct": from_ray_axes(ct, View.PA) if self.depth_axis == "ray" else ct}  # B 1 D H W


MODEL = Model(
    name="xctnet",
    paper="Tan et al. 2022, XctNet",
    views=(View.PA,),
    size=128,  # 3
    spacing=2.5,  # ours: a cube of 320 mm
    net=XctNet,
    options={
        "size": 128,
        "width": 64,
        "blocks": BLOCKS,
        "attention": "cbam-eca",
        "multiscale": True,
        "exchange": True,
        "inception": True,
        "deep": "reshape",
        "eca": "mul",
        "stem": "grey",
        "depth_axis": "ray",
    },
    tiny={"size": 32, "width": 16, "blocks": (1, 1, 1)},
    target=Unit((-1000.0, 2000.0)),  # ours: the paper says [0, 1] only, its code scales each volume by itself
    recipe=Recipe(
        losses={"mse": 1.0},  # 4, eq. 3
        lr=1e-4,  # original code
        schedule="plateau",  # 4: "an adaptive learning rate adjustment strategy"; gamma and patience are ours
        gamma=0.5,
        patience=5,
        epochs=64,  # 4
        batch_size=10,  # original code
    ),
    reported={"XctNet (LIDC-IDRI, mean of axial slices)": {"PSNR": 29.2823, "SSIM": 0.8681}},
    choices=(
        "The multi-scale sources are layers 2 to 4, added to the volumes of the same width and side after each up.",
        "The exchange (eq. 2 is missing) is read as octave convolution: 1x1x1 each, nearest up, average down.",
        "The deepest map keeps the reshape, so that ResXct is a part of XctNet; deep=transform lifts it too.",
        "ECA gates its input as ECA does; the paper's further element-wise product would square the features.",
        "Depth is the ray axis; depth_axis=slice puts it along D as the released code does.",
        "One grey channel goes in; stem=imagenet3 repeats it and takes ImageNet's mean and SD, as the code does.",
    ),
)

RESXCT = replace(
    MODEL,
    name="xctnet-resxct",
    options={**MODEL.options, "attention": "none", "multiscale": False, "exchange": False},
    reported={},
    stated_counts={"parameters": 30_258_521},  # original code, with one input channel
)
CBAM_ONLY = replace(RESXCT, name="xctnet-cbam", options={**RESXCT.options, "attention": "cbam"}, stated_counts={})
CBAM_ECA = replace(CBAM_ONLY, name="xctnet-cbam-eca", options={**RESXCT.options, "attention": "cbam-eca"})

MODELS = (MODEL, RESXCT, CBAM_ONLY, CBAM_ECA)
