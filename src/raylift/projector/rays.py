"""The rays of beams, told in a grid's own index: what every backend is given.

A ray ends at its pixel's centre, `point = corner + column * across + row * down`, and its direction is affine in the
pixel too, `direction = first + column * turn_across + row * turn_down` (a parallel beam turns by nothing). On the ray
`point + step * direction` the panel lies at step 0 and the source of a cone at step -1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from raylift.errors import BadInput, GeometryError
from raylift.geometry import depth_along
from raylift.types import Beam, ConeBeam, Grid

# columns of Rays.table; each vector is (d, h, w)
CORNER, ACROSS, DOWN = slice(0, 3), slice(3, 6), slice(6, 9)
FIRST, TURN_ACROSS, TURN_DOWN = slice(9, 12), slice(12, 15), slice(15, 18)
RECTIFIED = 18  # 1: a column's rays differ in D alone, and none takes D for its main axis
START = 19  # the step at which rays start: -1 at the source of a cone, far away for a parallel beam
FAR = -1e30
STEEPEST = 2.0  # ours: up to 63 degrees off the H-W plane a rectified ray keeps H or W for its main axis
DRIFT = 1e-6  # ours: voxels that a column of pixels may wander across D and still be called parallel to it


@dataclass(frozen=True, eq=False)
class Rays:
    """All rays of some beams through one grid."""

    table: Float[Tensor, "V 20"]  # float64, on the CPU; see the columns above
    affine: Float[Tensor, "3 3"]  # index (d, h, w) to mm, without the offset; float64, on the CPU
    shape: tuple[int, int, int]
    pixels: tuple[int, int]


def rays_through(grid: Grid, beams: Sequence[Beam]) -> Rays:
    """The rays of `beams` through `grid`, once they are known to fit together."""
    beams = tuple(beams)
    if not beams:
        raise BadInput("no beam given: a projection needs at least one")
    for beam in beams[1:]:
        if beam.pixels != beams[0].pixels:
            raise GeometryError(
                f"beams of one call need equal pixels, not {beams[0].pixels} and {beam.pixels}; "
                "use beam.resized(rows, columns)"
            )
    return _rays_through(grid, beams)


@lru_cache(maxsize=256)
def _rays_through(grid: Grid, beams: tuple[Beam, ...]) -> Rays:
    rows = [_row(grid, beam) for beam in beams]
    affine = torch.tensor(grid.affine[:3, :3], dtype=torch.float64)
    return Rays(torch.tensor(np.array(rows), dtype=torch.float64), affine, grid.shape, beams[0].pixels)


def _row(grid: Grid, beam: Beam) -> np.ndarray:
    nearest = depth_along(beam, grid.corners_mm).min()
    if nearest <= 1e-6:
        raise GeometryError(
            f"the volume reaches the panel and {-nearest:.1f} mm beyond: rays end at the panel; "
            "crop the volume or move the panel away"
        )
    inverse = np.linalg.inv(grid.affine[:3, :3])
    down = inverse @ np.asarray(beam.row_dir) * beam.pixel_mm[0]
    across = inverse @ np.asarray(beam.column_dir) * beam.pixel_mm[1]
    rows, columns = beam.pixels
    corner = grid.index(beam.detector_centre_mm) - (rows - 1) / 2 * down - (columns - 1) / 2 * across
    row = np.zeros(20)
    row[CORNER], row[ACROSS], row[DOWN] = corner, across, down
    if isinstance(beam, ConeBeam):
        row[FIRST], row[TURN_ACROSS], row[TURN_DOWN] = corner - grid.index(beam.source_mm), across, down
        row[START] = -1.0
    else:
        row[FIRST] = inverse @ np.asarray(beam.ray_dir)
        row[START] = FAR
    row[RECTIFIED] = _is_rectified(row, beam.pixels, np.array(grid.spacing_mm))
    return row


def _is_rectified(row: np.ndarray, pixels: tuple[int, int], spacing_mm: np.ndarray) -> bool:
    """True where the detector's rows run parallel to D and no ray is too steep for it."""
    if np.abs(row[DOWN][1:]).max() * pixels[0] > DRIFT:
        return False
    column = np.arange(pixels[1])[:, None]
    ends = [row[FIRST] + column * row[TURN_ACROSS] + r * row[TURN_DOWN] for r in (0, pixels[0] - 1)]
    along = np.abs(np.stack(ends)) * spacing_mm
    return bool((along[..., 0] <= STEEPEST * along[..., 1:].max(-1)).all())
