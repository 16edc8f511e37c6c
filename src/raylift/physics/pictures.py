"""What happens to a picture of intensities on its way: blur, scatter, collimation, quantum noise."""

from math import ceil

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor


def blurred(picture: Float[Tensor, "*b rows cols"], sigma: tuple[float, float]) -> Float[Tensor, "*b rows cols"]:
    """A Gaussian of `sigma` (pixels, down and across) laid over the picture; beyond its edge it goes on as it ended."""
    flat = picture.reshape(-1, 1, *picture.shape[-2:])
    for axis, width in enumerate(sigma):
        if width <= 0:
            continue
        reach = max(1, ceil(4 * width))
        edges = (torch.arange(-reach, reach + 2, dtype=torch.float64) - 0.5) / width
        kernel = torch.special.ndtr(edges).diff()  # each pixel's share of the Gaussian, also of a narrow one
        kernel = (kernel / kernel.sum()).to(picture)
        shape, pad = ((-1, 1), (0, 0, reach, reach)) if axis == 0 else ((1, -1), (reach, reach, 0, 0))
        flat = F.conv2d(F.pad(flat, pad, mode="replicate"), kernel.reshape(1, 1, *shape))
    return flat.reshape(picture.shape)


def scattered(
    primary: Float[Tensor, "*b rows cols"], amount: float, sigma: tuple[float, float]
) -> Float[Tensor, "*b rows cols"]:
    """What scatter adds to `primary` (1 in air): amount * (T * -ln T), spread by a Gaussian of `sigma` pixels.

    T * -ln T is proportional to the photons that are scattered once towards the panel and come through (Ohnesorge
    et al. 1999); behind an even slab the ratio of scatter to primary is amount * -ln T.
    """
    through = primary.clamp(1e-9, 1)
    return blurred(amount * through * -through.log(), sigma)


def collimated(
    picture: Float[Tensor, "*b rows cols"], pixel_mm: tuple[float, float], field_mm: tuple[float, float]
) -> Float[Tensor, "*b rows cols"]:
    """The picture inside a centred field of `field_mm` (height, width at the panel), exactly 0 outside it."""
    inside = [
        ((torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * step).abs() <= side / 2
        for count, step, side in zip(picture.shape[-2:], pixel_mm, field_mm, strict=True)
    ]
    return picture * (inside[0][:, None] & inside[1]).to(picture)


def noisy(
    mean: Float[Tensor, "*b rows cols"],
    spread: Float[Tensor, "*b rows cols"],
    photons: float,
    generator: Generator,
) -> Float[Tensor, "*b rows cols"]:
    """Intensities with quantum noise of `photons` a pixel in air, their mean kept.

    `mean` is the expected signal per photon sent and `spread` the expected sum of squares, so that the variance is
    `spread / photons`, whatever mixture of energies it is. Drawn as a Poisson count of equal quanta of that size.
    """
    mean, spread = mean.double(), spread.double()
    quantum = torch.where(mean > 0, spread / mean.clamp_min(1e-300), 1.0) / photons
    counts = torch.poisson(mean / quantum, generator=generator)
    return counts * quantum
