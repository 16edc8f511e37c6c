"""Where the cube goes: on the body, along it on the lungs, and inside the scan as far as it can be."""

import numpy as np

from raylift.data.prepare.body import box_mm
from raylift.data.prepare.profiles import Profile
from raylift.types import Grid, Volume


def cube_grid(profile: Profile, small: Volume, body: np.ndarray, lungs: np.ndarray | None, scan: Grid) -> Grid:
    """The profile's cube about the patient, upright, its centre on a tenth of a millimetre."""
    corners = scan.corners_mm
    low, high = float(corners[:, 2].min()), float(corners[:, 2].max())
    half = profile.side_mm / 2
    z = (low + high) / 2
    if high - low > profile.side_mm and profile.centre == "lungs" and lungs is not None:
        bottom, top = box_mm(lungs, small.grid)
        z = float(np.clip((bottom[2] + top[2]) / 2, low + half, high - half))
    near = np.abs(small.grid.world([[d, 0, 0] for d in range(len(body))])[:, 2] - z) <= half
    x, y = _trunk_centre(body[near] if body[near].any() else body, small.grid)
    centre = tuple(round(float(c), 1) for c in (x, y, z))
    return Grid.canonical((profile.size,) * 3, profile.spacing, centre)


def _trunk_centre(body: np.ndarray, grid: Grid) -> tuple[float, float]:
    """x and y of the body's middle: the median over the planes of each plane's centre of mass."""
    area = body.sum((1, 2))
    full = area > 0.5 * np.median(area[area > 0])
    rows, columns = np.arange(body.shape[1]), np.arange(body.shape[2])
    h = np.median((body.sum(2) @ rows)[full] / area[full])
    w = np.median((body.sum(1) @ columns)[full] / area[full])
    x, y, _ = grid.world([0.0, h, w])
    return float(x), float(y)
