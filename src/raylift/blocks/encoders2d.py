"""Two-dimensional encoders: an X-ray goes in, a list of feature maps comes out, finest first."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

Maps = list[Tensor]
Enhance = Mapping[int, Callable[[Tensor], Tensor]]


def norm_relu_conv2d(inside: int, out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """InstanceNorm, ReLU, convolution: the order of a dense net."""
    return nn.Sequential(
        nn.InstanceNorm2d(inside), nn.ReLU(), nn.Conv2d(inside, out, kernel, stride=stride, padding=kernel // 2)
    )


class DenseLayer(nn.Module):
    """x -> [x, g(x)]: 1x1 to 4 growths, 3x3 to one growth."""

    def __init__(self, inside: int, growth: int, bottleneck: int = 4):
        super().__init__()
        self.squeeze = norm_relu_conv2d(inside, bottleneck * growth, 1)
        self.grow = norm_relu_conv2d(bottleneck * growth, growth, 3)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B more H W"]:
        return torch.cat([x, self.grow(self.squeeze(x))], 1)


class DenseEncoder(nn.Module):
    """X2CT-GAN's encoder: a 7x7 stem, then steps of [3x3 stride 2, dense block, 1x1 to half]; the last step is not
    halved. `forward` returns the stem's map and each step's, finest first; `channels` are their widths.

        stem        step 1      step 2      ...  step n
        width@S     @S/2        @S/4             @S/2^n
    """

    def __init__(self, layers: Sequence[int], *, inside: int = 1, width: int = 64, growth: int = 32):
        super().__init__()
        self.stem = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(inside, width, 7), nn.InstanceNorm2d(width), nn.ReLU()
        )
        self.steps, self.channels = nn.ModuleList(), [width]
        for number, count in enumerate(layers, 1):
            dense = [DenseLayer(width + k * growth, growth) for k in range(count)]
            step = [norm_relu_conv2d(width, width, 3, stride=2), *dense]
            width += count * growth
            if number < len(layers):
                step.append(norm_relu_conv2d(width, width // 2, 1))
                width //= 2
            self.steps.append(nn.Sequential(*step))
            self.channels.append(width)

    def forward(self, xray: Float[Tensor, "B c S S"], enhance: Enhance | None = None) -> Maps:
        """The maps; `enhance[k]` (if given) replaces map k before it is returned and goes to the next step."""
        enhance = enhance or {}
        maps = []
        for number, step in enumerate([self.stem, *self.steps]):
            xray = step(xray)
            if number in enhance:
                xray = enhance[number](xray)
            maps.append(xray)
        return maps


class BasicBlock(nn.Module):
    """ResNet's block of two 3x3 convolutions; a 1x1 shortcut where the width or the stride changes."""

    def __init__(self, inside: int, out: int, stride: int = 1):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(inside, out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != out:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c h w"]:
        return (self.convs(x) + self.shortcut(x)).relu()


def residual_stage(inside: int, out: int, blocks: int, stride: int) -> nn.Sequential:
    """`blocks` basic blocks, the first with the stride."""
    return nn.Sequential(BasicBlock(inside, out, stride), *(BasicBlock(out, out) for _ in range(blocks - 1)))
