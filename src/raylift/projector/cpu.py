"""The projector on the CPU: compiled loops, their tasks shared among torch's number of threads.

Plain threads rather than numba's own: callers may be threads or forked workers themselves, and one thread pays nothing.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from raylift.projector import compiled, general, rectified
from raylift.projector.rays import FIRST, RECTIFIED, TURN_ACROSS, TURN_DOWN
from raylift.projector.vectors import LANES

SPANS = 8  # for each thread, so that one that is late holds up little  # ours
CACHED = 1 << 20  # bytes of a slab: it stays in a core's own cache  # ours
SHARES = 16  # of the slices: each sums up alone, the same whatever the number of threads  # ours
TOGETHER = 8  # views that go through a slab together  # ours
ROUNDED = 1e-9  # ours: of a direction; more than float64 rounds away


def project(
    mu: Float[Tensor, "n D H W"],
    table: Float[Tensor, "V 20"],
    affine: Float[Tensor, "3 3"],
    rows: int,
    columns: int,
) -> Float[Tensor, "n V rows columns"]:
    """Line integrals of `mu` (1/mm), float32 or float64."""
    columns_first = mu.new_zeros(len(mu), len(table), columns, rows)
    for volume, pictures in zip(mu.detach(), columns_first.numpy(), strict=True):
        _project_one(volume, pictures, table.numpy(), affine.numpy())
    return columns_first.transpose(2, 3).contiguous()


def backproject(
    xrays: Float[Tensor, "n V rows columns"],
    table: Float[Tensor, "V 20"],
    affine: Float[Tensor, "3 3"],
    shape: tuple[int, int, int],
) -> Float[Tensor, "n D H W"]:
    """The exact adjoint of `project`; the same bits whatever the number of threads."""
    columns_first = xrays.detach().transpose(2, 3).contiguous().numpy()
    total = np.zeros((len(xrays), *(max(2, n) for n in shape)), columns_first.dtype)  # loops load pairs
    for pictures, volume in zip(columns_first, total, strict=True):
        _backproject_one(pictures, volume, table.numpy(), affine.numpy())
    return torch.from_numpy(total)[:, : shape[0], : shape[1], : shape[2]].contiguous()


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads for this process; a forked one makes its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix="raylift-projector")


def in_threads(loop, tasks: int, *arguments) -> None:
    """Run `loop` over all its tasks in torch's number of threads, the caller's own among them."""
    threads = min(torch.get_num_threads(), tasks)
    if threads < 2:
        loop(0, tasks, *arguments)
        return
    edges = np.linspace(0, tasks, min(tasks, SPANS * threads) + 1).astype(int).tolist()
    spans = iter(list(pairwise(edges)))  # each thread takes the next one

    def work():
        for first, last in spans:
            loop(first, last, *arguments)

    pool = _pool(os.getpid(), torch.get_num_threads())
    others = [pool.submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        for other in others:
            if not other.cancel():  # one that has not begun would find nothing left
                other.result()


def _passes(table: np.ndarray, pixels: tuple[int, int], spacing: np.ndarray) -> Iterator[tuple[int, bool, np.ndarray]]:
    """Which views go through the volume together: the main axis that their rays may have, whether they take the
    rectified loops, and their numbers; `pixels` are columns, rows.
    """
    has_rays, along_body = _has_rays(table, pixels, spacing), table[:, RECTIFIED] > 0
    for axis in range(3):
        for flag in (True, False):
            views = np.flatnonzero(has_rays[:, axis] & (along_body == flag))
            for first in range(0, len(views), TOGETHER):
                yield axis, flag, views[first : first + TOGETHER]


def _has_rays(table: np.ndarray, pixels: tuple[int, int], spacing: np.ndarray) -> np.ndarray:
    """For each view, of so many columns and rows, and each axis: False if no ray of the view has that main axis; V 3.

    Directions with one main axis and sense make a convex cone, and a panel is flat: what its four corners share, all
    of its pixels do.
    """
    corners = [(c, r) for c in (0, pixels[0] - 1) for r in (0, pixels[1] - 1)]
    ways = [table[:, FIRST] + c * table[:, TURN_ACROSS] + r * table[:, TURN_DOWN] for c, r in corners]
    ways, along_body = spacing * np.stack(ways, 1), table[:, RECTIFIED] > 0  # V 4 3
    ways[along_body, :, 0] = 0.0
    has_rays = np.abs(ways[:, 0]).argmax(1)[:, None] == np.arange(3)
    along = np.where(has_rays[:, None], ways, 0.0).sum(-1)  # the first corner's main axis; V 4
    across = np.where(has_rays[:, None], 0.0, np.abs(ways)).max(-1)
    parts = along * np.sign(along[:, :1]) <= (1 + ROUNDED) * across
    has_rays[parts.any(1)] = True
    has_rays[along_body, 0] = False
    return has_rays


def _project_one(volume: Tensor, pictures: np.ndarray, table: np.ndarray, affine: np.ndarray) -> None:
    """Add to `pictures`, V columns rows."""
    missing = [max(0, 2 - n) for n in volume.shape]  # an axis of one voxel gets a second of zero: loops load pairs
    if any(missing):
        volume = pad(volume, [0, missing[2], 0, missing[1], 0, missing[0]])
    voxels, pixels, spacing = volume.numpy(), pictures.shape[1:], np.linalg.norm(affine, axis=0)
    for axis, along_body, views in _passes(table, pixels, spacing):
        sums = np.zeros((min(SHARES, voxels.shape[axis]), len(views), pixels[0], _padded(pixels[1])), voxels.dtype)
        sum_up = _sum_rectified if along_body else _sum_general
        steps = sum_up(voxels, axis, table[views], affine, spacing, pixels, sums)
        found = np.empty((len(views), *pixels), voxels.dtype)
        in_threads(compiled.collect, len(views) * pixels[0], steps, sums, found)
        pictures[views] += found


def _sum_rectified(voxels: np.ndarray, axis: int, table, affine, spacing, pixels, sums: np.ndarray) -> np.ndarray:
    """Add to `sums` what the shares of the slices give to the pictures; the rays' steps come back."""
    steps = _steps(table, affine, spacing, axis, pixels, voxels.dtype)
    if steps.any():
        in_threads(rectified.forward, len(sums), voxels, axis, _thin(voxels, axis), table, spacing, sums)
    return steps


def _sum_general(voxels: np.ndarray, axis: int, table, affine, spacing, pixels, sums: np.ndarray) -> np.ndarray:
    """The same for views of any pose."""
    rays, steps, spans = _aimed(voxels.shape, table, affine, spacing, axis, pixels, voxels.dtype)
    if steps.any():
        in_threads(general.forward, len(sums), voxels, axis, _thin(voxels, axis), rays, steps, spans, sums)
    return steps


def _backproject_one(pictures: np.ndarray, volume: np.ndarray, table: np.ndarray, affine: np.ndarray) -> None:
    """Write the adjoint to `volume`, which holds zeros."""
    fresh, spacing = True, np.linalg.norm(affine, axis=0)
    for axis, along_body, views in _passes(table, pictures.shape[1:], spacing):
        spread = _spread_rectified if along_body else _spread_general
        fresh = spread(pictures[views], volume, axis, fresh, table[views], affine, spacing)


def _spread_rectified(pictures, volume, axis, fresh, table, affine, spacing) -> bool:
    """Add to `volume`, or write over it if it is `fresh`; whether it still is."""
    weighed = _steps(table, affine, spacing, axis, pictures.shape[1:], volume.dtype) * pictures
    if not weighed.any():
        return fresh
    thin = _thin(volume, axis)
    in_threads(rectified.adjoint, -(-volume.shape[axis] // thin), volume, axis, thin, fresh, table, spacing, weighed)
    return False


def _spread_general(pictures, volume, axis, fresh, table, affine, spacing) -> bool:
    """The same for views of any pose."""
    rays, steps, _ = _aimed(volume.shape, table, affine, spacing, axis, pictures.shape[1:], volume.dtype)
    weighed = steps[..., : pictures.shape[2]] * pictures
    if not weighed.any():
        return fresh
    thin = _thin(volume, axis)
    in_threads(general.adjoint, -(-volume.shape[axis] // thin), volume, axis, thin, fresh, rays, weighed)
    return False


def _steps(table: np.ndarray, affine, spacing, axis: int, pixels: tuple[int, int], dtype) -> np.ndarray:
    """Each ray's step in mm, 0 where it has another main axis; V columns rows."""
    steps = np.empty((len(table), *pixels), dtype)
    in_threads(compiled.steps, len(table) * pixels[0], table, affine, spacing, axis, steps)
    return steps


def _aimed(shape: tuple[int, ...], table: np.ndarray, affine, spacing, axis: int, pixels: tuple[int, int], dtype):
    """What `general.aim` says of each view: rays, whose rows are filled up to whole lanes, their steps and spans."""
    rows = _padded(pixels[1])
    rays = np.empty((len(table), 6, pixels[0], rows), dtype)
    steps = np.empty((len(table), pixels[0], rows), dtype)
    spans = np.zeros((len(table), pixels[0], rows // LANES, 5), np.int64)
    sizes = tuple(shape[k] for k in ((0, 1, 2), (1, 2, 0), (2, 1, 0))[axis])
    in_threads(general.aim, len(table) * pixels[0], table, affine, spacing, axis, sizes, rays, steps, spans)
    return rays, steps, spans


def _padded(rows: int) -> int:
    return -(-rows // LANES) * LANES


def _thin(volume: np.ndarray, axis: int) -> int:
    """How many slices are laid out at a time; across W, as many as one load of the cache holds."""
    return LANES if axis == 2 else max(1, CACHED * volume.shape[axis] // volume.nbytes)
