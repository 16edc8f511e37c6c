"""How near a reconstructed CT comes to the true one. Volumes in HU; the window is always given, never assumed.

Both volumes are clipped to `window` (low, high; HU) first. Volumes are D H W, or B 1 D H W: one value comes back for
each leading index. `valid` is true where the truth was scanned; nothing else counts. Unequal shapes, values that are
not finite and masks without a voxel are errors.

volume      mae, mse, rmse, psnr, psnr_slices, cosine, reprojection_error
structure   ssim, ssim_slices
perceptual  lpips
overlap     dice, dice_above
spectrum    frequency_distance, min_max
entropy     entropy, entropy_map
surface     assd, hd95, signed_distances, signed_surface_distance: of masks, mm
papers      x2ct_protocol, xctnet_protocol, ear_protocol: as the papers measure
"""

from raylift.metrics.entropy import entropy, entropy_map
from raylift.metrics.overlap import dice, dice_above
from raylift.metrics.papers import ear_protocol, x2ct_protocol, xctnet_protocol
from raylift.metrics.perceptual import LEAST as LEAST_FOR_LPIPS
from raylift.metrics.perceptual import lpips
from raylift.metrics.spectrum import frequency_distance, min_max
from raylift.metrics.structure import ssim, ssim_slices
from raylift.metrics.surface import assd, hd95, signed_distances, signed_surface_distance
from raylift.metrics.volume import cosine, mae, mse, psnr, psnr_slices, reprojection_error, rmse

__all__ = [
    "LEAST_FOR_LPIPS",
    "assd",
    "cosine",
    "dice",
    "dice_above",
    "ear_protocol",
    "entropy",
    "entropy_map",
    "frequency_distance",
    "hd95",
    "lpips",
    "mae",
    "min_max",
    "mse",
    "psnr",
    "psnr_slices",
    "reprojection_error",
    "rmse",
    "signed_distances",
    "signed_surface_distance",
    "ssim",
    "ssim_slices",
    "x2ct_protocol",
    "xctnet_protocol",
]
