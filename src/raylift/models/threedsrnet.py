"""3DSRNet: Gao et al., "3DSRNet: 3-D spine reconstruction network using 2-D orthogonal X-ray images based on deep
learning", IEEE TIM 72, 2023 (Figs. 1 and 2).

           SRTE                        ASPP
           128^2  64^2   32^2   16^2   8^2    4^2
    PA --> e0 --> e1 --> e2 --> e3 --> e4 --> e5 --> mean, linear --> 256, 4^3 --.
           |      |      |      |      |                                         v
           |      |      '------'------'--> lifted along H --> SRCT -------> decode a --.         .--> a goes on
           '------'-----------------------> lifted along H ----------------^            |         |
                                                                           v = (a + b) / 2 --> main decoder --> CT
    LAT --> the same, lifted along W, through the same SRTE, ASPP and SRCT --> decode b --'       |     7^3, ReLU
                                                                                                  '--> b goes on

X2CT-GAN's net with three enhancers, each with its switch. SRTE (texture) replaces the encoder's first map, ASPP the
one before its last step, SRCT (transformer) the three coarsest lifted maps, each view's fused with its own.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raylift.blocks.branch import XrayBranch, fused, own_heads
from raylift.blocks.decoders3d import convs_per_level, decoder_levels, head
from raylift.blocks.discriminators import PatchD3D
from raylift.blocks.encoders2d import Enhance
from raylift.blocks.lifts import from_ray_axes, to_ray_axes
from raylift.blocks.srct import SRCT
from raylift.blocks.srte import SRTE
from raylift.errors import BadInput
from raylift.models.spec import Model, Recipe
from raylift.models.x2ct import LAYERS, PAPER_SIZE, TINY, WIDTHS
from raylift.physics import Unit
from raylift.types import View


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (III-A): five looks at a map, concatenated; no norm, no activation.

    x --.-- mean, 1x1, spread --.
        |-- 1x1 ----------------|
        '-- 3x3, dilated (x 3) -'--> concat 5C --> 1x1 --> C
    """

    def __init__(self, channels: int, dilations: Sequence[int]):
        super().__init__()
        self.pooled, self.plain = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.atrous = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=d, dilation=d) for d in dilations)
        self.join = nn.Conv2d((2 + len(dilations)) * channels, channels, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        spread = self.pooled(x.mean((-2, -1), keepdim=True)).expand_as(x)
        return self.join(torch.cat([spread, self.plain(x), *(look(x) for look in self.atrous)], 1))


class ThreeDSRNet(nn.Module):
    """Two views, three enhancers, and the decoder that fuses.

    `texture_levels` number the encoder's maps that SRTE counts; what it makes replaces the last of them. `attn` is
    SRCT's, 'deformable' or 'full', and `srct_levels` how many of the coarsest lifted maps it takes. `auxiliary_heads`
    builds each view's last convolution and own head, "ct_pa" and "ct_lat", which the released code computes and gives
    the weight 0; "ct" is the same without.
    """

    def __init__(
        self,
        views: Sequence[View] = (View.PA, View.LAT),
        *,
        size: int = 128,
        layers: Sequence[int] = LAYERS,
        width: int = 64,
        growth: int = 32,
        widths: Sequence[int] = WIDTHS,
        aspp: bool = True,
        srct: bool = True,
        srte: bool = True,
        dilations: Sequence[int] = (1, 2, 3),
        attn: str = "deformable",
        srct_levels: int = 3,
        texture_levels: Sequence[int] = (0,),
        auxiliary_heads: bool = False,
    ):
        super().__init__()
        self.pa, self.lat = (
            XrayBranch(view, size=size, layers=layers, width=width, growth=growth, widths=widths) for view in views
        )
        self.views, channels = tuple(views), self.pa.encode.channels
        self.before_last, self.texture_levels = len(layers) - 1, tuple(texture_levels)
        if not 0 < srct_levels <= len(layers):
            raise BadInput(f"3dsrnet: srct_levels={srct_levels}, but there are {len(layers)} lifted maps to take from")
        self.coarse = slice(len(layers) - srct_levels, len(layers))  # of the lifted maps
        self.aspp = ASPP(channels[self.before_last], dilations) if aspp else None
        self.srct = SRCT(widths[self.coarse], attn=attn) if srct else None
        self.srte = SRTE(self._counted(channels, size), width=4 * width) if srte else None
        self.main = decoder_levels(widths, convs_per_level(len(widths), 1))
        self.head = head(widths[0])
        branches = {"pa": self.pa, "lat": self.lat}
        self.heads = own_heads(branches, lambda: head(widths[0]), built=auxiliary_heads)

    def _counted(self, channels: Sequence[int], size: int) -> list[int]:
        """The widths of the maps that SRTE counts, or an error where there are none such."""
        levels = self.texture_levels
        if not levels or sorted(set(levels)) != list(levels) or levels[0] < 0 or levels[-1] >= self.before_last:
            raise BadInput(f"3dsrnet: texture_levels {levels} must rise from 0 on and stay below {self.before_last}")
        if (size >> levels[-1]) % 16:
            raise BadInput(f"3dsrnet: SRTE needs maps of a multiple of 16; level {levels[-1]} has {size >> levels[-1]}")
        return [channels[k] for k in levels]

    def _enhance(self) -> Enhance:
        """What becomes of the encoder's maps, by their number."""
        earlier: list[Tensor] = []

        def keep(x: Tensor) -> Tensor:
            earlier.append(x)
            return x

        enhance = {}
        if self.srte is not None:
            enhance = dict.fromkeys(self.texture_levels, keep)
            enhance[self.texture_levels[-1]] = lambda x: self.srte([*earlier, x])
        if self.aspp is not None:
            enhance[self.before_last] = self.aspp
        return enhance

    def lift(self, branch: XrayBranch, view: View, xray: Float[Tensor, "B 1 S S"]) -> list[Tensor]:
        """One view's lifted maps, finest first, the coarser ones with what SRCT adds in the view's own axes."""
        *skips, deep = branch.lift(xray, self._enhance())  # B 16 128^3, 16 64^3, 32 32^3, 64 16^3, 128 8^3, 256 4^3
        if self.srct is not None:
            coarse = self.srct([to_ray_axes(x, view) for x in skips[self.coarse]])
            skips[self.coarse] = [from_ray_axes(x, view) for x in coarse]
        return [*skips, deep]

    def forward(self, xrays: Float[Tensor, "B 2 S S"]) -> dict[str, Tensor]:
        lifted = self.lift(self.pa, self.views[0], xrays[:, :1]), self.lift(self.lat, self.views[1], xrays[:, 1:])
        v, *finer = fused(self.pa, self.lat, *lifted)  # B 256 4^3
        x = self.main[-1].rise(v)  # B 128 8^3
        for level, v in zip(self.main[-2::-1], finer, strict=True):
            x = level.rise(level.join(v, x))  # B 64 16^3 .. B 16 128^3
        extras = {f"ct_{name}": self.heads[name](getattr(self, name).levels[0].rise(v)) for name in self.heads}
        return {"ct": self.head(x), **extras}  # B 1 S S S


RECIPE = Recipe(
    losses={
        "mse": 0.5,  # III-D: w1, the weight of what eq. 11 calls the GAN's loss
        "igdl": 0.25 / 3,  # III-D: w2, here of the mean over the three axes
        "ffl": 0.25,  # III-D: w3
        "gan": 0.1,  # original code; eq. 12 taken at its word has no adversary
    },
    loss_options={"gan": {"half": True}},  # eq. 13
    lr=2e-4,  # original code; IV-A3's SGD is among the choices below
    betas=(0.5, 0.99),  # original code
    schedule="steps",  # IV-A3
    milestones=(80, 140),  # IV-A3
    gamma=0.1,  # IV-A3
    epochs=200,  # IV-A3
    batch_size=2,  # IV-A3
    init="normal",  # original code: N(0, 0.02)
)

METRICS = ("PSNR", "SSIM", "CS", "MAE", "MSE", "LPIPS")


def _reported(table: str, *numbers: float) -> dict[str, dict[str, float]]:
    """A line of the paper's tables; its PSNR is the mean of slices, empty ones at 100 dB: MSE and a peak of 4095 say
    32.69 dB, not 45.47.
    """
    return {f"3DSRNet {table}": dict(zip(METRICS, numbers, strict=True))}


MODEL = Model(
    name="3dsrnet",
    paper="Gao et al. 2023, 3DSRNet",
    views=(View.PA, View.LAT),
    size=128,
    spacing=2.0,  # ours: the paper resizes to 128 without saying of what
    net=ThreeDSRNet,
    options={
        **PAPER_SIZE,
        "aspp": True,
        "srct": True,
        "srte": True,
        "dilations": (1, 2, 3),
        "attn": "deformable",
        "srct_levels": 3,  # original code
        "texture_levels": (0,),
        "auxiliary_heads": False,
    },
    tiny={**TINY, "srct_levels": 2},
    target=Unit((-1024.0, 1476.0)),  # original code: 0 to 2500 of HU + 1024
    discriminator=PatchD3D,
    discriminator_options={"views": (View.PA, View.LAT), "width": 64},
    tiny_discriminator={"width": 4, "levels": 2},
    recipe=RECIPE,
    profile="spine-bone",
    reported=_reported("Table I", 45.4666, 0.885, 0.7662, 23.6696, 9016.1044, 0.0768),
    stated_counts={
        "parameters": 73_195_123,  # original code: what its forward pass uses with all three switches on
        "discriminator": 11_055_169,  # original code
        "x2": 785.979e9,  # Table I
        "options": {"auxiliary_heads": True},
    },
    choices=(
        "The released training class switches SRCT and SRTE off, and so trains X2CT-GAN with ASPP; here all three are "
        "on, as the paper claims (net.srct=false net.srte=false gives the other).",
        "Bug of the released code, corrected: it fuses the second view's transformer result with the first view's "
        "maps; each view is fused with its own.",
        "Bug of the released code, corrected: its reference points are in another axis order than its sampler's, so "
        "that a token at (d, h, w) looks around (h, w, d); here it looks around its own place.",
        "Table I's 785.979 G is 0.8 % more than this net's x2 count; which operations of the attention their counter "
        "charged is not known. The same rule gives their X2CT-GAN to 0.004 %.",
        "ASPP's rates are 1, 2, 3: at the code's 6, 12, 18 (net.dilations=6,12,18) a map of 8^2 is nearly all padding, "
        "and the last two are 1x1 convolutions.",
        "SRCT is the code's deformable transformer; the paper's eq. 2 over 37376 tokens does not fit, so "
        "net.attn=full halves each side first (4672 tokens).",
        "SRCT takes the lifted maps of 32^3, 16^3 and 8^3 (code); the text says the second to fifth layers.",
        "SRCT's heads first look along a tetrahedron's corners, one and two voxels away; the code's draw leaves all "
        "points on the token.",
        "SRTE counts the first map (code); net.texture_levels=0,1,2 is the text's three layers, brought to the size of "
        "the last, which the result then replaces.",
        "SRTE's levels lie at the bins' centres (code), not at the edges of eq. 4; a pixel counts in each level nearer "
        "than one level's width (code), where eq. 5 has no limit.",
        "Eq. 11 calls a voxel MSE the GAN's loss, so that D would never reach G: the MSE has its weight of 0.5, and an "
        "adversarial term the code's 0.1. MSE, IGDL3D and FFL3D are means over the voxels.",
        "IGDL3D is the mean over three axes, with the outer modulus that eq. 7 lacks; their sum pulled a reduced copy "
        "to an empty volume, from which the head's ReLU does not come back.",
        "FFL3D's weights are constants of at most 1 and its transform orthonormal, without which 0.25 would mean "
        "nothing.",
        "The optimiser is the code's Adam. IV-A3 trains with SGD (optimiser=sgd lr=0.01 momentum=0.9 "
        "weight_decay=0.001); it shut the ReLU of a reduced copy's head within 40 updates.",
        "The cube is 256 mm: the paper resizes scans of any extent to 128^3.",
    ),
)


ELSE = ("All else as 3dsrnet.",)


def _without(name: str, reported: dict, **options) -> Model:
    """3DSRNet with a module off (Table II)."""
    options = {**MODEL.options, **options}
    return replace(MODEL, name=f"3dsrnet-no-{name}", reported=reported, options=options, stated_counts={}, choices=ELSE)


def _unpunished(name: str, reported: dict) -> Model:
    """3DSRNet trained without one of its losses (Table III)."""
    recipe = replace(RECIPE, losses={loss: weight for loss, weight in RECIPE.losses.items() if loss != name})
    return replace(MODEL, name=f"3dsrnet-no-{name}", reported=reported, recipe=recipe, choices=ELSE)


CODE = replace(
    MODEL,
    name="3dsrnet-code",
    reported={},
    recipe=Recipe(  # all of it: original code
        losses={"gan": 0.1, "mse": 10.0, "projection": 10.0, "igdl": 10.0, "ffl": 10.0},
        loss_options={"igdl": {"on": "projections"}, "ffl": {"on": "projections"}},
        lr=2e-4,
        betas=(0.5, 0.99),
        schedule="linear-last-half",  # 150 epochs, then 150 more towards 0
        epochs=300,
        batch_size=3,
        init="normal",
    ),
    choices=(
        "The net has all three modules, as 3dsrnet; the code trains with net.srct=false net.srte=false.",
        "The code's IGDL compares signed differences with a distance whose axis depends on PyTorch's version; its "
        "weight of 10 here stands on the mean of absolute ones.",
        "The code's SSIM term has no gradient and is left out.",
        *ELSE,
    ),
)

MODELS = (
    MODEL,
    _without("aspp", _reported("Table II, - ASPP", 43.9712, 0.87, 0.7117, 27.3234, 12235.5622, 0.1047), aspp=False),
    _without("srct", _reported("Table II, - SRCT", 42.8017, 0.8522, 0.6480, 30.4998, 14604.7407, 0.1059), srct=False),
    _without("srte", _reported("Table II, - SRTE", 43.3599, 0.8594, 0.6634, 29.577, 14501.7391, 0.1095), srte=False),
    _unpunished("igdl", _reported("Table III, - IGDL3D", 44.072, 0.8642, 0.6811, 28.5959, 13466.5542, 0.0993)),
    _unpunished("ffl", _reported("Table III, - FFL3D", 44.2018, 0.8691, 0.7068, 27.9719, 12194.5319, 0.1031)),
    CODE,
)
