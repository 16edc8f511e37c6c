"""How far two volumes are apart in the frequency domain (EAR 4.2)."""

from collections.abc import Sequence

import torch

from raylift.errors import BadInput
from raylift.metrics.checks import CT, Mask, Truth, Values, Window, clipped, width


def frequency_distance(a: CT, b: Truth, *, window: Window, valid: Mask = None) -> Values:
    """log10 of the mean squared distance of the spectra, real and imaginary parts added (EAR eqs. 7, 8).

    Volumes as fractions of the window, orthonormal transform over the volume, outside `valid` no difference; -inf at a
    match, 0 at most. By Parseval's theorem it is log10 of the mean squared error over all voxels: with this definition
    the frequency distance says nothing that MSE does not. (EAR's tables rank methods otherwise by FD than by MSE, so
    its code must do something else.)
    """
    _, _, difference = clipped(a, b, window, valid)
    if valid is not None:
        difference = torch.where(valid, difference, 0)
    spectrum = torch.fft.fftn(difference / width(window), dim=(-3, -2, -1), norm="ortho")
    return (spectrum.real.square() + spectrum.imag.square()).mean((-3, -2, -1)).log10()


def min_max(values: Sequence[float]) -> list[float]:
    """`values` laid on [0, 1] from their least to their greatest; comparable within this list alone (EAR 4.2).

    >>> min_max([-3.0, -1.0, -2.0])
    [0.0, 1.0, 0.5]
    """
    if len(values) < 2 or max(values) == min(values):
        raise BadInput("a min-max normalisation needs at least two values that differ")
    low, high = min(values), max(values)
    return [(value - low) / (high - low) for value in values]
