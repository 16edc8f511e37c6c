"""How near a reconstructed CT comes to the true one. Volumes in HU; the window is always given, never assumed.

Both volumes are clipped to `window` (low, high; HU) first. Volumes are D H W, or B 1 D H W: one value comes back for
each leading index. `valid` is true where the truth was scanned; nothing else counts. Unequal shapes, values that are
not finite and masks without a voxel are errors.
"""

from collections.abc import Sequence
from math import exp

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from raylift.errors import BadInput

CT = Float[Tensor, "*b D H W"]
Truth = Float[Tensor, "*t P Q R"]  # the same shape; another one is told by an error of its own
Mask = Bool[Tensor, "..."] | None
Values = Float[Tensor, "*b"]
Window = tuple[float, float]
K1, K2 = 0.01, 0.03  # Wang et al. 2004
X2CT_RANGE, X2CT_PEAK, X2CT_EQUAL_DB = 2500.0, 4095.0, 100.0  # X2CT-GAN, original code metrics_np.py


def mae(a: CT, b: Truth, *, window: Window, valid: Mask = None) -> Values:
    """Mean absolute error, HU; 0 or more."""
    return _mean((_clipped(a, b, window, valid)[2]).abs(), valid)


def mse(a: CT, b: Truth, *, window: Window, valid: Mask = None) -> Values:
    """Mean squared error, HU²; 0 or more."""
    return _mean(_clipped(a, b, window, valid)[2] ** 2, valid)


def rmse(a: CT, b: Truth, *, window: Window, valid: Mask = None) -> Values:
    """Root of the mean squared error, HU; 0 or more."""
    return mse(a, b, window=window, valid=valid).sqrt()


def psnr(a: CT, b: Truth, *, window: Window, valid: Mask = None) -> Values:
    """Peak signal-to-noise ratio of the whole volume, dB; the peak is the window's width. Equal volumes: inf."""
    return _decibel(mse(a, b, window=window, valid=valid), _width(window))


def psnr_slices(a: CT, b: Truth, *, window: Window, axis: int, valid: Mask = None) -> Values:
    """Mean PSNR of the slices across `axis` (0: D, 1: H, 2: W), dB, peak the window's width.

    Slices in which `b`, the truth, is one value throughout (air) or nothing is valid are left out; if none is left,
    that is an error. A slice that is met exactly makes the mean inf.
    """
    _, truth, difference = _clipped(a, b, window, valid)
    dim = axis - 3
    others = [d for d in (-3, -2, -1) if d != dim]
    inside = torch.ones_like(truth, dtype=torch.bool) if valid is None else valid
    count = inside.sum(others)
    highest = torch.where(inside, truth, -torch.inf).amax(others)
    lowest = torch.where(inside, truth, torch.inf).amin(others)
    kept = (count > 0) & (highest > lowest)
    if not kept.any(-1).all():
        raise BadInput(f"no slice across {'DHW'[axis]} shows anything within the window {window}")
    errors = torch.where(inside, difference**2, 0).sum(others) / count.clamp_min(1)
    decibel = _decibel(errors, _width(window))
    return torch.where(kept, decibel, 0).sum(-1) / kept.sum(-1)


def cosine(a: CT, b: Truth, *, window: Window, valid: Mask = None) -> Values:
    """Cosine of the angle between the volumes, [0, 1], each as a fraction of the window (X2CT-GAN, original code).

    1 where both are at the window's floor throughout, 0 where only one is.
    """
    a, b, _ = _clipped(a, b, window, valid)
    a, b = (_inside((x - window[0]) / _width(window), valid) for x in (a, b))
    product = (a * b).sum((-3, -2, -1))
    lengths = a.square().sum((-3, -2, -1)).sqrt() * b.square().sum((-3, -2, -1)).sqrt()
    both = (a == 0).all(-1).all(-1).all(-1) & (b == 0).all(-1).all(-1).all(-1)
    return torch.where(both, 1.0, product / lengths.clamp_min(1e-300)).clamp(0, 1)


def ssim(a: CT, b: Truth, *, window: Window, valid: Mask = None, kernel: str = "gaussian") -> Values:
    """Structural similarity in three dimensions, [-1, 1], range the window's width; 1 where equal.

    kernel "gaussian": 11³ voxels, SD 1.5, population covariance (Wang et al. 2004); "uniform": 7³, sample covariance
    (scikit-image's default). The mean is over the voxels whose whole neighbourhood lies in the volume.
    """
    a, b, _ = _clipped(a, b, window, valid)
    if valid is not None:
        a = torch.where(valid, a, b)
    taps, sample = _kernel(kernel)
    _fits(b, len(taps), (-3, -2, -1))
    unit = [(x - window[0]) / _width(window) for x in (a, b)]
    local = _ssim_map(*unit, taps, (-3, -2, -1), sample)
    edge = len(taps) // 2
    seen = None if valid is None else valid[..., edge:-edge, edge:-edge, edge:-edge]
    return _mean(local, seen)


def reprojection_error(again: Float[Tensor, "V rows cols"], xrays: Float[Tensor, "U P Q"]) -> float:
    """How far the reconstruction's own X-rays are from the measured ones: |again - xrays| / |xrays|, 0 or more.

    Line integrals; Euclidean norms over all views' pixels.
    """
    _check(again, xrays, "re-projected and measured X-rays")
    size = xrays.double().norm()
    if size == 0:
        raise BadInput("the measured X-rays are 0 throughout, so a re-projection error has no scale")
    return float((again.double() - xrays.double()).norm() / size)


def x2ct_protocol(a: Float[Tensor, "D H W"], b: Float[Tensor, "P Q R"]) -> dict[str, float]:
    """The numbers that X2CT-GAN's released evaluation prints, of a prediction and the truth in HU.

    HU + 1024 clipped to [0, 2500]. MAE0, MSE0, cosine and SSIM on [0, 1] (SSIM: 7 x 7 uniform windows in slices across
    D, H and W, then the mean); MAE, MSE and PSNR after truncation to whole numbers, peak 4095 on a range of 2500
    (+4.29 dB), a slice or volume without error scoring 100 dB. `psnr_slices` is their "PSNR-avg".
    """
    _check(a, b)
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


def _x2ct_decibel(error: Tensor) -> Tensor:
    return torch.where(error == 0, X2CT_EQUAL_DB, 20 * torch.log10(X2CT_PEAK / error.clamp_min(1e-30).sqrt()))


def _x2ct_ssim(a: Tensor, b: Tensor) -> float:
    taps, sample = _kernel("uniform")
    _fits(a, len(taps), (-3, -2, -1))
    planes = ((-2, -1), (-3, -1), (-3, -2))  # slices across D, H, W
    return float(torch.stack([_ssim_map(a, b, taps, plane, sample).mean() for plane in planes]).mean())


def _kernel(name: str) -> tuple[list[float], bool]:
    """The taps along one axis, and whether the covariance is the sample's."""
    if name == "uniform":
        return [1 / 7] * 7, True
    if name == "gaussian":
        taps = [exp(-(k**2) / (2 * 1.5**2)) for k in range(-5, 6)]
        return [tap / sum(taps) for tap in taps], False
    raise BadInput(f"SSIM's kernel is 'gaussian' or 'uniform', not '{name}'")


def _ssim_map(a: Tensor, b: Tensor, taps: Sequence[float], axes: Sequence[int], sample: bool) -> Tensor:
    """SSIM at each place where the kernel fits; `a` and `b` are on [0, 1]. In float32: twice as fast, 1e-6 off."""
    a, b = a.float(), b.float()
    mean_a, mean_b = _filtered(a, taps, axes), _filtered(b, taps, axes)
    both = mean_a * mean_b
    squares = mean_a.square() + mean_b.square()
    spread = _filtered(a.square() + b.square(), taps, axes) - squares
    shared = _filtered(a * b, taps, axes) - both
    if sample:
        count = len(taps) ** len(axes)
        spread, shared = (x * (count / (count - 1)) for x in (spread, shared))
    c1, c2 = K1**2, K2**2
    return (((2 * both + c1) * (2 * shared + c2)) / ((squares + c1) * (spread + c2))).double()


def _filtered(x: Tensor, taps: Sequence[float], axes: Sequence[int]) -> Tensor:
    """`x` filtered along each axis in turn, only where the kernel fits."""
    for axis in axes:
        length = x.shape[axis] - len(taps) + 1
        out = x.narrow(axis, 0, length) * taps[0]
        for k in range(1, len(taps)):
            out.add_(x.narrow(axis, k, length), alpha=taps[k])
        x = out
    return x


def _clipped(a: Tensor, b: Tensor, window: Window, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Both volumes within the window, float64, and their difference."""
    low, high = window
    if not high > low:
        raise BadInput(f"a window runs from low to high, not {window}")
    _check(a, b)
    if valid is not None:
        if valid.shape != a.shape:
            raise BadInput(f"the mask has shape {tuple(valid.shape)}, the volumes {tuple(a.shape)}")
        if not valid.flatten(-3).any(-1).all():
            raise BadInput("the mask is empty: no voxel of the truth is valid")
    a, b = a.double().clamp(low, high), b.double().clamp(low, high)
    return a, b, a - b


def _check(a: Tensor, b: Tensor, what: str = "the volumes") -> None:
    if a.shape != b.shape:
        raise BadInput(f"{what} have unequal shapes: {tuple(a.shape)} and {tuple(b.shape)}")
    if a.numel() == 0:
        raise BadInput(f"{what} are empty")
    for x, which in ((a, "first"), (b, "second")):
        wrong = int((~x.isfinite()).sum())
        if wrong:
            raise BadInput(f"{what}: {wrong} values of the {which} are not finite")


def _fits(x: Tensor, taps: int, axes: Sequence[int]) -> None:
    if min(x.shape[axis] for axis in axes) < taps:
        raise BadInput(f"SSIM needs at least {taps} voxels a side, the volume has {tuple(x.shape[-3:])}")


def _width(window: Window) -> float:
    return window[1] - window[0]


def _inside(x: Tensor, valid: Tensor | None) -> Tensor:
    return x if valid is None else torch.where(valid, x, 0)


def _mean(x: Tensor, valid: Tensor | None) -> Tensor:
    """The mean over the last three axes, of what is valid."""
    if valid is None:
        return x.mean((-3, -2, -1))
    count = valid.sum((-3, -2, -1))
    if not (count > 0).all():
        raise BadInput("no valid voxel is far enough from the edge for SSIM's kernel")
    return torch.where(valid, x, 0).sum((-3, -2, -1)) / count


def _decibel(error: Tensor, peak: float) -> Tensor:
    return 10 * torch.log10(peak**2 / error)
