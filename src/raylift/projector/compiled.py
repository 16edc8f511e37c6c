"""How the CPU projector's loops are compiled, what they share of a ray's geometry, and the slabs that they go through.

The loops follow Joseph's method. A slab is a few slices across a ray's main axis, laid out anew so that lines along D
(along W, where the main axis is D) are contiguous; it stays in the processor's cache while all rays of all views go
through it, and no copy of the whole volume is ever made. `at` is a row of `Rays.table`; axis 0, 1, 2 is D, H, W.
Pictures are stored V columns rows. Each loop does the tasks `first` up to `last` and may run beside others of its kind
in threads: a task of a forward has its own sums, a task of an adjoint its own slices, so nothing races and every sum
has one order.
"""

import math
from typing import no_type_check  # the tests' checker must not wrap what numba compiles

from numba import njit

from raylift.projector.vectors import LANES, transpose_block


def _cached() -> bool:
    """Whether numba finds a folder to keep in what it compiles; where it does not, each process compiles anew."""
    try:
        njit(cache=True)(_cached)
    except RuntimeError:
        return False
    return True


FAST = {"cache": _cached(), "nogil": True, "fastmath": True, "error_model": "numpy"}
INLINE = {"inline": "always", "nogil": True, "fastmath": True, "error_model": "numpy"}
PADDING = 16  # zeros around a column of pixels: more than the rows that can be near one voxel


@njit(**INLINE)
@no_type_check
def direction(at, k, row, column):
    return at[9 + k] + column * at[12 + k] + row * at[15 + k]


@njit(**INLINE)
@no_type_check
def main_axis(at, spacing, row, column):
    d = 0.0 if at[18] > 0 else abs(direction(at, 0, row, column)) * spacing[0]
    h = abs(direction(at, 1, row, column)) * spacing[1]
    w = abs(direction(at, 2, row, column)) * spacing[2]
    if d > max(h, w):
        return 0
    return 1 if h >= w else 2


@njit(**INLINE)
@no_type_check
def step_mm(at, affine, axis, row, column):
    """Length in mm of a ray's way from one slice to the next."""
    d, h, w = direction(at, 0, row, column), direction(at, 1, row, column), direction(at, 2, row, column)
    x = affine[0, 0] * d + affine[0, 1] * h + affine[0, 2] * w
    y = affine[1, 0] * d + affine[1, 1] * h + affine[1, 2] * w
    z = affine[2, 0] * d + affine[2, 1] * h + affine[2, 2] * w
    return math.sqrt(x * x + y * y + z * z) / abs(direction(at, axis, row, column))


@njit(**INLINE)
@no_type_check
def slope_and_start(at, axis, k, row, column):
    """A ray's coordinate `k` as start + slope * slice."""
    slope = direction(at, k, row, column) / direction(at, axis, row, column)
    start = at[k] + column * at[3 + k] + row * at[6 + k]
    return slope, start - slope * (at[axis] + column * at[3 + axis] + row * at[6 + axis])


@njit(**INLINE)
@no_type_check
def first_slice(at, axis, row, column):
    """Where a ray starts, as a slice number times the sign of its advance."""
    advance = direction(at, axis, row, column)
    start = at[axis] + column * at[3 + axis] + row * at[6 + axis] + at[19] * advance
    return start if advance > 0 else -start


@njit(**FAST)
@no_type_check
def _transpose(source, at, stride, count, target, to, step, length):
    """target[to + i * step + j] = source[at + j * stride + i] for i < length, j < count."""
    whole_i, whole_j = length - length % LANES, count - count % LANES
    for j in range(0, whole_j, LANES):
        for i in range(0, whole_i, LANES):
            transpose_block(source, at + j * stride + i, stride, target, to + i * step + j, step)
    for j in range(count):
        for i in range(whole_i if j < whole_j else 0, length):
            target[to + i * step + j] = source[at + j * stride + i]


@njit(**FAST)
@no_type_check
def lay_slab(volume, axis, start, lines):
    """Copy the slices of D H W from `start` on that `lines` has room for: as n H W if `axis` is 0, else along D, as
    n W D if it is 1 and n H D if it is 2.
    """
    depth, height, width = volume.shape
    source, target = volume.reshape(-1), lines.reshape(-1)
    if axis == 0:
        lines[:] = volume[start : start + len(lines)]
    elif axis == 1:
        for n in range(len(lines)):
            at = (start + n) * width
            _transpose(source, at, height * width, depth, target, n * width * depth, depth, width)
    else:
        for h in range(height):
            _transpose(source, h * width + start, height * width, depth, target, h * depth, height * depth, len(lines))


@njit(**FAST)
@no_type_check
def lay_back(lines, axis, start, volume):
    """The way back from `lay_slab`."""
    depth, height, width = volume.shape
    source, target = lines.reshape(-1), volume.reshape(-1)
    if axis == 0:
        volume[start : start + len(lines)] = lines
    elif axis == 1:
        for n in range(len(lines)):
            to = (start + n) * width
            _transpose(source, n * width * depth, depth, width, target, to, height * width, depth)
    else:
        for h in range(height):
            to = h * width + start
            _transpose(source, h * depth, height * depth, len(lines), target, to, height * width, depth)


@njit(**FAST)
@no_type_check
def steps(first, last, table, affine, spacing, axis, out):
    """For the columns `first` to `last`, counted through all views, fill `out`, V columns rows: each ray's step in mm
    from one slice to the next; 0 where its main axis is another than `axis`.
    """
    columns, rows = out.shape[1:]
    for task in range(first, last):
        b, c = task // columns, task % columns
        for r in range(rows):
            mine = main_axis(table[b], spacing, r, c) == axis
            out[b, c, r] = step_mm(table[b], affine, axis, r, c) if mine else 0.0


@njit(**FAST)
@no_type_check
def collect(first, last, steps, sums, out):
    """For the same columns write to `out`, V columns rows, all that the shares of slices have summed up, in mm."""
    columns, rows = out.shape[1:]
    for task in range(first, last):
        b, c = task // columns, task % columns
        for share in range(1, len(sums)):
            for r in range(rows):
                sums[0, b, c, r] += sums[share, b, c, r]
        for r in range(rows):
            out[b, c, r] = steps[b, c, r] * sums[0, b, c, r]
