"""The projector on the CPU: compiled loops, their tasks shared among torch's number of threads.

Plain threads rather than numba's own: callers may be threads or forked workers themselves, and one thread pays nothing.
"""

import os
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
    """Run `loop` over all its tasks in torch's number of threads."""
    threads = min(torch.get_num_threads(), tasks)
    if threads < 2:
        loop(0, tasks, *arguments)
        return
    edges = np.linspace(0, tasks, min(tasks, SPANS * threads) + 1).astype(int).tolist()
    pool = _pool(os.getpid(), torch.get_num_threads())
    for done in [pool.submit(loop, first, last, *arguments) for first, last in pairwise(edges)]:
        done.result()


def _groups(table: np.ndarray) -> list[tuple[bool, np.ndarray]]:
    """The views that take the rectified loops, and the others."""
    along_body = table[:, RECTIFIED] > 0
    return [(flag, np.flatnonzero(along_body == flag)) for flag in (True, False) if (along_body == flag).any()]


def _project_one(volume: Tensor, pictures: np.ndarray, table: np.ndarray, affine: np.ndarray) -> None:
    spacing = np.linalg.norm(affine, axis=0)
    for along_body, views in _groups(table):
        project_views = _project_rectified if along_body else _project_general
        for some in np.split(views, range(TOGETHER, len(views), TOGETHER)):
            out = np.zeros((len(some), *pictures.shape[1:]), pictures.dtype)
            project_views(volume, out, table[some], affine, spacing)
            pictures[some] = out


def _project_rectified(volume: Tensor, out: np.ndarray, table, affine, spacing) -> None:
    voxels = volume.numpy()
    for axis in (1, 2):
        steps = _steps(out, table, affine, spacing, axis)
        if steps.any():
            sums = _sums(voxels, axis, out)
            in_threads(rectified.forward, len(sums), voxels, axis, _thin(voxels, axis), table, spacing, sums)
            out += steps * sums.sum(0)[..., : out.shape[2]]


def _project_general(volume: Tensor, out: np.ndarray, table, affine, spacing) -> None:
    missing = [max(0, 2 - n) for n in volume.shape]  # an axis of one voxel gets a second of zero: loops load pairs
    if any(missing):
        volume = pad(volume, [0, missing[2], 0, missing[1], 0, missing[0]])
    voxels = volume.numpy()
    for axis in range(3):
        rays, spans = _aimed(voxels, out, table, affine, spacing, axis)
        if rays[:, 6].any():
            sums = _sums(voxels, axis, out)
            in_threads(general.forward, len(sums), voxels, axis, _thin(voxels, axis), rays, spans, sums)
            out += (rays[:, 6] * sums.sum(0))[..., : out.shape[2]]


def _steps(pictures: np.ndarray, table, affine, spacing, axis: int) -> np.ndarray:
    """Each ray's step in mm, 0 where it has another main axis; V columns rows."""
    steps = np.zeros_like(pictures)
    for at, step in zip(table, steps, strict=True):
        if _may_have(at, step.shape, spacing, axis):
            in_threads(compiled.steps, len(step), at, affine, spacing, axis, step)
    return steps


def _aimed(voxels: np.ndarray, pictures: np.ndarray, table, affine, spacing, axis: int):
    """What `general.aim` says of each view; nothing but zeros of one that has no ray of this main axis."""
    views, columns, rows = pictures.shape
    rays = np.zeros((views, 7, columns, _padded(rows)), pictures.dtype)
    spans = np.zeros((views, columns, rays.shape[3] // LANES, 3), np.int64)
    sizes = tuple(voxels.shape[k] for k in ((0, 1, 2), (1, 2, 0), (2, 1, 0))[axis])
    for at, aimed, span in zip(table, rays, spans, strict=True):
        if _may_have(at, (columns, rows), spacing, axis):
            in_threads(general.aim, columns, at, affine, spacing, axis, sizes, aimed, span)
    return rays, spans


def _may_have(at: np.ndarray, pixels: tuple[int, int], spacing: np.ndarray, axis: int) -> bool:
    """False where no ray of a view, of so many columns and rows, has the main axis `axis`.

    Directions with one main axis and sense make a convex cone, and a panel is flat: what its four corners share, all
    of its pixels do.
    """
    columns, rows = pixels
    corners = [(c, r) for c in (0, columns - 1) for r in (0, rows - 1)]
    ways = spacing * [at[FIRST] + c * at[TURN_ACROSS] + r * at[TURN_DOWN] for c, r in corners]
    if at[RECTIFIED] > 0:
        ways[:, 0] = 0.0
    main = int(np.abs(ways[0]).argmax())
    along, across = ways[:, main] * np.sign(ways[0, main]), np.abs(np.delete(ways, main, 1)).max(1)
    return axis == main or bool((along <= (1 + ROUNDED) * across).any())


def _sums(voxels: np.ndarray, axis: int, out: np.ndarray) -> np.ndarray:
    """Zeros for what each share of the slices gives to the pictures, whose rows are filled up to whole lanes."""
    views, columns, rows = out.shape
    return np.zeros((min(SHARES, voxels.shape[axis]), views, columns, _padded(rows)), out.dtype)


def _padded(rows: int) -> int:
    return -(-rows // LANES) * LANES


def _backproject_one(pictures: np.ndarray, volume: np.ndarray, table: np.ndarray, affine: np.ndarray) -> None:
    """Write the adjoint to `volume`."""
    spacing = np.linalg.norm(affine, axis=0)
    fresh = True
    for along_body, views in _groups(table):
        backproject_views = _backproject_rectified if along_body else _backproject_general
        for some in np.split(views, range(TOGETHER, len(views), TOGETHER)):
            fresh = backproject_views(pictures[some], volume, fresh, table[some], affine, spacing)


def _backproject_rectified(pictures, volume, fresh, table, affine, spacing) -> bool:
    """Add to `volume`, or write over it if it is `fresh`; whether it still is."""
    for axis in (1, 2):
        steps = _steps(pictures, table, affine, spacing, axis)
        if steps.any():
            thin, weighed = _thin(volume, axis), steps * pictures
            tasks = -(-volume.shape[axis] // thin)
            in_threads(rectified.adjoint, tasks, volume, axis, thin, fresh, table, spacing, weighed)
            fresh = False
    return fresh


def _backproject_general(pictures, volume, fresh, table, affine, spacing) -> bool:
    """The same for views of any pose."""
    rows = pictures.shape[2]
    for axis in range(3):
        rays, _ = _aimed(volume, pictures, table, affine, spacing, axis)
        rays[:, 6, :, :rows] *= pictures
        if rays[:, 6, :, :rows].any():
            thin = _thin(volume, axis)
            in_threads(general.adjoint, -(-volume.shape[axis] // thin), volume, axis, thin, fresh, rays, rows)
            fresh = False
    return fresh


def _thin(volume: np.ndarray, axis: int) -> int:
    """How many slices are laid out at a time; across W, as many as one load of the cache holds."""
    return LANES if axis == 2 else max(1, CACHED * volume.shape[axis] // volume.nbytes)
