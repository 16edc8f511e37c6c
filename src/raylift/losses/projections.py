"""Losses of what the volumes look like from outside: means, maxima and cone beams."""

from math import cos, sin

import numpy as np
import torch

from raylift.losses.parts import AXES, CT, Mask, Scalar, apart, full, mean_over, mean_projection
from raylift.projector import project
from raylift.types import ConeBeam, Grid


def projection(prediction: CT, truth: CT, *, valid: Mask = None) -> Scalar:
    """X2CT-GAN's projection loss: mean |difference| of the mean projections along D, H and W, a third of their sum."""
    terms = [
        mean_over(
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
        pair = [full(x) if valid is None else torch.where(valid, full(x), -torch.inf) for x in (prediction, truth)]
        seen = None if valid is None else valid.any(axis)
        brightest = [x.amax(axis) if seen is None else torch.where(seen, x.amax(axis), 0) for x in pair]
        terms.append(mean_over((brightest[0] - brightest[1]).abs(), seen))
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
    difference = apart(prediction, truth, valid)[:, 0]  # the projector is linear
    grid = Grid.canonical(difference.shape[1:], tuple(128 / n for n in difference.shape[1:]))
    seen = project(difference.float(), grid, cone_beams(pixels, rotation_deg, shift))  # B 3 pixels pixels
    return (seen / 1.75).abs().mean()
