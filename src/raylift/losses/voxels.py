"""Losses of voxels, and of what a voxel's neighbourhood looks like."""

import torch
import torch.nn.functional as F
from torch import Tensor

from raylift.losses.parts import CT, Mask, Scalar, apart, inside, mean_over


def mse(prediction: CT, truth: CT, *, valid: Mask = None) -> Scalar:
    """Mean squared error."""
    return mean_over(apart(prediction, truth, valid) ** 2, valid)


def l1(prediction: CT, truth: CT, *, valid: Mask = None) -> Scalar:
    """Mean absolute error."""
    return mean_over(apart(prediction, truth, valid).abs(), valid)


def blurred(x: CT, sigma: float, radius: int) -> CT:
    """`x` smoothed by a Gaussian cut at `radius`, 0 outside the volume."""
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[axis + 2], padding[axis] = len(offsets), radius
        with torch.autocast(x.device.type, enabled=False):
            x = F.conv3d(x, kernel.view(shape), padding=padding)
    return x


def ssim(prediction: CT, truth: CT, *, valid: Mask = None, data_range: float = 1.0) -> Scalar:
    """1 - SSIM in three dimensions: Gaussian windows of 11^3, SD 1.5, over the valid voxels in each window."""
    p, t = inside(prediction, valid), inside(truth, valid)
    within = torch.ones_like(p) if valid is None else valid.to(p.dtype)
    weight = blurred(within, 1.5, 5).clamp_min(1e-6)

    def local(x: Tensor) -> Tensor:
        return blurred(x * within, 1.5, 5) / weight

    mean_p, mean_t = local(p), local(t)
    var_p, var_t, cov = local(p * p) - mean_p**2, local(t * t) - mean_t**2, local(p * t) - mean_p * mean_t
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2  # Wang et al. 2004
    like = (2 * mean_p * mean_t + c1) * (2 * cov + c2)
    return 1 - mean_over(like / ((mean_p**2 + mean_t**2 + c1) * (var_p + var_t + c2)), valid)
