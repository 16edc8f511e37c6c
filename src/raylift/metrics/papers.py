"""The papers' own ways of measuring, faults included, so that their numbers can be told from ours."""

import torch
from jaxtyping import Float
from torch import Tensor

from raylift.errors import BadInput
from raylift.metrics.checks import check
from raylift.metrics.overlap import dice
from raylift.metrics.structure import check_fits, kernel_taps, local_ssim, ssim, ssim_slices
from raylift.metrics.volume import psnr_slices

X2CT_RANGE, X2CT_PEAK, X2CT_EQUAL_DB = 2500.0, 4095.0, 100.0  # X2CT-GAN, original code metrics_np.py


def x2ct_protocol(a: Float[Tensor, "D H W"], b: Float[Tensor, "P Q R"]) -> dict[str, float]:
    """The numbers that X2CT-GAN's released evaluation prints, of a prediction and the truth in HU.

    HU + 1024 clipped to [0, 2500]. MAE0, MSE0, cosine and SSIM on [0, 1] (SSIM: 7 x 7 uniform windows in slices across
    D, H and W, then the mean); MAE, MSE and PSNR after truncation to whole numbers, peak 4095 on a range of 2500
    (+4.29 dB), a slice or volume without error scoring 100 dB. `psnr_slices` is their "PSNR-avg".
    """
    check(a, b)
    a, b = ((x.double() + 1024).clamp(0, X2CT_RANGE) for x in (a, b))
    unit_a, unit_b = a / X2CT_RANGE, b / X2CT_RANGE
    whole = (a.trunc() - b.trunc()).abs()
    sliced = [_x2ct_decibel((whole**2).mean([d for d in range(3) if d != axis])).mean() for axis in range(3)]
    return {
        "mae0": float((unit_a - unit_b).abs().mean()),
        "mse0": float(((unit_a - unit_b) ** 2).mean()),
        "cosine": float(torch.nn.functional.cosine_similarity(unit_a.flatten(), unit_b.flatten(), dim=0)),
        "ssim": _x2ct_ssim(unit_a, unit_b),
        "mae": float(whole.mean()),
        "mse": float((whole**2).mean()),
        "psnr": float(_x2ct_decibel((whole**2).mean())),
        "psnr_slices": float(torch.stack(sliced).mean()),
    }


def xctnet_protocol(a: Float[Tensor, "D H W"], b: Float[Tensor, "P Q R"], *, window: tuple[float, float]) -> dict:
    """XctNet's numbers: means over the axial slices, on [0, 1] over `window` (HU), peak and SSIM's range 1.

    Its SSIM's kernel is not stated: Gaussian 11 of SD 1.5 here. Empty slices are left out of PSNR, which has no end
    there; of the others the mean is over all.
    """
    low, high = window
    unit_a, unit_b = ((x.double().clamp(low, high) - low) / (high - low) for x in (a, b))
    return {
        "mae": float((unit_a - unit_b).abs().mean()),
        "mse": float((unit_a - unit_b).square().mean()),
        "psnr": float(psnr_slices(a, b, window=window, axis=0)),
        "ssim": float(ssim_slices(a, b, window=window, axis=0)),
    }


def ear_protocol(
    a: Float[Tensor, "D H W"], b: Float[Tensor, "P Q R"], *, mean: float, sd: float, bone_hu: float
) -> dict[str, float]:
    """EAR's numbers, of HU turned into standard scores by `mean` and `sd` (HU).

    PSNR's peak is the range of the truth's scores: it fits EAR's tables (a peak of 7.4 to 7.8 in each row), the 4096
    that its text states does not (76 dB). SSIM is 3-D, Gaussian 11³ of SD 1.5, of the same range. Dice is of what is
    denser than `bone_hu`. FD is the raw log10; EAR's is min-max normalised over the rows of one table.
    """
    check(a, b)
    if sd <= 0:
        raise BadInput(f"a standard score needs an SD above 0, not {sd}")
    za, zb = ((x.double() - mean) / sd for x in (a, b))
    low, high = float(zb.min()), float(zb.max())
    if high <= low:
        raise BadInput("the truth is one value throughout, so its range is 0 and EAR's PSNR has no peak")
    mse = (za - zb).square().mean()
    return {
        "mse": float(mse),
        "mae": float((za - zb).abs().mean()),
        "dice": dice(a > bone_hu, b > bone_hu),
        "psnr": float(20 * torch.log10((high - low) / mse.sqrt())),
        "ssim": float(ssim(za.clamp(low, high), zb, window=(low, high))),
        "fd": float(mse.log10()),
    }


def _x2ct_decibel(error: Tensor) -> Tensor:
    return torch.where(error == 0, X2CT_EQUAL_DB, 20 * torch.log10(X2CT_PEAK / error.clamp_min(1e-30).sqrt()))


def _x2ct_ssim(a: Tensor, b: Tensor) -> float:
    taps, sample = kernel_taps("uniform")
    check_fits(a, len(taps), (-3, -2, -1))
    planes = ((-2, -1), (-3, -1), (-3, -2))  # slices across D, H, W
    return float(torch.stack([local_ssim(a, b, taps, plane, sample).mean() for plane in planes]).mean())
