"""The columns of a table of scores: each metric's title, digits, definition, and how it is reckoned."""

from collections.abc import Sequence

import torch
from torch import Tensor

from raylift import metrics

COLUMNS = {  # name -> title, digits
    "mae": ("MAE (HU)", 1),
    "mse": ("MSE (HU²)", 0),
    "psnr": ("PSNR (dB)", 2),
    "ssim": ("SSIM (3-D)", 4),
    "cosine": ("cosine", 4),
    "reprojection_before": ("re-projection before", 4),
    "reprojection_after": ("re-projection after", 4),
    "seconds": ("seconds", 2),
}
MORE = {  # reckoned where they are asked for
    "rmse": ("RMSE (HU)", 1),
    "psnr_slices": ("PSNR (axial slices, dB)", 2),
    "ssim_slices": ("SSIM (axial slices)", 4),
    "lpips": ("LPIPS", 4),
    "dice_bone": ("Dice (bone)", 4),
    "dice_body": ("Dice (not air)", 4),
    "frequency": ("frequency distance (log10)", 3),
    "psnr_x2ct": ("PSNR as X2CT-GAN's code (dB)", 2),
    "psnr_range": ("PSNR as EAR's tables (dB)", 2),
}
EVERY = {**COLUMNS, **MORE}
BETTER = {  # which end is the good one; what stands in neither says nothing of quality
    **dict.fromkeys(("psnr", "ssim", "cosine", "psnr_slices", "ssim_slices", "dice_bone", "dice_body"), 1),
    **dict.fromkeys(("psnr_x2ct", "psnr_range"), 1),
    **dict.fromkeys(("mae", "mse", "rmse", "lpips", "frequency", "reprojection_before", "reprojection_after"), -1),
}
BONE_HU = 200.0  # ours: what is denser is bone, for `dice_bone`
BODY_HU = -300.0  # ours: what is denser is no air, for `dice_body`; where a cube holds bone alone, the bone
DEFINITIONS = {
    "mae": "MAE, MSE and RMSE over all voxels",
    "psnr": "PSNR of the volume, its peak the window's width",
    "ssim": "SSIM 3-D, Gaussian 11³ of SD 1.5",
    "cosine": "cosine of the volumes as fractions of the window",
    "reprojection_after": "re-projection |Ax - b| / |b|, mean of the views",
    "psnr_slices": "PSNR of axial slices: the mean over those that are not empty",
    "ssim_slices": "SSIM of axial slices, Gaussian 11 x 11 of SD 1.5, mean over all",
    "lpips": "LPIPS with AlexNet, mean over the slices of three axes",
    "dice_bone": f"Dice of what is above {BONE_HU:g} HU",
    "dice_body": f"Dice of what is above {BODY_HU:g} HU",
    "frequency": "frequency distance: log10 of the spectra's mean squared distance, which is log10 of MSE on [0, 1]",
    "psnr_x2ct": "PSNR as X2CT-GAN's code: slices of three axes, peak 4095 on 2500 HU from -1024, equal slices 100 dB",
    "psnr_range": "PSNR as EAR's tables: peak the range of the truth's own HU, not clipped",
}


def value(name: str, hu: Tensor, truth: Tensor, *, window: tuple[float, float], valid: Tensor | None) -> float | None:
    """A metric by its column's name; None where the volume is too small for it."""
    common = {"window": window, "valid": valid}
    if name in ("psnr_slices", "ssim_slices"):
        return float(getattr(metrics, name)(hu, truth, axis=0, **common))
    if name in ("dice_bone", "dice_body"):
        return metrics.dice_above(hu, truth, hu=BONE_HU if name == "dice_bone" else BODY_HU, valid=valid)
    if name == "frequency":
        return float(metrics.frequency_distance(hu, truth, **common))
    if name == "psnr_x2ct":
        return metrics.x2ct_protocol(hu if valid is None else torch.where(valid, hu, truth), truth)["psnr_slices"]
    if name == "psnr_range":
        whole = (float(truth.min()), float(truth.max()))
        return float(metrics.psnr(hu, truth, window=whole, valid=valid))
    if name == "lpips" and min(truth.shape) < metrics.LEAST_FOR_LPIPS:
        return None
    return float(getattr(metrics, name)(hu, truth, **common))


def definitions(columns: Sequence[str]) -> str:
    """How the columns are defined, for above a table."""
    return "; ".join(DEFINITIONS[name] for name in columns if name in DEFINITIONS)


def text_of(name: str, value: float | Sequence[float] | None) -> str:
    """A cell: the value with the column's digits, an interval, or a dash."""
    if value is None:
        return "–"
    digits = EVERY[name][1]
    if isinstance(value, (list, tuple)):
        return " to ".join(f"{x:.{digits}f}" for x in value)
    return f"{value:.{digits}f}"
