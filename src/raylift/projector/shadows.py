"""Pictures laid back along their rays: each voxel gets the value at its shadow. A look-up, not the adjoint."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from raylift.geometry import shadow
from raylift.types import Beam, Grid


def lifted(
    pictures: Float[Tensor, "V rows cols"],
    beams: Sequence[Beam],
    grid: Grid,
    *,
    beyond: Literal["zeros", "border"] = "zeros",
) -> Float[Tensor, "V D H W"]:
    """Each picture's value where each voxel's shadow falls on it; off the panel 0, or the value at its border."""
    centres = grid.world(torch.cartesian_prod(*[torch.arange(n) for n in grid.shape]).numpy())
    volumes = []
    for picture, beam in zip(pictures, beams, strict=True):
        place = torch.from_numpy(shadow(beam, centres)).to(picture)  # N 2: row, column
        at = ((2 * place + 1) / picture.new_tensor(beam.pixels) - 1).flip(-1)[None, None]  # 1 1 N 2: x, y
        seen = F.grid_sample(picture[None, None], at, mode="bilinear", padding_mode=beyond, align_corners=False)
        volumes.append(seen.reshape(grid.shape))
    return torch.stack(volumes)
