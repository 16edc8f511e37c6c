"""The projector's loops for views of any pose: four loads a sample, or 16 rays of a column looked up together."""

import math
from typing import no_type_check  # the tests' checker must not wrap what numba compiles

import numpy as np
from numba import njit

from raylift.projector.compiled import (
    FAST,
    INLINE,
    PADDING,
    direction,
    first_slice,
    lay_back,
    lay_slab,
    main_axis,
    slope_and_start,
    step_mm,
)
from raylift.projector.vectors import (
    LANES,
    REACH,
    TABLE,
    add_bilinear,
    add_gathered,
    add_slices,
    permutes_lines,
)

WIDEST, FAR = 3, 99  # lines that 16 rays may lie apart for the fast loop; more than that
EDGE = 1e-3  # voxels: what float32 may round a place away
SAME = 1e-5  # ours: rays of one source begin at one slice, but for what float32 rounds away


@njit(**INLINE)
@no_type_check
def _run_together(ray, step, n, end):
    """How many lines 16 rays lie apart at the most, rounded up, or FAR; 0 where they have not one main axis and
    one start, or part by more than a look-up among 32 reaches.
    """
    last = n + LANES - 1
    for i in range(n, last + 1):
        if step[i] <= 0 or ray[5, i] != ray[5, n] or abs(ray[4, i] - ray[4, n]) > SAME * abs(ray[4, n]):
            return 0
    along = max(abs(ray[3, last] - ray[3, n]), abs(ray[3, last] + end * ray[2, last] - ray[3, n] - end * ray[2, n]))
    if along >= REACH - 1:
        return 0
    across = max(abs(ray[1, last] - ray[1, n]), abs(ray[1, last] + end * ray[0, last] - ray[1, n] - end * ray[0, n]))
    return max(1, math.ceil(across)) if across <= WIDEST else FAR


@njit(**INLINE)
@no_type_check
def _slices_met(ray, n, size_a, size_p, size_q, apart, met):
    """Put into `met` from which slice and up to which 16 rays that lie `apart` lines apart are well inside the volume,
    past their start, and then from which and up to which any of them may be near it.
    """
    first, last = 0.0, float(size_a)
    low, high = 0.0, size_a - 1.0 if apart <= WIDEST else -1.0
    if ray[5, n] > 0:
        low = max(low, ray[4, n] + SAME)
    else:
        high = min(high, -ray[4, n] - SAME)
    for k in (0, 2):
        size = size_p if k == 0 else size_q
        top = (size - apart - 1 if k == 0 else size - 1) - EDGE
        near, far = float(size_a), 0.0
        for i in (n, n + LANES - 1):
            slope, start = float(ray[k, i]), float(ray[k + 1, i])
            if abs(slope) * size_a < EDGE:
                if start < 2 * EDGE or start > top - EDGE:
                    high = -1.0
                near, far = 0.0, float(size_a)
            else:
                a, b = (EDGE - start) / slope, (top - start) / slope
                low, high = max(low, min(a, b)), min(high, max(a, b))
                a, b = (-1.0 - start) / slope, (size - start) / slope
                near, far = min(near, min(a, b)), max(far, max(a, b))
        if ray[k, n] * ray[k, n + LANES - 1] > 0:  # else those between go ways of their own
            first, last = max(first, near - 1.0), min(last, far + 1.0)
    met[0], met[1] = math.ceil(low), math.floor(high) + 1
    met[2], met[3] = math.floor(first), math.ceil(last)


@njit(**FAST)
@no_type_check
def aim(first, last, table, affine, spacing, axis, sizes, rays, steps, spans):
    """For the columns `first` to `last`, counted through all views, fill `rays`, V 6 columns rows: slope and start of
    p and q, first slice and sense; `steps` as `compiled.steps` does; and for each 16 rays `spans`, V columns rows/16 5:
    how many lines they lie apart, and `_slices_met`. `sizes` is a, p, q.
    """
    columns, rows = rays.shape[2:]
    p, q = (1 if axis == 0 else 3 - axis), (2 if axis == 0 else 0)
    size_a, size_p, size_q = sizes
    one, zero = rays.dtype.type(1), rays.dtype.type(0)
    for task in range(first, last):
        b, c = task // columns, task % columns
        at, ray, step, span = table[b], rays[b, :, c], steps[b, c], spans[b, c]
        for r in range(rows):
            ray[0, r], ray[1, r] = slope_and_start(at, axis, p, r, c)
            ray[2, r], ray[3, r] = slope_and_start(at, axis, q, r, c)
            ray[4, r] = first_slice(at, axis, r, c)
            ray[5, r] = one if direction(at, axis, r, c) > 0 else -one
            step[r] = step_mm(at, affine, axis, r, c) if main_axis(at, spacing, r, c) == axis else zero
        if permutes_lines(rays) and size_q >= TABLE:
            for n in range(0, rows, LANES):
                apart = _run_together(ray, step, n, rays.dtype.type(size_a - 1))
                span[n // LANES, 0] = apart
                if apart > 0:
                    _slices_met(ray, n, size_a, size_p, size_q, apart, span[n // LANES, 1:])


@njit(**INLINE)
@no_type_check
def _add_slice(sums, n, ray, flat_ray, plane, j, lines, offset, size_p, size_q):
    """Add to 16 sums what rays find in slice `j`, which begins at `offset` and may lie partly outside or behind the
    source.
    """
    f = lines.dtype.type
    jf, end = f(j), n + LANES - 1
    if ray[5, n] * jf <= ray[4, n]:
        return
    ya, yb = ray[1, n] + jf * ray[0, n], ray[1, end] + jf * ray[0, end]
    xa, xb = ray[3, n] + jf * ray[2, n], ray[3, end] + jf * ray[2, end]
    k0 = np.int32(max(math.floor(min(ya, yb)), 0))
    k1 = np.int32(min(math.floor(max(ya, yb)) + 2, size_p))
    if k0 < k1 and max(xa, xb) > -f(1) and min(xa, xb) < size_q:
        low = np.int32(min(max(math.floor(min(xa, xb)), 0), size_q - TABLE))
        o, count = offset + k0 * size_q, np.int32(k1 - k0)
        add_bilinear(sums, n, flat_ray, plane, jf, lines, o, int(size_q), k0, count, low, size_q)


@njit(**INLINE)
@no_type_check
def _bilinear(lines, o, y, x, size_p, size_q, stride_p, stride_q):
    """The slice that begins at `o`, at row y and column x; zero outside."""
    one, zero = lines.dtype.type(1), lines.dtype.type(0)
    iy = min(max(np.int32(math.floor(y)), np.int32(0)), size_p - np.int32(2))
    ix = min(max(np.int32(math.floor(x)), np.int32(0)), size_q - np.int32(2))
    fy, fx = y - lines.dtype.type(iy), x - lines.dtype.type(ix)
    y0, y1 = max(zero, one - abs(fy)), max(zero, one - abs(fy - one))
    x0, x1 = max(zero, one - abs(fx)), max(zero, one - abs(fx - one))
    o += iy * stride_p + ix * stride_q
    near = x0 * lines[o] + x1 * lines[o + stride_q]
    far = x0 * lines[o + stride_p] + x1 * lines[o + stride_p + stride_q]
    return y0 * near + y1 * far


@njit(**INLINE)
@no_type_check
def _along(ray, i, j0, j1, lines, stride_a, size_p, size_q):
    """What one ray finds in the slices `j0` to `j1`, that begin `lines`."""
    f = lines.dtype.type
    total = f(0)
    for j in range(j0, j1):
        jf = f(j)
        if ray[5, i] * jf > ray[4, i]:
            y, x = ray[1, i] + jf * ray[0, i], ray[3, i] + jf * ray[2, i]
            total += _bilinear(lines, (j - j0) * stride_a, y, x, size_p, size_q, size_q, 1)
    return total


@njit(**FAST)
@no_type_check
def forward(first, last, volume, axis, thin, rays, steps, spans, sums):
    """Add to sums[task, view, column, row] what the rays of main axis `axis` find in the task's share of the slices of
    `volume`, D H W, whose sides are at least 2; `rays`, `steps` and `spans`, one for each view, come from `aim`.
    """
    tasks, views, columns, rows = sums.shape
    size_a = volume.shape[axis]
    size_p, size_q = np.int32(volume.shape[1 if axis == 0 else 3 - axis]), np.int32(volume.shape[2 if axis == 0 else 0])
    plane, stride_a = columns * rows, int(size_p) * int(size_q)
    room = np.zeros(min(thin, size_a) * stride_a + TABLE, volume.dtype)  # look-ups load past the end
    lines = room[:-TABLE].reshape(min(thin, size_a), size_p, size_q)
    for task in range(first, last):
        j_end = (task + 1) * size_a // tasks
        for j0 in range(task * size_a // tasks, j_end, thin):
            j1 = min(j0 + thin, j_end)
            lay_slab(volume, axis, j0, lines[: j1 - j0])
            for b in range(views):
                ray, total = rays[b].reshape(6, plane), sums[task, b].reshape(-1)
                flat_ray, step, span = ray.reshape(-1), steps[b].reshape(-1), spans[b].reshape(-1, 5)
                for n in range(0, plane, LANES):
                    apart = span[n // LANES, 0]
                    if apart == 0:
                        for i in range(n, n + LANES):
                            if step[i] > 0:
                                total[i] += _along(ray, i, j0, j1, room, stride_a, size_p, size_q)
                        continue
                    a0, a1 = max(j0, span[n // LANES, 1]), min(j1, span[n // LANES, 2])
                    near, far = max(j0, span[n // LANES, 3]), min(j1, span[n // LANES, 4])
                    if a0 < a1:
                        offset = -j0 * stride_a
                        add_slices(total, n, flat_ray, plane, room, offset, stride_a, int(size_q), a0, a1, apart)
                    else:
                        a0, a1 = far, far
                    for j in range(near, a0):
                        _add_slice(total, n, ray, flat_ray, plane, j, room, (j - j0) * stride_a, size_p, size_q)
                    for j in range(a1, far):
                        _add_slice(total, n, ray, flat_ray, plane, j, room, (j - j0) * stride_a, size_p, size_q)


@njit(**INLINE)
@no_type_check
def _places(out, start, slope, j):
    for r in range(out.size):
        out[r] = start[r] + j * slope[r]


@njit(**INLINE)
@no_type_check
def _weights(out, step, sense, first, j):
    for r in range(out.size):
        out[r] = step[r] if sense[r] * j > first[r] else out.dtype.type(0)


@njit(**INLINE)
@no_type_check
def _row_of_place(x, rows):
    """a, b, c of r = (a + b x) / (1 + c x), the row at place x, through the first, a middle and the last row."""
    middle, last = rows // 2, rows - 1
    x0, x1, x2 = float(x[0]), float(x[middle]), float(x[last])
    near, far = (x1 - x0) * last, (x2 - x0) * middle
    bend = near * x2 - far * x1
    c = (far - near) / bend if abs(bend) > 1e-9 * abs(near) else 0.0
    b = last * (1.0 + c * x2) / (x2 - x0) if x2 != x0 else 0.0
    return -b * x0, b, c


@njit(**FAST)
@no_type_check
def _gather_column(lines, slice_at, stride, pixels, plane, rows, size_p, size_q):
    """Add one column's rays to one slice, 16 voxels at a time; False, and nothing done, where its places vary so that
    they must be scattered. `pixels` as `add_gathered` wants them.
    """
    f = lines.dtype.type
    a, b, c = _row_of_place(pixels[PADDING : PADDING + rows], rows)
    x0, x1 = float(pixels[PADDING]), float(pixels[PADDING + rows - 1])
    low, high = min(x0, x1), max(x0, x1)
    below = min(1.0 + c * (low - 2.0), 1.0 + c * (high + 2.0))
    y0, y1 = float(pixels[plane + PADDING]), float(pixels[plane + PADDING + rows - 1])
    if b == 0.0 or below < 0.1:
        return False
    steep = abs(b - a * c)
    reach = steep / below**2
    if reach * (LANES - 1) > 2 * REACH or reach < 1.0 / REACH:
        return False
    e = -1.0 if b - a * c > 0 else 1.0
    over = 1.0 + c * e
    first, bend, slope = (a + b * e) / over, c / over, b / over
    k0, k1 = max(0, math.floor(low)), min(size_q, math.floor(high) + 2)
    turn = (y1 - y0) / (x1 - x0)  # a column's rays are in one plane and cut a slice along a straight line
    for k in range(k0, k1, LANES):
        ya, yb = y0 + turn * (max(low, k - 1.0) - x0), y0 + turn * (min(high, float(k + LANES)) - x0)
        i0, i1 = max(math.floor(min(ya, yb) - EDGE), 0), min(math.floor(max(ya, yb) + EDGE) + 2, size_p)
        if i0 < i1:
            add_gathered(
                lines,
                slice_at + i0 * stride,
                stride,
                np.int32(min(k, size_q - LANES)),
                np.int32(k),
                np.int32(i0),
                np.int32(i1 - i0),
                pixels,
                plane,
                np.int32(PADDING),
                np.int32(rows),
                f(first),
                f(slope),
                f(bend),
                f(reach),
            )
    return True


@njit(**FAST)
@no_type_check
def _scatter_column(lines, offset, pixels, plane, rows, size_p, size_q):
    """Add one column's rays to the slice that begins at `offset`, each to its four voxels."""
    f = lines.dtype.type
    one, zero = f(1), f(0)
    for r in range(rows):
        g = pixels[2 * plane + PADDING + r]
        y, x = pixels[plane + PADDING + r], pixels[PADDING + r]
        if g != zero and y > -one and y < size_p and x > -one and x < size_q:
            iy = min(max(np.int32(math.floor(y)), np.int32(0)), size_p - np.int32(2))
            ix = min(max(np.int32(math.floor(x)), np.int32(0)), size_q - np.int32(2))
            fy, fx = y - f(iy), x - f(ix)
            y0, y1 = g * max(zero, one - abs(fy)), g * max(zero, one - abs(fy - one))
            x0, x1 = max(zero, one - abs(fx)), max(zero, one - abs(fx - one))
            o = offset + iy * size_q + ix
            lines[o] += y0 * x0
            lines[o + 1] += y0 * x1
            lines[o + size_q] += y1 * x0
            lines[o + size_q + 1] += y1 * x1


@njit(**FAST)
@no_type_check
def adjoint(first, last, volume, axis, thin, fresh, rays, weighed):
    """Add the adjoint of `forward` to `volume`, `thin` slices a task; `rays` as there, `weighed` are pictures times
    their rays' steps.

    If `fresh`, `volume` holds nothing yet and is written over.
    """
    views, columns, rows = weighed.shape
    size_a = volume.shape[axis]
    size_p, size_q = np.int32(volume.shape[1 if axis == 0 else 3 - axis]), np.int32(volume.shape[2 if axis == 0 else 0])
    stride_p, stride_a = int(size_q), int(size_p) * int(size_q)
    f = rays.dtype.type
    plane = PADDING + rows + PADDING + 4 * LANES
    by_lanes = permutes_lines(volume) and size_q >= LANES and rows > 2
    padded = np.zeros((3, plane), rays.dtype)
    inner = slice(PADDING, PADDING + rows)
    x, y, g, pixels = padded[0, inner], padded[1, inner], padded[2, inner], padded.reshape(-1)
    lines = np.empty((min(thin, size_a), size_p, size_q), rays.dtype)
    for task in range(first, last):
        start = task * thin
        slab = lines[: min(thin, size_a - start)]
        flat = slab.reshape(-1)
        if fresh:
            flat[:] = f(0)
        else:
            lay_slab(volume, axis, start, slab)
        for b in range(views):
            for c in range(columns):
                if not weighed[b, c].any():
                    continue
                together = by_lanes and rays[b, 5, c, 0] == rays[b, 5, c, rows - 1]
                for j in range(len(slab)):
                    jf = f(start + j)
                    _places(x, rays[b, 3, c], rays[b, 2, c], jf)
                    _places(y, rays[b, 1, c], rays[b, 0, c], jf)
                    _weights(g, weighed[b, c], rays[b, 5, c], rays[b, 4, c], jf)
                    o = j * stride_a
                    if not together or not _gather_column(flat, o, stride_p, pixels, plane, rows, size_p, size_q):
                        _scatter_column(flat, o, pixels, plane, rows, size_p, size_q)
        lay_back(slab, axis, start, volume)
