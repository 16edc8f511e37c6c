"""How far two masks agree."""

from jaxtyping import Bool, Float
from torch import Tensor

from raylift.errors import BadInput
from raylift.metrics.checks import check


def dice(a: Bool[Tensor, "*s"], b: Bool[Tensor, "*t"]) -> float:
    """Dice's coefficient 2 |A and B| / (|A| + |B|), [0, 1]; 1 where both masks are empty, 0 where only one is."""
    if a.shape != b.shape:
        raise BadInput(f"the masks have unequal shapes: {tuple(a.shape)} and {tuple(b.shape)}")
    if a.numel() == 0:
        raise BadInput("the masks have no voxel at all")
    both = int(a.sum() + b.sum())
    return 1.0 if both == 0 else 2 * int((a & b).sum()) / both


def dice_above(
    a: Float[Tensor, "*s"], b: Float[Tensor, "*t"], *, hu: float, valid: Bool[Tensor, "..."] | None = None
) -> float:
    """Dice's coefficient of what is denser than `hu` in each, [0, 1]."""
    check(a, b)
    inside = True if valid is None else valid
    return dice((a > hu) & inside, (b > hu) & inside)
