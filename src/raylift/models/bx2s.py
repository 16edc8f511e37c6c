"""BX2S-Net: Chen et al., "BX2S-Net: Learning to reconstruct 3D spinal structures from bi-planar X-ray images", 2023.

    PA  -- repeated along H --.
                              |--> 8, 128^3 --> 16, 64^3 --> 32, 32^3 --> 64, 16^3 --> 128, 8^3
    LAT -- repeated along W --'       |             |            |             |           |
                                      '-------------+-----.------+-------------'           |
                                                          |                                v
    CT <-- head <-- 8, 128^3 <-- FFAG <-- .. <-- FFAG <-- 32, 32^3 <-- FFAG <-- 64, 16^3, up

FFAG (feature fusion with attention guidance) brings all four encoder scales to each decoder level, weighs the
channels of what they hold by what the decoder saw, and joins both. Without it there is no shortcut at all.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raylift.blocks.lifts import expand_views
from raylift.errors import BadInput
from raylift.models.spec import Model, Recipe
from raylift.physics import ZScore
from raylift.types import View


def conv(inside: int, out: int, stride: int = 1) -> nn.Sequential:
    """3x3x3 convolution, BatchNorm, ReLU."""
    return nn.Sequential(nn.Conv3d(inside, out, 3, stride=stride, padding=1), nn.BatchNorm3d(out), nn.ReLU())


def rise(inside: int, out: int) -> nn.Sequential:
    """Twice the side by a transposed convolution of 2^3, then a 3x3x3 convolution; each with BatchNorm and ReLU."""
    up = nn.ConvTranspose3d(inside, out, 2, stride=2)
    return nn.Sequential(up, nn.BatchNorm3d(out), nn.ReLU(), *conv(out, out))


def standardised(xrays: Float[Tensor, "B V H W"]) -> Float[Tensor, "B V H W"]:
    """Each X-ray with mean 0 and SD 1 of its own; a constant one becomes 0."""
    centred = xrays - xrays.mean((-2, -1), keepdim=True)
    return centred / centred.square().mean((-2, -1), keepdim=True).sqrt().clamp_min(1e-6)


class FFAG(nn.Module):
    """The encoder's scales at one decoder level, guided by what the decoder has there.

    finer scale:   largest of its voxels --> conv --.
    equal scale:                             conv --+-- concat: e --.--> guide: conv, mean, two linear layers: w
    coarser scale: conv --> nearest ----------------'               |
                                                       u ----------'--> conv of concat(w e, u)
    """

    def __init__(self, scales: Sequence[int], level: int):
        super().__init__()
        width, self.level = scales[level], level
        self.bring = nn.ModuleList(conv(scale, width // len(scales)) for scale in scales)
        self.guide = conv(2 * width, width)
        self.weigh = nn.Sequential(
            nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, width, bias=False), nn.Sigmoid()
        )
        self.aggregate = conv(2 * width, width)

    def forward(self, maps: list[Tensor], u: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B C D H W"]:
        brought = []
        for k, (bring, x) in enumerate(zip(self.bring, maps, strict=True)):
            ratio = 2 ** abs(k - self.level)
            if k < self.level:
                x = bring(F.max_pool3d(x, ratio))
            else:
                x = F.interpolate(bring(x), scale_factor=float(ratio), mode="nearest") if ratio > 1 else bring(x)
            brought.append(x)  # B C/4 D H W
        e = torch.cat(brought, 1)  # B C D H W
        w = self.weigh(self.guide(torch.cat([e, u], 1)).mean((-3, -2, -1)))  # B C
        return self.aggregate(torch.cat([w[..., None, None, None] * e, u], 1))


class BX2SNet(nn.Module):
    """`widths` of the encoder, finest first. `classes=2` is the released code's head (background and bone, with a
    norm); "ct" is then bone's logit minus background's. With 1 the head is linear.
    """

    def __init__(
        self,
        views: Sequence[View] = (View.PA, View.LAT),
        *,
        size: int = 128,
        widths: Sequence[int] = (8, 16, 32, 64, 128),
        ffag: bool = True,
        classes: int = 1,
    ):
        super().__init__()
        widths = [int(w) for w in widths]
        if size % 2 ** (len(widths) - 1) or classes not in (1, 2):
            raise BadInput(f"bx2s-net: size {size} must halve {len(widths) - 1} times, classes {classes} be 1 or 2")
        if ffag and any(w % (len(widths) - 1) for w in widths[:-1]):
            raise BadInput(f"bx2s-net: FFAG needs widths that {len(widths) - 1} divides, not {widths}")
        self.views = tuple(views)
        *scales, _ = widths
        self.first = conv(len(self.views), widths[0])
        self.downs = nn.ModuleList(nn.Sequential(conv(a, b, stride=2), conv(b, b)) for a, b in pairwise(widths))
        self.ups = nn.ModuleList(rise(b, a) for a, b in pairwise(widths))
        self.fuse = nn.ModuleList(FFAG(scales, k) for k in range(len(scales))) if ffag else None
        self.head = nn.Conv3d(widths[0], classes, 3, padding=1)
        if classes == 2:
            self.head = nn.Sequential(self.head, nn.BatchNorm3d(classes))

    def forward(self, xrays: Float[Tensor, "B V S S"]) -> dict[str, Tensor]:
        maps = [self.first(expand_views(standardised(xrays), self.views))]  # B 8 128^3
        for down in self.downs:
            maps.append(down(maps[-1]))  # B 16 64^3 .. B 128 8^3
        x = maps.pop()
        for k in reversed(range(len(self.ups))):
            x = self.ups[k](x)  # B 64 16^3 .. B 8 128^3
            if self.fuse is not None:
                x = self.fuse[k](maps, x)
        x = self.head(x)  # B 1 128^3
        return {"ct": x if x.shape[1] == 1 else x[:, 1:] - x[:, :1]}


MODEL = Model(
    name="bx2s-net",
    paper="Chen et al. 2023, BX2S-Net",
    views=(View.PA, View.LAT),
    size=128,
    spacing=1.0,  # EAR 3.1, whose comparison this is
    net=BX2SNet,
    options={"size": 128, "widths": (8, 16, 32, 64, 128), "ffag": True, "classes": 1},
    tiny={"size": 16, "widths": (4, 4, 8)},
    target=ZScore(mean=-935.0, sd=330.0),  # ours: see ear.py; training puts the data set's own in its place
    recipe=Recipe(
        losses={"l1": 1.0},  # ours: EAR's reconstruction loss, in place of the cross-entropy of two classes
        lr=0.01,  # original code
        betas=(0.9, 0.999),  # original code
        schedule="steps",  # original code
        milestones=(10, 20, 30, 40),  # original code
        gamma=0.1,  # original code
        epochs=50,  # original code
        batch_size=4,  # original code
        init="he",  # original code, for its convolutions
    ),
    profile="vertebra",
    reported={
        "EAR Table 1": {"MSE": 0.3006, "MAE": 0.1743, "Dice": 0.8270, "PSNR": 22.7980, "SSIM": 0.7823, "FD": 0.7333}
    },
    stated_counts={"parameters": 1_814_934, "options": {"classes": 2}},  # original code
    choices=(
        "One linear channel and no norm after it, for a CT; the released head has two classes (net.classes=2).",
        "Trained as its released code is; EAR trains it at weight decay 1e-5, batch 2, 100 epochs with a cosine (4.4).",
        "The guide's linear layers are drawn as the convolutions are; the released code draws them from N(0, 0.01).",
    ),
)

NO_FFAG = replace(
    MODEL,
    name="bx2s-net-no-ffag",
    options={**MODEL.options, "ffag": False},
    reported={},
    stated_counts={"parameters": 1_118_254, "options": {"classes": 2}},  # original code
)

MODELS = (MODEL, NO_FFAG)
