"""The midline of a spine's bodies in a CT, found from the spinal canal, and the spine laid straight along it.

    bone around a soft middle in each slice --best path from head to feet--> the canal --forward, where bone fills the
    section most--> the bodies' midline --sections across it, a millimetre apart--> the straight spine

Contrast does not mislead it: a vessel has bone on one side at most.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage
from scipy.spatial import cKDTree

from raylift.errors import BadInput
from raylift.segment.contrast import contrasted
from raylift.types import Grid, Volume

COARSE_MM = 2.0  # ours: voxels for the canal
BONY_HU = 180.0  # ours: what bounds the canal; flesh and discs are below
SOFT_HU = (-60.0, 130.0)  # ours: what fills the canal
CLEAR_MM, REACH_MM = 4.0, 18.0  # ours: no bone nearer to the canal's middle, its walls no further
RAYS = 16  # directions in which walls are looked for  # ours
MOVE = 0.02  # what a voxel to the side costs, beside a score of up to 0.5  # ours
AHEAD_MM = (14.0, 32.0)  # ours: from the canal's middle to a body's
SOFTER_MM = 5.0  # ours: SD of the blur in which bodies are looked for in front of the canal
HALF_MM = (30.0, 26.0)  # ours: of the straight spine's sections, to the sides and to front and back
PLACE_MM = 1.5  # ours: from one place in a section to the next


@dataclass(frozen=True, kw_only=True, eq=False)
class Midline:
    """Points (n, 3) LPS mm a millimetre apart from the head down, where the spine runs there (unit, to the head), and
    the points of the canal behind them.
    """

    points: np.ndarray
    up: np.ndarray
    canal: np.ndarray

    @property
    def left(self) -> np.ndarray:
        """Unit vectors across the midline, to the left."""
        left = np.array([1.0, 0, 0]) - self.up[:, :1] * self.up
        return left / np.linalg.norm(left, axis=1, keepdims=True)

    @property
    def back(self) -> np.ndarray:
        """Unit vectors across the midline, to the back."""
        return np.cross(self.up, self.left)


def sampled(ct: Volume, grid: Grid) -> np.ndarray:
    """HU (float32) on an upright grid, smoothed first where that is coarser."""
    ratio = np.array(grid.spacing_mm) / ct.grid.spacing_mm
    hu = ct.hu.astype(np.float32).clip(-1024, 2000)
    hu = ndimage.gaussian_filter(hu, 0.42 * np.sqrt(np.maximum(ratio**2 - 1, 0)), truncate=3)
    step = np.linalg.inv(ct.grid.affine) @ grid.affine
    return ndimage.affine_transform(
        hu, step[:3, :3], step[:3, 3], grid.shape, order=1, mode="constant", cval=-1000.0
    )  # fmt: skip


def midline(ct: Volume) -> Midline:
    """The path through the bodies, from the top of the scan to its end."""
    size = np.array(ct.grid.shape) * ct.grid.spacing_mm
    grid = Grid.canonical(tuple(np.maximum(size / COARSE_MM, 4).astype(int)), COARSE_MM, tuple(ct.grid.centre_mm))
    hu = sampled(ct, grid)
    path = _best_path(_canal_score(hu))
    canal = grid.world(np.column_stack([np.arange(len(path)), path]).astype(float))
    canal = ndimage.gaussian_filter1d(canal, 8.0 / COARSE_MM, axis=0, mode="nearest")
    canal, up = _spaced(canal)
    return _ahead(hu, grid, canal, up)


def _canal_score(hu: Float[np.ndarray, "d h w"]) -> Float[np.ndarray, "d h w"]:
    """How much each voxel looks like the middle of a spinal canal, [0, 1]: soft, bone around it, a body before it."""
    bony = (hu > BONY_HU) & ~contrasted(hu, BONY_HU, SOFT_HU[1], (COARSE_MM,) * 3)
    bony = bony.astype(np.uint8)
    soft = ndimage.uniform_filter(hu, (1, 3, 3))
    near, far = round(CLEAR_MM / COARSE_MM), round(REACH_MM / COARSE_MM)
    padded = np.pad(bony, ((0, 0), (far, far), (far, far)))
    walls = np.zeros(hu.shape, np.float32)
    for angle in np.linspace(0, 2 * np.pi, RAYS, endpoint=False):
        hit = np.zeros(hu.shape, np.uint8)
        for r in range(near, far + 1):
            h, w = far + round(r * np.sin(angle)), far + round(r * np.cos(angle))
            hit |= padded[:, h : h + hu.shape[1], w : w + hu.shape[2]]
        walls += hit
    clear = 1 - ndimage.uniform_filter(bony.astype(np.float32), (1, 2 * near - 1, 2 * near - 1))
    clear *= (soft > SOFT_HU[0]) & (soft < SOFT_HU[1])
    thick = ndimage.gaussian_filter(bony.astype(np.float32), SOFTER_MM / COARSE_MM)
    ahead = round(22.0 / COARSE_MM)  # ours
    front = np.zeros_like(thick)
    front[:, ahead:] = thick[:, :-ahead]
    return (walls / RAYS) ** 3 * clear * (0.1 + np.minimum(front, 0.6)) * _central(hu)


def _central(hu: Float[np.ndarray, "d h w"]) -> Float[np.ndarray, "d 1 w"]:
    """1 in the middle of the body's breadth, less towards its sides; steady from slice to slice."""
    columns = (hu > -400).sum(1) + 1e-3
    at = np.arange(hu.shape[2])
    middle = (columns * at).sum(1) / columns.sum(1)
    spread = np.sqrt((columns * (at - middle[:, None]) ** 2).sum(1) / columns.sum(1))
    middle, spread = (ndimage.median_filter(x, 31, mode="nearest")[:, None] for x in (middle, spread))
    return np.exp(-0.5 * ((at - middle) / (0.35 * spread + 6)) ** 2).astype(np.float32)[:, None]


def _best_path(score: np.ndarray) -> np.ndarray:
    """For each slice the (h, w) of the path that gathers most, moving a voxel a slice at most."""
    total, came = score[0].copy(), []
    moved = np.float32(MOVE * np.hypot(*np.mgrid[-1:2, -1:2]).ravel())  # where nothing is seen it goes straight on
    for plane in score[1:]:
        padded = np.pad(total, 1, constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(*total.shape, -1) - moved
        best = windows.argmax(-1)
        came.append(best)
        total = plane + np.take_along_axis(windows, best[..., None], -1)[..., 0]
    h, w = np.unravel_index(int(total.argmax()), total.shape)
    path = [(h, w)]
    for best in reversed(came):
        step = divmod(int(best[h, w]), 3)
        h, w = h + step[0] - 1, w + step[1] - 1
        path.append((h, w))
    return np.array(path[::-1])


def _spaced(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The path's points a millimetre apart, and where it runs (unit, to the head) at each."""
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    at = np.arange(0.0, length[-1])
    if len(at) < 20:
        raise BadInput("the scan is too short along the body to hold a vertebra")
    points = np.stack([np.interp(at, length, points[:, k]) for k in range(3)], -1)
    up = -np.gradient(points, axis=0)
    up = ndimage.gaussian_filter1d(up, 6.0, axis=0, mode="nearest")
    return points, up / np.linalg.norm(up, axis=1, keepdims=True)


def _ahead(hu: np.ndarray, grid: Grid, canal: np.ndarray, up: np.ndarray) -> Midline:
    """The canal's points moved to the front, to where bone and discs fill the section most."""
    line = Midline(points=canal, up=up, canal=canal)
    blurred = ndimage.gaussian_filter(hu.clip(0, 300), SOFTER_MM / COARSE_MM)
    offsets = np.arange(AHEAD_MM[0], AHEAD_MM[1] + 1, 2.0)
    where = canal[:, None] - offsets[:, None] * line.back[:, None]
    filled = _looked_up(blurred, grid, where)
    filled = ndimage.gaussian_filter1d(filled, 15.0, axis=0, mode="nearest")
    weight = np.exp((filled - filled.max(1, keepdims=True)) / 8.0)
    moved = ndimage.gaussian_filter1d((weight * offsets).sum(1) / weight.sum(1), 20.0, mode="nearest")
    points, up = _spaced(canal - moved[:, None] * line.back)
    nearest = cKDTree(canal).query(points)[1]
    return Midline(points=points, up=up, canal=canal[nearest])


def _looked_up(values: np.ndarray, grid: Grid, where: np.ndarray) -> np.ndarray:
    index = grid.index(where).reshape(-1, 3).T
    return ndimage.map_coordinates(values, index, order=1, mode="nearest").reshape(where.shape[:-1])


def straight(hu: Float[np.ndarray, "d h w"], grid: Grid, line: Midline) -> Float[np.ndarray, "n b a"]:
    """HU of the sections across the midline: along it a millimetre apart, front to back, right to left."""
    a, b = (np.arange(-half, half + 0.1, PLACE_MM) for half in HALF_MM)
    rows = line.points[:, None, None] + b[:, None, None] * line.back[:, None, None]
    return _looked_up(hu, grid, rows + a[:, None] * line.left[:, None, None])
