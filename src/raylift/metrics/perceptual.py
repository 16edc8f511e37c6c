"""LPIPS (Zhang et al. 2018): how different two pictures look to an AlexNet that was trained on photographs.

    slice -> 3 channels -> conv 64 -> 192 -> 384 -> 256 -> 256, each with ReLU (AlexNet; Krizhevsky 2014)
    at each of the five: unit vectors over the channels -> squared difference -> weighted sum -> mean over the picture
    sum of the five

The weights ship (`weights/lpips`, made by scripts/lpips_weights.py); what photographs teach says little of CTs.
"""

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from raylift.errors import BadInput
from raylift.metrics.checks import CT, Mask, Truth, Values, Window, clipped, width

WEIGHTS = Path(__file__).parents[1] / "weights" / "lpips" / "alexnet.safetensors"
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # LPIPS' code: ImageNet's, for pictures on [-1, 1]
LAYERS = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))  # stride and padding of AlexNet's convolutions
POOLED = (1, 2)  # a maximum over 3 x 3, stride 2, stands before these
LEAST = 31  # pixels a side: fewer, and the second pooling has nothing to look at
AT_ONCE = 32  # ours: slices in one pass

Picture = Float[Tensor, "n 3 rows cols"]


def lpips(a: CT, b: Truth, *, window: Window, valid: Mask = None) -> Values:
    """Mean LPIPS (AlexNet, linear heads) of all slices across D, H and W, 0 or more; 0 where equal.

    The window is laid on [-1, 1] and repeated in three channels; slices are not resized. Where nothing is valid the
    truth stands in both.
    """
    a, b, _ = clipped(a, b, window, valid)
    if valid is not None:
        a = torch.where(valid, a, b)
    if min(b.shape[-3:]) < LEAST:
        raise BadInput(f"LPIPS needs at least {LEAST} voxels a side, the volume has {tuple(b.shape[-3:])}")
    unit = [((x - window[0]) / width(window) * 2 - 1).float() for x in (a, b)]
    flat = [x.reshape(-1, *x.shape[-3:]) for x in unit]
    found = torch.stack([_of_volume(x, y) for x, y in zip(*flat, strict=True)])
    return found.reshape(a.shape[:-3])


def _of_volume(a: Tensor, b: Tensor) -> Tensor:
    """The mean over all slices, each axis weighing the same."""
    means = []
    for axis in range(3):
        pairs = zip(a.movedim(axis, 0).split(AT_ONCE), b.movedim(axis, 0).split(AT_ONCE), strict=True)
        means.append(torch.cat([distance(_coloured(x), _coloured(y)) for x, y in pairs]).mean())
    return torch.stack(means).mean().double()


def _coloured(slices: Tensor) -> Tensor:
    return slices[:, None].expand(-1, 3, -1, -1)


@torch.no_grad()
def distance(a: Picture, b: Picture, tensors: dict[str, Tensor] | None = None) -> Float[Tensor, "n"]:
    """LPIPS of each pair of pictures on [-1, 1], 0 or more; `tensors` stand in for the weights that ship."""
    tensors = _weights(a.device) if tensors is None else tensors
    total = a.new_zeros(len(a))
    for k, (x, y) in enumerate(zip(features(a, tensors), features(b, tensors), strict=True)):
        x, y = (f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10) for f in (x, y))
        total = total + F.conv2d((x - y).square(), tensors[f"head.{k}.weight"]).mean((1, 2, 3))
    return total


def features(x: Picture, tensors: dict[str, Tensor]) -> list[Tensor]:
    """The trunk's maps after each of its five ReLUs."""
    x = (x - x.new_tensor(SHIFT)[:, None, None]) / x.new_tensor(SCALE)[:, None, None]
    maps = []
    for k, (stride, padding) in enumerate(LAYERS):
        if k in POOLED:
            x = F.max_pool2d(x, 3, 2)
        x = F.conv2d(x, tensors[f"trunk.{k}.weight"], tensors[f"trunk.{k}.bias"], stride=stride, padding=padding).relu()
        maps.append(x)
    return maps


@cache
def _weights(device: torch.device) -> dict[str, Tensor]:
    """The shipped weights, float32."""
    if not WEIGHTS.is_file():
        raise BadInput(f"LPIPS' weights are not there ({WEIGHTS.name}); scripts/lpips_weights.py makes them")
    return {name: tensor.float().to(device) for name, tensor in load_file(WEIGHTS).items()}
