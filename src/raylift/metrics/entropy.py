"""How much a picture tells: Shannon entropy of its grey levels, as a number and as a map (XctNet eq. 4)."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from raylift.errors import BadInput
from raylift.metrics.checks import CT, Values, Window

LEVELS = 256  # ours: XctNet does not say; 8 bits
RADIUS = 4  # ours: a disk of 9 voxels across


def entropy(ct: CT, *, window: Window) -> Values:
    """Entropy of the grey levels of each volume, bits, [0, 8]: 256 levels over the window; 0 where all are one."""
    levels = _levels(ct, window).reshape(-1, *ct.shape[-3:])
    counts = torch.stack([torch.bincount(each.flatten(), minlength=LEVELS) for each in levels]).double()
    share = counts / counts.sum(-1, keepdim=True)
    bits = (share * -share.clamp_min(1e-300).log2()).sum(-1)
    return bits.reshape(ct.shape[:-3])


def entropy_map(picture: Float[Tensor, "rows cols"], *, window: Window) -> Float[np.ndarray, "rows cols"]:
    """Entropy of the grey levels in a disk of 9 pixels about each pixel, bits, [0, 6]: 256 levels over the window."""
    from skimage.filters.rank import entropy as of_neighbours
    from skimage.morphology import disk

    levels = _levels(picture, window).to(torch.uint8).cpu().numpy()
    return of_neighbours(levels, disk(RADIUS)).astype(np.float32)


def _levels(ct: Tensor, window: Window) -> Tensor:
    low, high = window
    if not high > low:
        raise BadInput(f"a window runs from low to high, not {window}")
    if not ct.isfinite().all():
        raise BadInput(f"{int((~ct.isfinite()).sum())} values are not finite")
    return (((ct.double() - low) / (high - low)).clamp(0, 1) * (LEVELS - 1)).round().long()
