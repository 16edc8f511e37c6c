"""The projector on the CPU: the compiled loops of `kernels`, their tasks shared among torch's number of threads.

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

from raylift.projector import kernels
from raylift.projector.rays import RECTIFIED

SPANS = 8  # for each thread, so that one that is late holds up little  # ours
RECTIFIED_BLOCK, GENERAL_BLOCK = 4, 8  # slices of one task of an adjoint  # ours


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
        _project_one(_lines(volume), pictures, table.numpy(), affine.numpy())
    return columns_first.transpose(2, 3).contiguous()


def backproject(
    xrays: Float[Tensor, "n V rows columns"],
    table: Float[Tensor, "V 20"],
    affine: Float[Tensor, "3 3"],
    shape: tuple[int, int, int],
) -> Float[Tensor, "n D H W"]:
    """The exact adjoint of `project`; the same bits whatever the number of threads."""
    columns_first = xrays.detach().transpose(2, 3).contiguous()
    total = xrays.new_empty(len(xrays), *shape)
    depth, height, width = (max(2, n) for n in shape)
    for pictures, volume in zip(columns_first.numpy(), total.numpy(), strict=True):
        lines = np.zeros((height, width, depth), volume.dtype)
        _backproject_one(pictures, lines, table.numpy(), affine.numpy())
        in_threads(kernels.lay_d_first, shape[1], lines, volume)
    return total


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


def _lines(volume: Float[Tensor, "D H W"]) -> np.ndarray:
    """The volume as H W D, D contiguous; an axis of one voxel gets a second of zero, for loops that load pairs."""
    missing = [max(0, 2 - n) for n in volume.shape]
    if any(missing):
        volume = pad(volume, [0, missing[2], 0, missing[1], 0, missing[0]])
    depth, height, width = volume.shape
    room = np.zeros(height * width * depth + kernels.TABLE, volume.numpy().dtype)  # look-ups load past the end
    lines = room[: -kernels.TABLE].reshape(height, width, depth)
    in_threads(kernels.lay_d_last, height, volume.numpy(), lines)
    return lines


def _groups(table: np.ndarray) -> list[tuple[bool, np.ndarray]]:
    """The views that take the rectified loops, and the others."""
    rectified = table[:, RECTIFIED] > 0
    return [(flag, np.flatnonzero(rectified == flag)) for flag in (True, False) if (rectified == flag).any()]


def _layout(lines: np.ndarray) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Sizes and strides of H W D, in the order D, H, W."""
    height, width, depth = lines.shape
    return (depth, height, width), (1, width * depth, depth)


def _project_one(lines: np.ndarray, pictures: np.ndarray, table: np.ndarray, affine: np.ndarray) -> None:
    flat, (sizes, strides) = lines.reshape(-1), _layout(lines)
    spacing = np.linalg.norm(affine, axis=0)
    tiles = -(-pictures.shape[1] // kernels.TILE)
    for rectified, views in _groups(table):
        rays, out = table[views], np.zeros((len(views), *pictures.shape[1:]), pictures.dtype)
        if rectified:
            for a, p in ((1, 2), (2, 1)):
                layout = (sizes[a], sizes[p], strides[a], strides[p], a)
                in_threads(kernels.rectified_forward, len(views) * tiles, flat, *layout, rays, affine, spacing, out)
        else:
            parts = -(-pictures.shape[2] // kernels.ROWS)
            for axis in range(3):
                tasks = len(views) * tiles * parts
                in_threads(kernels.general_forward, tasks, flat, sizes, strides, axis, rays, affine, spacing, out)
        pictures[views] = out


def _backproject_one(pictures: np.ndarray, lines: np.ndarray, table: np.ndarray, affine: np.ndarray) -> None:
    flat, (sizes, strides) = lines.reshape(-1), _layout(lines)
    spacing = np.linalg.norm(affine, axis=0)
    for rectified, views in _groups(table):
        if rectified:
            _backproject_rectified(pictures[views], flat, sizes, strides, table[views], affine, spacing)
            continue
        for view in views:
            for axis in range(3):
                rays = np.empty((pictures.shape[1], 7, pictures.shape[2]), pictures.dtype)
                in_threads(
                    kernels.lay_rays, pictures.shape[1], pictures[view], table[view], affine, spacing, axis, rays
                )
                if rays[:, 6].any():
                    tasks = -(-sizes[axis] // GENERAL_BLOCK)
                    in_threads(kernels.general_adjoint, tasks, flat, sizes, strides, axis, rays, GENERAL_BLOCK)


def _backproject_rectified(pictures, flat, sizes, strides, table, affine, spacing) -> None:
    for axis in (1, 2):
        weighed = np.empty(pictures.shape, pictures.dtype)
        in_threads(kernels.weigh, len(table) * pictures.shape[1], pictures, table, affine, spacing, axis, weighed)
        layout = (sizes[axis], sizes[3 - axis], strides[axis], strides[3 - axis], axis)
        tasks = -(-sizes[axis] // RECTIFIED_BLOCK)
        in_threads(kernels.rectified_adjoint, tasks, flat, *layout, table, spacing, weighed, RECTIFIED_BLOCK)
