"""Fusions: volumes of two resolutions tell each other what they saw."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class OctaveExchange(nn.Module):
    """A finer and a coarser volume exchange what they hold, each through a 1x1x1 convolution.

    fine'   = W_ff fine + up2(W_cf coarse)
    coarse' = W_cc coarse + W_fc pool2(fine)
    """

    def __init__(self, fine: int, coarse: int):
        super().__init__()
        self.fine_fine, self.coarse_fine = nn.Conv3d(fine, fine, 1), nn.Conv3d(coarse, fine, 1)
        self.coarse_coarse, self.fine_coarse = nn.Conv3d(coarse, coarse, 1), nn.Conv3d(fine, coarse, 1)

    def forward(
        self, fine: Float[Tensor, "B C D H W"], coarse: Float[Tensor, "B c d h w"]
    ) -> tuple[Float[Tensor, "B C D H W"], Float[Tensor, "B c d h w"]]:
        to_fine = F.interpolate(self.coarse_fine(coarse), scale_factor=2.0, mode="nearest")
        to_coarse = self.fine_coarse(F.avg_pool3d(fine, 2))
        return self.fine_fine(fine) + to_fine, self.coarse_coarse(coarse) + to_coarse
