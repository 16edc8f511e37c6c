"""What training makes small: each loss is a function of prediction and truth (B 1 D H W on the target's scale).

`valid` is false where the CT does not fill the cube; nothing there counts. A scalar comes back, in float32 at least.
"""

from collections.abc import Callable, Sequence
from math import cos, log, sin

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from raylift.errors import unknown_name
from raylift.projector import project
from raylift.types import ConeBeam, Grid

CT = Float[Tensor, "B 1 D H W"]
Mask = Bool[Tensor, "B 1 D H W"] | None
Scalar = Float[Tensor, ""]
AXES = (2, 3, 4)


def _full(x: Tensor) -> Tensor:
    """At least float32: mixed precision ends where a loss begins."""
    return x if x.dtype == torch.float64 else x.float()


def _difference(prediction: CT, truth: CT, valid: Mask) -> CT:
    """Prediction minus truth, 0 where nothing is valid."""
    difference = _full(prediction) - _full(truth)
    return difference if valid is None else torch.where(valid, difference, 0)


def _inside(x: CT, valid: Mask) -> CT:
    return _full(x) if valid is None else torch.where(valid, _full(x), 0)


def _mean(x: Tensor, valid: Tensor | None) -> Scalar:
    """The mean over what is valid; 0 where nothing is."""
    if valid is None:
        return x.mean()
    return torch.where(valid, x, 0).sum() / valid.sum().clamp_min(1)


def mse(prediction: CT, truth: CT, *, valid: Mask = None) -> Scalar:
    """Mean squared error."""
    return _mean(_difference(prediction, truth, valid) ** 2, valid)


def l1(prediction: CT, truth: CT, *, valid: Mask = None) -> Scalar:
    """Mean absolute error."""
    return _mean(_difference(prediction, truth, valid).abs(), valid)


def mean_projection(x: CT, axis: int, valid: Mask = None) -> Float[Tensor, "B 1 rows cols"]:
    """The mean of |x| along `axis`, over what is valid."""
    if valid is None:
        return _full(x).abs().mean(axis)
    return _inside(x, valid).abs().sum(axis) / valid.sum(axis).clamp_min(1)


def projection(prediction: CT, truth: CT, *, valid: Mask = None) -> Scalar:
    """X2CT-GAN's projection loss: mean |difference| of the mean projections along D, H and W, a third of their sum."""
    terms = [
        _mean(
            (mean_projection(prediction, axis, valid) - mean_projection(truth, axis, valid)).abs(),
            None if valid is None else valid.any(axis),
        )
        for axis in AXES
    ]
    return torch.stack(terms).mean()


def mip(prediction: CT, truth: CT, *, valid: Mask = None) -> Scalar:
    """EAR's projection loss: mean |difference| of the maxima along D, H and W, a third of their sum (eq. 9).

    A gradient reaches only the voxels that are their ray's maximum.
    """
    terms = []
    for axis in AXES:
        pair = [_full(x) if valid is None else torch.where(valid, _full(x), -torch.inf) for x in (prediction, truth)]
        seen = None if valid is None else valid.any(axis)
        brightest = [x.amax(axis) if seen is None else torch.where(seen, x.amax(axis), 0) for x in pair]
        terms.append(_mean((brightest[0] - brightest[1]).abs(), seen))
    return torch.stack(terms).mean()


# X-Recon's three poses: where the detector stands, where columns grow, where rows grow (LPS)
CONE_POSES = (
    ((0, 0, -1), (1, 0, 0), (0, 1, 0)),  # axial
    ((1, 0, 0), (0, 1, 0), (0, 0, -1)),  # sagittal
    ((0, -1, 0), (1, 0, 0), (0, 0, -1)),  # coronal
)


def cone_beams(pixels: int, rotation_deg: float, shift: float) -> list[ConeBeam]:
    """X-Recon's three beams about a cube of 128 a side (original code), all under the same random turn and shift.

    SDs: `rotation_deg` for each of three angles, `shift` along each axis. They come from torch's own generator.
    """
    degrees, move = torch.randn(3) * rotation_deg, (torch.randn(3) * shift).tolist()
    turn = np.eye(3)
    for (i, j), angle in zip(((1, 2), (2, 0), (0, 1)), degrees.deg2rad().tolist(), strict=True):  # Rx Ry Rz
        about = np.eye(3)
        about[i, i], about[i, j], about[j, i], about[j, j] = cos(angle), -sin(angle), sin(angle), cos(angle)
        turn = turn @ about
    beams = []
    for pose in CONE_POSES:
        panel, columns, rows = (turn @ np.array(v, float) for v in pose)
        beams.append(
            ConeBeam(
                source_mm=tuple(-300.0 * panel + move),  # original code: 700 apart, 400 behind the axis
                detector_centre_mm=tuple(400.0 * panel + move),
                column_dir=tuple(columns),
                row_dir=tuple(rows),
                pixels=(pixels, pixels),
                pixel_mm=(373.76 / pixels, 373.76 / pixels),  # original code: 128 pixels of 2.92
            )
        )
    return beams


def cone_projection(
    prediction: CT,
    truth: CT,
    *,
    valid: Mask = None,
    pixels: int = 128,
    rotation_deg: float = 10.0,
    shift: float = 8.0,
) -> Scalar:
    """X-Recon's projection loss: mean |difference| of three cone-beam projections, jittered anew at each call.

    The cube counts as 128 a side, whatever its voxels. The code sums samples 1.75 apart without their length, so
    line integrals are divided by 1.75 to keep its weight.
    """
    difference = _difference(prediction, truth, valid)[:, 0]  # the projector is linear
    grid = Grid.canonical(difference.shape[1:], tuple(128 / n for n in difference.shape[1:]))
    seen = project(difference.float(), grid, cone_beams(pixels, rotation_deg, shift))  # B 3 pixels pixels
    return (seen / 1.75).abs().mean()


def _steps(x: Tensor, axis: int) -> Tensor:
    """x[i + 1] - x[i] along `axis`."""
    return x.narrow(axis, 1, x.shape[axis] - 1) - x.narrow(axis, 0, x.shape[axis] - 1)


def igdl(
    prediction: CT, truth: CT, *, valid: Mask = None, axes: Sequence[int] = AXES, power: float = 1.0, on: str = "volume"
) -> Scalar:
    """3DSRNet's image gradient difference (eq. 7): mean of ||grad p| - |grad t||^power, summed over the axes.

    The paper's brackets leave the outer modulus out; without it opposite errors would cancel. `axes=(3, 4)` are the
    paper's two; `on="projections"` compares the three mean projections instead, as the released code does.
    """
    if on == "projections":
        return _on_projections(igdl, prediction, truth, valid, power=power)
    total = torch.zeros((), device=prediction.device, dtype=_full(prediction).dtype)
    for axis in axes:
        apart = _steps(_full(prediction), axis).abs() - _steps(_full(truth), axis).abs()
        size = prediction.shape[axis] - 1
        both = None if valid is None else valid.narrow(axis, 1, size) & valid.narrow(axis, 0, size)
        total = total + _mean(apart.abs() ** power, both)
    return total


def ffl(
    prediction: CT,
    truth: CT,
    *,
    valid: Mask = None,
    power: float = 1.0,
    dims: Sequence[int] = AXES,
    on: str = "volume",
) -> Scalar:
    """3DSRNet's focal frequency loss (eq. 10): mean of w |F(p) - F(t)|^2, F the orthonormal Fourier transform over
    `dims`, w = |F(p) - F(t)|^power of each volume, divided by its largest value and held constant (the paper omits
    both). `on="projections"` transforms the three mean projections instead, as the released code does.
    """
    if on == "projections":
        return _on_projections(ffl, prediction, truth, valid, power=power)
    spectrum = torch.fft.fftn(_difference(prediction, truth, valid), dim=tuple(dims), norm="ortho")
    squared = spectrum.real**2 + spectrum.imag**2
    weight = squared.detach() ** (power / 2)
    weight = weight / weight.amax(tuple(dims), keepdim=True).clamp_min(1e-12)
    return (weight * squared).mean()


def _on_projections(loss: Callable, prediction: CT, truth: CT, valid: Mask, **options) -> Scalar:
    """The mean of `loss` over the three mean projections, each as a volume one voxel deep."""
    terms = []
    for axis in AXES:
        pair = [mean_projection(x, axis, valid)[:, :, None] for x in (prediction, truth)]
        where = {"axes": (3, 4)} if loss is igdl else {"dims": (3, 4)}
        terms.append(loss(*pair, **where, **options))
    return torch.stack(terms).mean()


def soft_edges(x: CT, scale: float = 1.0) -> CT:
    """How much of an edge each voxel is, in [0, 1): 1 - exp(-|grad x| / scale), central differences."""
    padded = F.pad(_full(x), (1,) * 6, mode="replicate")
    squared = torch.zeros_like(_full(x))
    for axis in AXES:
        core = padded
        for other in AXES:
            if other != axis:
                core = core.narrow(other, 1, x.shape[other])
        n = x.shape[axis]
        squared = squared + ((core.narrow(axis, 2, n) - core.narrow(axis, 0, n)) / 2) ** 2
    return 1 - torch.exp(-((squared + 1e-12).sqrt()) / scale)


def edge(
    prediction: CT, truth: CT, *, valid: Mask = None, scale: float = 1.0, floor: float = 1e-6, on: str = "volume"
) -> Scalar:
    """EAR's edge loss (eq. 6): binary cross-entropy of the prediction's soft edges against the truth's.

    Least, but not 0, at a match: what is left is the truth's own entropy. The paper does not define E. With
    `on="map"` the prediction is a map of edges already, as EAR's "edge_map".
    """
    wanted = soft_edges(_inside(truth, valid), scale)
    drawn = _full(prediction) if on == "map" else soft_edges(_inside(prediction, valid), scale)
    drawn = drawn.clamp(floor, 1 - floor)
    return _mean(-(wanted * drawn.log() + (1 - wanted) * (1 - drawn).log()), valid)


def frequency(prediction: CT, truth: CT, *, valid: Mask = None, floor: float = 1e-6, exact: bool = False) -> Scalar:
    """EAR's frequency loss (eqs. 7, 8): log10 of the spectra's mean squared distance, real and imaginary parts added,
    over `floor`: log10(1 + d / floor), 0 at a match. `exact` is the paper's log10(d), which falls without end there.
    """
    spectrum = torch.fft.fftn(_difference(prediction, truth, valid), dim=AXES, norm="ortho")
    distance = (spectrum.real**2).mean() + (spectrum.imag**2).mean()
    return distance.log10() if exact else torch.log1p(distance / floor) / log(10)


def _blur(x: CT, sigma: float, radius: int) -> CT:
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
    p, t = _inside(prediction, valid), _inside(truth, valid)
    inside = torch.ones_like(p) if valid is None else valid.to(p.dtype)
    weight = _blur(inside, 1.5, 5).clamp_min(1e-6)

    def local(x: Tensor) -> Tensor:
        return _blur(x * inside, 1.5, 5) / weight

    mean_p, mean_t = local(p), local(t)
    var_p, var_t, cov = local(p * p) - mean_p**2, local(t * t) - mean_t**2, local(p * t) - mean_p * mean_t
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2  # Wang et al. 2004
    like = (2 * mean_p * mean_t + c1) * (2 * cov + c2)
    return 1 - _mean(like / ((mean_p**2 + mean_t**2 + c1) * (var_p + var_t + c2)), valid)


def lsgan_discriminator(real: Tensor, fake: Tensor, *, half: bool = False) -> Scalar:
    """(D(real) - 1)^2 + D(fake)^2, means over the maps; `half` halves it, as the papers' formulas do and their code
    does not.
    """
    total = ((_full(real) - 1) ** 2).mean() + (_full(fake) ** 2).mean()
    return total / 2 if half else total


def lsgan_generator(fake: Tensor, *, half: bool = False) -> Scalar:
    """(D(fake) - 1)^2, the mean over the map; `half` halves it."""
    total = ((_full(fake) - 1) ** 2).mean()
    return total / 2 if half else total


LOSSES: dict[str, Callable[..., Scalar]] = {
    "mse": mse,
    "l1": l1,
    "projection": projection,
    "mip": mip,
    "cone_projection": cone_projection,
    "igdl": igdl,
    "ffl": ffl,
    "edge": edge,
    "frequency": frequency,
    "ssim": ssim,
}


def get(name: str) -> Callable[..., Scalar]:
    """The loss of that name, or an error that offers the nearest one."""
    if name not in LOSSES:
        raise unknown_name("loss", name, [*LOSSES, "gan"])
    return LOSSES[name]
