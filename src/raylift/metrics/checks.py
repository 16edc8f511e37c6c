"""What all metrics of volumes share: clipping to the window, refusing what cannot be compared, means within a mask."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from raylift.errors import BadInput

CT = Float[Tensor, "*b D H W"]
Truth = Float[Tensor, "*t P Q R"]  # the same shape; another one is told by an error of its own
Mask = Bool[Tensor, "..."] | None
Values = Float[Tensor, "*b"]
Window = tuple[float, float]


def clipped(a: Tensor, b: Tensor, window: Window, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Both volumes within the window, float64, and their difference."""
    low, high = window
    if not high > low:
        raise BadInput(f"a window runs from low to high, not {window}")
    check(a, b)
    if valid is not None:
        if valid.shape != a.shape:
            raise BadInput(f"the mask has shape {tuple(valid.shape)}, the volumes {tuple(a.shape)}")
        if not valid.flatten(-3).any(-1).all():
            raise BadInput("the mask is empty: no voxel of the truth is valid")
    a, b = a.double().clamp(low, high), b.double().clamp(low, high)
    return a, b, a - b


def check(a: Tensor, b: Tensor, what: str = "the volumes") -> None:
    """An error where the shapes differ, nothing is there, or a value is not finite."""
    if a.shape != b.shape:
        raise BadInput(f"{what} have unequal shapes: {tuple(a.shape)} and {tuple(b.shape)}")
    if a.numel() == 0:
        raise BadInput(f"{what} are empty")
    for x, which in ((a, "first"), (b, "second")):
        wrong = int((~x.isfinite()).sum())
        if wrong:
            raise BadInput(f"{what}: {wrong} values of the {which} are not finite")


def width(window: Window) -> float:
    """The window's width, HU: the peak of PSNR and the range of SSIM."""
    return window[1] - window[0]


def inside(x: Tensor, valid: Tensor | None) -> Tensor:
    """`x` with 0 where nothing is valid."""
    return x if valid is None else torch.where(valid, x, 0)


def mean(x: Tensor, valid: Tensor | None) -> Tensor:
    """The mean over the last three axes, of what is valid."""
    if valid is None:
        return x.mean((-3, -2, -1))
    count = valid.sum((-3, -2, -1))
    if not (count > 0).all():
        raise BadInput("no valid voxel is far enough from the edge for SSIM's kernel")
    return torch.where(valid, x, 0).sum((-3, -2, -1)) / count


def decibel(error: Tensor, peak: float) -> Tensor:
    """PSNR of a mean squared error, dB; inf where it is 0."""
    return 10 * torch.log10(peak**2 / error)
