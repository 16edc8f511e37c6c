"""PSR, also ReconNet: Shen, Zhao, Xing, "Patient-specific reconstruction of volumetric CT from a single X-ray", 2019.

             representation, 2-D             transformation          generation, 3-D             planes, 2-D
    X-rays --> residual down x 5 --> 1x1 --> 4096 maps as 2048 --> up x 5 --> 1x1x1 --> 64 --> 1x1 --> CT
    V 128^2    256 64^2 .. 4096 4^2          of 2 planes, 1^3     64 64x128^2       planes       S planes

Every convolution is free of a bias. Volumes stand in the order ray, row, column of the frontal view until the last
line: the planes are coronal. With two views the second is a further channel of the first convolution.
"""

from dataclasses import replace
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from raylift.blocks.lifts import from_ray_axes
from raylift.errors import BadInput
from raylift.models.spec import Model, Recipe
from raylift.types import View

DEEPEST = 2  # planes of the deepest volume (original code)


class ResidualDown(nn.Module):
    """a = 4x4 convolution, stride 2; ReLU(a + BN(3x3 convolution of a)). The first a has neither norm nor ReLU."""

    def __init__(self, inside: int, out: int, *, first: bool):
        super().__init__()
        norm = () if first else (nn.BatchNorm2d(out), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(inside, out, 4, stride=2, padding=1, bias=False), *norm)
        self.refine = nn.Sequential(nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c h w"]:
        a = self.down(x)
        return (a + self.refine(a)).relu()


def up(inside: int, out: int, *, refine: bool) -> nn.Sequential:
    """Twice the side by a transposed convolution of 4^3; then, but for the first, one of 3^3; each with BN and ReLU."""
    layers = [nn.ConvTranspose3d(inside, out, 4, stride=2, padding=1, bias=False), nn.BatchNorm3d(out), nn.ReLU()]
    if refine:
        layers += [nn.ConvTranspose3d(out, out, 3, padding=1, bias=False), nn.BatchNorm3d(out), nn.ReLU()]
    return nn.Sequential(*layers)


class PSR(nn.Module):
    """`width` scales every layer but the X-rays, the single channel and the planes; `steps` halvings, as many
    doublings.
    """

    def __init__(self, *, inputs: int = 1, size: int = 128, width: float = 1.0, steps: int = 5):
        super().__init__()
        if size % 2**steps:
            raise BadInput(f"psr: a size of {size} cannot be halved {steps} times; set net.steps or another size")
        if round(256 * width) < 4:
            raise BadInput(f"psr: a width of {width} leaves the last volume without channels; 1/64 is the least")
        widths = [round(256 * width) * 2**k for k in range(steps)]  # 256 .. 4096
        deep = widths[-1] // DEEPEST  # 2048
        ups = [deep >> k for k in range(steps + 1)]  # 2048 .. 64
        self.represent = nn.Sequential(
            *(ResidualDown(a, b, first=k == 0) for k, (a, b) in enumerate(zip([inputs, *widths], widths, strict=False)))
        )
        self.mix_2d = nn.Sequential(nn.Conv2d(widths[-1], widths[-1], 1, bias=False), nn.ReLU())
        self.mix_3d = nn.Sequential(nn.ConvTranspose3d(deep, deep, 1, bias=False), nn.ReLU())
        self.generate = nn.Sequential(*(up(ups[k], ups[k + 1], refine=k > 0) for k in range(steps)))
        self.single = nn.Sequential(nn.Conv3d(ups[-1], 1, 1, bias=False), nn.ReLU())
        self.planes = nn.Conv2d(DEEPEST * 2**steps, size, 1, bias=False)

    def forward(self, xrays: Float[Tensor, "B V S S"]) -> dict[str, Tensor]:
        x = self.mix_2d(self.represent(xrays))  # B 4096 4 4
        x = self.mix_3d(x.unflatten(1, (-1, DEEPEST)))  # B 2048 2 4 4
        x = self.single(self.generate(x))  # B 1 64 128 128
        x = self.planes(x[:, 0])  # B S 128 128: planes along the frontal rays
        return {"ct": from_ray_axes(x[:, None], View.PA)}  # B 1 S S S


RECIPE = Recipe(
    losses={"mse": 1.0},  # original code: L2
    lr=2e-5,  # the paper's, known elsewhere
    betas=(0.5, 0.999),  # original code
    schedule="steps",  # original code: step decay
    milestones=(50, 75),  # ours
    gamma=0.1,  # ours
    epochs=100,  # the paper's, known elsewhere
    batch_size=1,  # the paper's, known elsewhere
    init="he",  # original code: SD sqrt(2 / (k^n C_out)), the deconvolutions too
)

MODEL = Model(
    name="psr",
    paper="Shen et al. 2019, PSR (ReconNet)",
    views=(View.PA,),
    size=128,
    spacing=2.5,  # ours: the chest cube of 320 mm
    net=PSR,
    options={"size": 128, "width": 1.0, "steps": 5},
    tiny={"size": 16, "width": 1 / 16, "steps": 2},
    recipe=RECIPE,
    reported={
        "3DSRNet Table I": {
            "PSNR": 35.2928,
            "SSIM": 0.759,
            "CS": 0.6203,
            "MAE": 37.2106,
            "MSE": 15509.27,
            "LPIPS": 0.2169,
        },
        "CVAA-GAN Table 1": {"MAE": 0.03258, "MSE": 0.003204, "CS": 0.9360, "PSNR": 25.1421, "SSIM": 0.6025},
        "X2CT-GAN paper (2DCNN)": {"PSNR": 23.10, "SSIM": 0.461},
    },
    stated_counts={
        "parameters": 588_591_424,  # original code
        "thop_printed": 1.304e12,  # XctNet Table 3 (ReconNet), four digits
        "unmatched": {"3DSRNet Table I": "111.631 G: no rule makes this net at 128^2 cost that (371.9 G true)"},
    },
    choices=(
        "The planes lie along the frontal rays; the released code's demo has 46 of them, here as many as the cube.",
        "The input is raylift's [0, 1], not standardised by the constant mean and SD of the released demo.",
        "The target is the common fixed window; the released code takes each volume's own minimum and maximum.",
        "The released code decays its rate in steps whose places are not known: a tenth after epochs 50 and 75.",
    ),
)

BIPLANAR = replace(
    MODEL,
    name="psr-biplanar",
    views=(View.PA, View.LAT),
    net=partial(PSR, inputs=2),
    reported={
        "EAR Table 1": {"MSE": 0.4393, "MAE": 0.4642, "Dice": 0.8161, "PSNR": 21.1509, "SSIM": 0.2041, "FD": 0.4879}
    },
    stated_counts={},
    choices=(
        *MODEL.choices,
        "The two views are stacked as channels; their pixels agree in the row only.",
        "EAR trains it at Adam 0.01, weight decay 1e-5, batch 2 (4.4), which its SSIM of 0.20 does not recommend; the "
        "recipe stays PSR's own.",
    ),
)

MODELS = (MODEL, BIPLANAR)

ALIASES = {"reconnet": "psr"}
