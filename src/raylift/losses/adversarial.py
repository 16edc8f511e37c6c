"""What generator and discriminator want of each other."""

from torch import Tensor

from raylift.losses.parts import Scalar, full


def lsgan_discriminator(real: Tensor, fake: Tensor, *, half: bool = False) -> Scalar:
    """(D(real) - 1)^2 + D(fake)^2, means over the maps; `half` halves it, as the papers' formulas do and their code
    does not.
    """
    total = ((full(real) - 1) ** 2).mean() + (full(fake) ** 2).mean()
    return total / 2 if half else total


def lsgan_generator(fake: Tensor, *, half: bool = False) -> Scalar:
    """(D(fake) - 1)^2, the mean over the map; `half` halves it."""
    total = ((full(fake) - 1) ** 2).mean()
    return total / 2 if half else total
