"""The loops of the CPU projector, compiled by numba: Joseph's method on a volume stored H W D, D contiguous.

Rectified: along one detector column and in one slice, the in-slice coordinate is constant and D is affine in the row.
So a slice and a column cost a blend of two contiguous lines and a 1-D interpolation along D, no scattered loads.
General: any pose, four loads a sample. Pictures are stored V columns rows. `at` is a row of `Rays.table`; axis 0, 1, 2
is D, H, W. Each loop does the tasks `first` up to `last` and may run beside others of its kind in threads: a task of a
forward owns its pixels, a task of an adjoint its slices, so nothing races and every sum has one order.
"""

import math
from typing import no_type_check  # the tests' checker must not wrap what numba compiles

import numpy as np
from numba import njit

from raylift.projector.vectors import (
    GATHERED,
    LANES,
    REACH,
    TABLE,
    add_bilinear,
    add_gathered,
    add_interpolated,
    add_slices,
    gather_rows,
    permutes_lines,
    transpose_block,
)


def _cached() -> bool:
    """Whether numba finds a folder to keep in what it compiles; where it does not, each process compiles anew."""
    try:
        njit(cache=True)(_cached)
    except RuntimeError:
        return False
    return True


FAST = {"cache": _cached(), "nogil": True, "fastmath": True, "error_model": "numpy"}
INLINE = {"inline": "always", "nogil": True, "fastmath": True, "error_model": "numpy"}
TILE, ROWS = 16, 256  # columns and, in the general loop, rows of a task  # ours
AREA = TILE * ROWS
SLAB = 8  # slices that a task of the general loop goes through before the next 16 rays  # ours
WIDEST, FAR = 3, 99  # lines that 16 rays may lie apart for the fast loop; more than that
EDGE = 1e-3  # voxels: what float32 may round a place away
SAME = 1e-5  # ours: rays of one source begin at one slice, but for what float32 rounds away
PADDING = 16  # zeros around a column of pixels: more than the rows that can be near one voxel


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
def lay_d_last(first, last, volume, lines):
    """Copy D H W to H W D."""
    depth, height, width = volume.shape
    source, target = volume.reshape(-1), lines.reshape(-1)
    for h in range(first, last):
        _transpose(source, h * width, height * width, depth, target, h * width * depth, depth, width)


@njit(**FAST)
@no_type_check
def lay_d_first(first, last, lines, volume):
    """Copy H W D back to D H W; `lines` may be larger than the volume."""
    depth, height, width = volume.shape
    _, wide, deep = lines.shape
    source, target = lines.reshape(-1), volume.reshape(-1)
    for h in range(first, last):
        _transpose(source, h * wide * deep, deep, width, target, h * width, height * width, depth)


@njit(**INLINE)
@no_type_check
def _direction(at, k, row, column):
    return at[9 + k] + column * at[12 + k] + row * at[15 + k]


@njit(**INLINE)
@no_type_check
def _main_axis(at, spacing, row, column):
    d = 0.0 if at[18] > 0 else abs(_direction(at, 0, row, column)) * spacing[0]
    h = abs(_direction(at, 1, row, column)) * spacing[1]
    w = abs(_direction(at, 2, row, column)) * spacing[2]
    if d > max(h, w):
        return 0
    return 1 if h >= w else 2


@njit(**INLINE)
@no_type_check
def _step_mm(at, affine, axis, row, column):
    """Length in mm of a ray's way from one slice to the next."""
    d, h, w = _direction(at, 0, row, column), _direction(at, 1, row, column), _direction(at, 2, row, column)
    x = affine[0, 0] * d + affine[0, 1] * h + affine[0, 2] * w
    y = affine[1, 0] * d + affine[1, 1] * h + affine[1, 2] * w
    z = affine[2, 0] * d + affine[2, 1] * h + affine[2, 2] * w
    return math.sqrt(x * x + y * y + z * z) / abs(_direction(at, axis, row, column))


@njit(**FAST)
@no_type_check
def weigh(first, last, pictures, table, affine, spacing, axis, out):
    """Each pixel times its ray's step in mm; 0 where the ray's main axis is another than `axis`."""
    _, columns, rows = pictures.shape
    for q in range(first, last):
        b, c = q // columns, q % columns
        at = table[b]
        for r in range(rows):
            mine = _main_axis(at, spacing, r, c) == axis
            out[b, c, r] = pictures[b, c, r] * _step_mm(at, affine, axis, r, c) if mine else 0.0


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
def rectified_forward(first, last, lines, size_a, size_p, stride_a, stride_p, axis, table, affine, spacing, out):
    """Add the line integrals of all columns of main axis `axis` (1: H, 2: W) to `out`; `lines` is flat."""
    _, columns, rows = out.shape
    depth = lines.size // (size_a * size_p)
    f = out.dtype.type
    one, zero = f(1), f(0)
    tiles = (columns + TILE - 1) // TILE
    for q in range(first, last):
        at = table[q // tiles]
        c0 = (q % tiles) * TILE
        c1 = min(columns, c0 + TILE)
        padded = (rows + LANES - 1) // LANES * LANES
        sums = np.zeros(TILE * padded, out.dtype)
        line = np.zeros(depth + 3 + 2 * LANES, out.dtype)  # one voxel of zero before, two behind, and what lanes load
        for j in range(size_a):
            for c in range(c0, c1):
                if _main_axis(at, spacing, 0, c) != axis:
                    continue
                x, d, slope = _column_in_slice(at, axis, j, c, size_p)
                if x <= -1.0:
                    continue
                if abs(slope) < 1e-12:
                    slope = 1e-12
                ra, rb = (-1.0 - d) / slope, (depth - d) / slope
                r0 = int(max(0.0, math.floor(min(ra, rb)) + 1))
                r1 = int(min(float(rows), math.ceil(max(ra, rb))))
                if r1 <= r0:
                    continue
                da, db = d + r0 * slope, d + (r1 - 1) * slope
                k0 = max(0, math.floor(min(da, db)) - 1)
                k1 = min(depth, math.floor(max(da, db)) + 3)
                i = math.floor(x)
                w1 = f(x - i)
                w0 = one - w1
                if i < 0:
                    w0 = zero
                if i + 1 >= size_p:
                    w1 = zero
                o0 = j * stride_a + max(i, 0) * stride_p
                o1 = j * stride_a + min(i + 1, size_p - 1) * stride_p
                _blend(line[k0 + 1 : k1 + 1], lines[o0 + k0 : o0 + k1], lines[o1 + k0 : o1 + k1], w0, w1)
                if abs(slope) * (LANES - 1) < REACH:
                    for r in range(r0 // LANES * LANES, r1, LANES):
                        place = (c - c0) * padded + r
                        add_interpolated(sums, place, line, f(d + 1.0 + r * slope), f(slope), f(depth + 1))
                else:
                    for r in range(r0, r1):
                        z = max(0.0, d + 1.0 + r * slope)
                        k = int(z)
                        sums[(c - c0) * padded + r] += line[k] + f(z - k) * (line[k + 1] - line[k])
        for c in range(c0, c1):
            if _main_axis(at, spacing, 0, c) == axis:
                for r in range(rows):
                    out[q // tiles, c, r] += sums[(c - c0) * padded + r] * f(_step_mm(at, affine, axis, r, c))


@njit(**FAST)
@no_type_check
def rectified_adjoint(first, last, lines, size_a, size_p, stride_a, stride_p, axis, table, spacing, weighed, block):
    """Add the adjoint of `rectified_forward` to `lines`; `weighed` went through `weigh`."""
    views, columns, rows = weighed.shape
    depth = lines.size // (size_a * size_p)
    f = weighed.dtype.type
    one, zero = f(1), f(0)
    for jj in range(first, last):
        line = np.zeros(depth + LANES, weighed.dtype)
        pixels = np.zeros(PADDING + rows + PADDING + 4 * LANES, weighed.dtype)  # zeros before and behind
        for b in range(views):
            at = table[b]
            for c in range(columns):
                if _main_axis(at, spacing, 0, c) != axis:
                    continue
                for r in range(rows):
                    pixels[PADDING + r] = weighed[b, c, r]
                for j in range(jj * block, min(size_a, (jj + 1) * block)):
                    x, d, slope = _column_in_slice(at, axis, j, c, size_p)
                    if x <= -1.0:
                        continue
                    last = d + (rows - 1) * slope
                    k0 = max(0, math.floor(min(d, last)))
                    k1 = min(depth, math.floor(max(d, last)) + 2)
                    if k1 <= k0:
                        continue
                    steep = abs(slope)
                    if steep * 2 * REACH < LANES - 1:  # many rows in one voxel: each row gives to two voxels
                        line[k0:k1] = zero
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
                        o = j * stride_a + i * stride_p
                        _add(lines[o + k0 : o + k1], line[k0:k1], one - w1)
                    if i + 1 < size_p:
                        o = j * stride_a + (i + 1) * stride_p
                        _add(lines[o + k0 : o + k1], line[k0:k1], w1)


@njit(**INLINE)
@no_type_check
def _slope_and_start(at, axis, k, row, column):
    """A ray's coordinate `k` as start + slope * slice."""
    slope = _direction(at, k, row, column) / _direction(at, axis, row, column)
    start = at[k] + column * at[3 + k] + row * at[6 + k]
    return slope, start - slope * (at[axis] + column * at[3 + axis] + row * at[6 + axis])


@njit(**INLINE)
@no_type_check
def _first_slice(at, axis, row, column):
    """Where a ray starts, as a slice number times the sign of its advance."""
    advance = _direction(at, axis, row, column)
    start = at[axis] + column * at[3 + axis] + row * at[6 + axis] + at[19] * advance
    return start if advance > 0 else -start


@njit(**INLINE)
@no_type_check
def _run_together(ray, weight, n, end):
    """How many lines 16 rays lie apart at the most, rounded up, or FAR; 0 where they have not one main axis and
    one start, or part by more than a look-up among 32 reaches.
    """
    last = n + LANES - 1
    for i in range(n, last + 1):
        if weight[i] <= 0 or ray[5, i] != ray[5, n] or abs(ray[4, i] - ray[4, n]) > SAME * abs(ray[4, n]):
            return 0
    along = max(abs(ray[3, last] - ray[3, n]), abs(ray[3, last] + end * ray[2, last] - ray[3, n] - end * ray[2, n]))
    if along >= REACH - 1:
        return 0
    across = max(abs(ray[1, last] - ray[1, n]), abs(ray[1, last] + end * ray[0, last] - ray[1, n] - end * ray[0, n]))
    return max(1, math.ceil(across)) if across <= WIDEST else FAR


@njit(**INLINE)
@no_type_check
def _inner_slices(ray, n, size_a, top_p, top_q, inner):
    """Put into `inner` from which slice and up to which 16 rays are in the volume, past their start, below the tops."""
    low, high = 0.0, size_a - 1.0
    if ray[5, n] > 0:
        low = max(low, ray[4, n] + SAME)
    else:
        high = min(high, -ray[4, n] - SAME)
    for i in (n, n + LANES - 1):
        for k in (0, 2):
            slope, start = float(ray[k, i]), float(ray[k + 1, i])
            top = (top_p if k == 0 else top_q) - EDGE
            if abs(slope) * size_a < EDGE:
                if start < 2 * EDGE or start > top - EDGE:
                    high = -1.0
            else:
                a, b = (EDGE - start) / slope, (top - start) / slope
                low, high = max(low, min(a, b)), min(high, max(a, b))
    inner[0], inner[1] = math.ceil(low), math.floor(high) + 1


@njit(**FAST)
@no_type_check
def _add_slice(sums, n, ray, flat_ray, j, lines, stride_a, stride_p, size_p, size_q):
    """Add to 16 sums what rays find in slice `j`, which may lie partly outside the volume or behind the source."""
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
        o, count = j * stride_a + k0 * stride_p, np.int32(k1 - k0)
        add_bilinear(sums, n, flat_ray, AREA, jf, lines, o, stride_p, k0, count, low, size_q)


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


@njit(**FAST)
@no_type_check
def general_forward(first, last, lines, sizes, strides, axis, table, affine, spacing, out):
    """Add the line integrals of all rays of main axis `axis` to `out`, any pose; every size is at least 2."""
    _, columns, rows = out.shape
    p = 1 if axis == 0 else 3 - axis
    q = 2 if axis == 0 else 0  # the nearer neighbours in memory
    size_a, size_p, size_q = sizes[axis], np.int32(sizes[p]), np.int32(sizes[q])
    stride_a, stride_p, stride_q = strides[axis], strides[p], strides[q]
    f = out.dtype.type
    one = f(1)
    tiles = (columns + TILE - 1) // TILE
    parts = (rows + ROWS - 1) // ROWS
    for task in range(first, last):
        b = task // (tiles * parts)
        c0, r0 = (task % tiles) * TILE, (task // tiles % parts) * ROWS
        width, height = min(TILE, columns - c0), min(ROWS, rows - r0)
        at = table[b]
        ray = np.zeros((6, AREA), out.dtype)  # slope and start of p and q, first slice, sense
        sums, weight = np.zeros(AREA, out.dtype), np.zeros(AREA, out.dtype)
        any_ray = False
        for c in range(width):
            for r in range(ROWS):
                if _main_axis(at, spacing, r0 + r, c0 + c) == axis:
                    n = c * ROWS + r
                    any_ray = True
                    weight[n] = _step_mm(at, affine, axis, r0 + r, c0 + c)
                    ray[0, n], ray[1, n] = _slope_and_start(at, axis, p, r0 + r, c0 + c)
                    ray[2, n], ray[3, n] = _slope_and_start(at, axis, q, r0 + r, c0 + c)
                    ray[4, n] = _first_slice(at, axis, r0 + r, c0 + c)
                    ray[5, n] = one if _direction(at, axis, r0 + r, c0 + c) > 0 else -one
        if not any_ray:
            continue
        span, inner = np.zeros(AREA // LANES, np.int64), np.zeros((AREA // LANES, 2), np.int64)
        if permutes_lines(lines) and stride_q == 1 and size_q >= TABLE:
            for n in range(0, AREA, LANES):
                span[n // LANES] = _run_together(ray, weight, n, f(size_a - 1))
                if 0 < span[n // LANES] <= WIDEST:
                    _inner_slices(ray, n, size_a, size_p - span[n // LANES] - 1, size_q - 1, inner[n // LANES])
        flat_ray = ray.reshape(-1)
        for j0 in range(0, size_a, SLAB):
            for c in range(width):
                for n in range(c * ROWS, c * ROWS + height, LANES):
                    j1, chunk = min(j0 + SLAB, size_a), n // LANES
                    if span[chunk] == 0:
                        for i in range(n, min(n + LANES, c * ROWS + height)):
                            for j in range(j0, j1):
                                jf = f(j)
                                if ray[5, i] * jf > ray[4, i]:
                                    y, x = ray[1, i] + jf * ray[0, i], ray[3, i] + jf * ray[2, i]
                                    sums[i] += _bilinear(lines, j * stride_a, y, x, size_p, size_q, stride_p, stride_q)
                        continue
                    a0, a1 = max(j0, inner[chunk, 0]), min(j1, inner[chunk, 1])
                    if a0 < a1:
                        add_slices(sums, n, flat_ray, AREA, lines, 0, stride_a, stride_p, a0, a1, span[chunk])
                    else:
                        a0, a1 = j1, j1
                    for j in range(j0, a0):
                        _add_slice(sums, n, ray, flat_ray, j, lines, stride_a, stride_p, size_p, size_q)
                    for j in range(a1, j1):
                        _add_slice(sums, n, ray, flat_ray, j, lines, stride_a, stride_p, size_p, size_q)
        for c in range(width):
            for r in range(height):
                out[b, c0 + c, r0 + r] += sums[c * ROWS + r] * weight[c * ROWS + r]


@njit(**FAST)
@no_type_check
def lay_rays(first, last, picture, at, affine, spacing, axis, rays):
    """Fill `rays`, columns 7 rows: slope and start of p and q, first slice, sense, and the pixel times its ray's step;
    that is 0 where the ray's main axis is another than `axis`.
    """
    p = 1 if axis == 0 else 3 - axis
    q = 2 if axis == 0 else 0
    for c in range(first, last):
        for r in range(rays.shape[2]):
            rays[c, 0, r], rays[c, 1, r] = _slope_and_start(at, axis, p, r, c)
            rays[c, 2, r], rays[c, 3, r] = _slope_and_start(at, axis, q, r, c)
            rays[c, 4, r] = _first_slice(at, axis, r, c)
            rays[c, 5, r] = 1.0 if _direction(at, axis, r, c) > 0 else -1.0
            mine = _main_axis(at, spacing, r, c) == axis
            rays[c, 6, r] = picture[c, r] * _step_mm(at, affine, axis, r, c) if mine else 0.0


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
    drift = abs(pixels[plane + PADDING] - pixels[plane + PADDING + rows - 1])
    if b == 0.0 or below < 0.1 or drift + 3 + GATHERED > size_p:
        return False
    steep = abs(b - a * c)
    reach = steep / below**2
    if reach * (LANES - 1) > 2 * REACH or reach < 1.0 / REACH:
        return False
    e = -1.0 if b - a * c > 0 else 1.0
    over = 1.0 + c * e
    first, bend, slope = (a + b * e) / over, c / over, b / over
    k0, k1 = max(0, math.floor(low)), min(size_q, math.floor(high) + 2)
    for k in range(k0, k1, LANES):
        row_a = (first + slope * k) / (1.0 + bend * k)
        row_b = (first + slope * (k + LANES)) / (1.0 + bend * (k + LANES)) + 2.0 * reach + 1.0
        if e > 0:
            row_b = row_a + 2.0 * reach + 1.0
            row_a = (first + slope * (k + LANES)) / (1.0 + bend * (k + LANES))
        ra = min(max(int(row_a) - 1, 0), rows - 1)
        rb = min(max(int(row_b) + 1, 0), rows - 1)
        ya, yb = pixels[plane + PADDING + ra], pixels[plane + PADDING + rb]
        i0, i1 = max(math.floor(min(ya, yb)), 0), min(math.floor(max(ya, yb)) + 2, size_p)
        i0 = min(i0, size_p - (i1 - i0 + GATHERED - 1) // GATHERED * GATHERED)
        voxel = min(k, size_q - LANES)
        for line in range(i0, i1, GATHERED):
            add_gathered(
                lines,
                slice_at + line * stride,
                stride,
                np.int32(voxel),
                np.int32(k),
                np.int32(line),
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
def general_adjoint(first, last, lines, sizes, strides, axis, rays, block):
    """Add the adjoint of `general_forward` for one view to `lines`; `rays` come from `lay_rays`."""
    columns, _, rows = rays.shape
    p = 1 if axis == 0 else 3 - axis
    q = 2 if axis == 0 else 0
    size_a, size_p, size_q = sizes[axis], np.int32(sizes[p]), np.int32(sizes[q])
    stride_a, stride_p, stride_q = strides[axis], strides[p], strides[q]
    f = rays.dtype.type
    one, zero = f(1), f(0)
    plane = PADDING + rows + PADDING + 4 * LANES
    by_lanes = permutes_lines(lines) and stride_q == 1 and size_q >= LANES and size_p >= GATHERED and rows > 2
    for jj in range(first, last):
        pixels = np.zeros(3 * plane, rays.dtype)
        for c in range(columns):
            if not rays[c, 6].any():
                continue
            together = by_lanes and rays[c, 5, 0] == rays[c, 5, rows - 1]
            for j in range(jj * block, min(size_a, (jj + 1) * block)):
                jf = f(j)
                for r in range(rows):
                    pixels[PADDING + r] = rays[c, 3, r] + jf * rays[c, 2, r]
                    pixels[plane + PADDING + r] = rays[c, 1, r] + jf * rays[c, 0, r]
                    alive = rays[c, 5, r] * jf > rays[c, 4, r]
                    pixels[2 * plane + PADDING + r] = rays[c, 6, r] if alive else zero
                if together and _gather_column(lines, j * stride_a, stride_p, pixels, plane, rows, size_p, size_q):
                    continue
                for r in range(rows):
                    g = pixels[2 * plane + PADDING + r]
                    y, x = pixels[plane + PADDING + r], pixels[PADDING + r]
                    if g != zero and y > -one and y < size_p and x > -one and x < size_q:
                        iy = min(max(np.int32(math.floor(y)), np.int32(0)), size_p - np.int32(2))
                        ix = min(max(np.int32(math.floor(x)), np.int32(0)), size_q - np.int32(2))
                        fy, fx = y - f(iy), x - f(ix)
                        y0, y1 = g * max(zero, one - abs(fy)), g * max(zero, one - abs(fy - one))
                        x0, x1 = max(zero, one - abs(fx)), max(zero, one - abs(fx - one))
                        o = j * stride_a + iy * stride_p + ix * stride_q
                        lines[o] += y0 * x0
                        lines[o + stride_q] += y0 * x1
                        lines[o + stride_p] += y1 * x0
                        lines[o + stride_p + stride_q] += y1 * x1
