"""The projector's loops for views whose detector columns run parallel to the body's axis, D.

Along one detector column and in one slice, the in-slice coordinate is constant and D is affine in the row. So a slice
and a column cost a blend of two contiguous lines and a 1-D interpolation along D, no scattered loads.
"""

import math
from typing import no_type_check  # the tests' checker must not wrap what numba compiles

import numpy as np
from numba import njit

from raylift.projector.compiled import FAST, INLINE, PADDING, lay_back, lay_slab, main_axis
from raylift.projector.vectors import LANES, REACH, add_interpolated, gather_rows

TILE = 16  # columns that go through a slab's slices together  # ours


@njit(**INLINE)
@no_type_check
def _column_in_slice(at, axis, j, c, size):
    """Where slice `j` cuts the rays of column `c`: in-slice position, D at row 0 and D per row; far off if nowhere."""
    other = 3 - axis
    step = (j - at[axis] - c * at[3 + axis]) / (at[9 + axis] + c * at[12 + axis])
    x = at[other] + c * at[3 + other] + step * (at[9 + other] + c * at[12 + other])
    d = at[0] + c * at[3] + step * (at[9] + c * at[12])
    slope = at[6] + step * at[15]
    if step <= at[19] or x >= size:
        x = -2.0
    return x, d, slope


@njit(**FAST)
@no_type_check
def _blend(target, a, b, weight_a, weight_b):
    for i in range(target.size):
        target[i] = weight_a * a[i] + weight_b * b[i]


@njit(**FAST)
@no_type_check
def _add(target, line, weight):
    for i in range(target.size):
        target[i] += weight * line[i]


@njit(**FAST)
@no_type_check
def _add_column(sums, slice_lines, line, x, d, slope):
    """Add what one slice, P D, gives to a column of rays that cut it at `x` and at `d` + row * `slope`."""
    size_p, depth = slice_lines.shape
    f = sums.dtype.type
    if abs(slope) < 1e-12:
        slope = 1e-12
    ra, rb = (-1.0 - d) / slope, (depth - d) / slope
    r0 = int(max(0.0, math.floor(min(ra, rb)) + 1))
    r1 = int(min(float(sums.size), math.ceil(max(ra, rb))))
    if r1 <= r0:
        return
    da, db = d + r0 * slope, d + (r1 - 1) * slope
    k0 = max(0, math.floor(min(da, db)) - 1)
    k1 = min(depth, math.floor(max(da, db)) + 3)
    i = math.floor(x)
    w1 = f(x - i)
    w0 = f(0) if i < 0 else f(1) - w1
    if i + 1 >= size_p:
        w1 = f(0)
    _blend(line[k0 + 1 : k1 + 1], slice_lines[max(i, 0), k0:k1], slice_lines[min(i + 1, size_p - 1), k0:k1], w0, w1)
    if abs(slope) * (LANES - 1) < REACH:
        for r in range(r0 // LANES * LANES, r1, LANES):
            add_interpolated(sums, r, line, f(d + 1.0 + r * slope), f(slope), f(depth + 1))
    else:
        for r in range(r0, r1):
            z = max(0.0, d + 1.0 + r * slope)
            k = int(z)
            sums[r] += line[k] + f(z - k) * (line[k + 1] - line[k])


@njit(**FAST)
@no_type_check
def forward(first, last, volume, axis, thin, table, spacing, sums):
    """Add to sums[task, view, column, row] what the rays of main axis `axis` (1: H, 2: W) find in the task's share of
    the slices of `volume`, D H W; `thin` of them at a time are laid out along D, and stay in the processor's cache.
    """
    tasks, views, columns, _ = sums.shape
    depth, size_a, size_p = volume.shape[0], volume.shape[axis], volume.shape[3 - axis]
    line = np.zeros(depth + 3 + 2 * LANES, volume.dtype)  # one voxel of zero before, two behind, and what lanes load
    lines = np.empty((min(thin, size_a), size_p, depth), volume.dtype)
    for task in range(first, last):
        j0, j1 = task * size_a // tasks, (task + 1) * size_a // tasks
        for start in range(j0, j1, thin):
            slab = lines[: min(thin, j1 - start)]
            lay_slab(volume, axis, start, slab)
            for b in range(views):
                for c0 in range(0, columns, TILE):
                    for j in range(len(slab)):
                        for c in range(c0, min(columns, c0 + TILE)):
                            if main_axis(table[b], spacing, 0, c) == axis:
                                x, d, slope = _column_in_slice(table[b], axis, start + j, c, size_p)
                                if x > -1.0:
                                    _add_column(sums[task, b, c], slab[j], line, x, d, slope)


@njit(**FAST)
@no_type_check
def _spread_column(lines, line, pixels, x, d, slope, rows):
    """The adjoint of `_add_column`: give to one slice, P D, what a column of pixels says."""
    size_p, depth = lines.shape
    f = lines.dtype.type
    one = f(1)
    last = d + (rows - 1) * slope
    k0 = max(0, math.floor(min(d, last)))
    k1 = min(depth, math.floor(max(d, last)) + 2)
    if k1 <= k0:
        return
    steep = abs(slope)
    if steep * 2 * REACH < LANES - 1:  # many rows in one voxel: each row gives to two voxels
        line[k0:k1] = f(0)
        for r in range(rows):
            z = d + r * slope
            k = math.floor(z)
            w = f(z - k)
            if k >= k0 and k < k1:
                line[k] += (one - w) * pixels[PADDING + r]
            if k + 1 >= k0 and k + 1 < k1:
                line[k + 1] += w * pixels[PADDING + r]
    else:  # each voxel gathers from the rows within one voxel of it
        count = np.int32(2.0 / steep + 1)
        for k in range(k0, k1, LANES):
            at0, n = np.int32(k), np.int32(rows)
            gather_rows(line, at0, pixels, np.int32(PADDING), n, f(d), f(slope), f(1.0 / slope), count)
    i = math.floor(x)
    w1 = f(x - i)
    if i >= 0:
        _add(lines[i, k0:k1], line[k0:k1], one - w1)
    if i + 1 < size_p:
        _add(lines[i + 1, k0:k1], line[k0:k1], w1)


@njit(**FAST)
@no_type_check
def adjoint(first, last, volume, axis, thin, fresh, table, spacing, weighed):
    """Add the adjoint of `forward` to `volume`, `thin` slices a task; `weighed` are pictures times their rays' steps.

    If `fresh`, `volume` holds nothing yet and is written over.
    """
    views, columns, rows = weighed.shape
    depth, size_a, size_p = volume.shape[0], volume.shape[axis], volume.shape[3 - axis]
    line = np.zeros(depth + LANES, weighed.dtype)
    pixels = np.zeros(PADDING + rows + PADDING + 4 * LANES, weighed.dtype)  # zeros before and behind
    lines = np.empty((min(thin, size_a), size_p, depth), weighed.dtype)
    for task in range(first, last):
        start = task * thin
        slab = lines[: min(thin, size_a - start)]
        if fresh:
            slab[:] = weighed.dtype.type(0)
        else:
            lay_slab(volume, axis, start, slab)
        for b in range(views):
            for c in range(columns):
                if main_axis(table[b], spacing, 0, c) == axis:
                    pixels[PADDING : PADDING + rows] = weighed[b, c]
                    for j in range(len(slab)):
                        x, d, slope = _column_in_slice(table[b], axis, start + j, c, size_p)
                        if x > -1.0:
                            _spread_column(slab[j], line, pixels, x, d, slope, rows)
        lay_back(slab, axis, start, volume)
