"""How shapes get into the voxels: each covers a voxel by a fraction, and is mixed over what was there before.

Points are LPS mm. A shape is a row of numbers (`shapes.py` writes them), shapes of one tissue form a group, and
groups are painted in order, so that a later one lies over an earlier one. Edges are one voxel wide, and a tube keeps
its cross-section however thin it is, so that coarse and fine grids agree.
"""

from typing import no_type_check  # the tests' checker must not wrap what numba compiles

import numba
import numpy as np

CAPSULE, ELLIPSOID, CYLINDER = 0, 1, 2
OVER, IN_LUNG, IN_BODY = 0, 1, 2  # what a group may cover: everything, lung only (which stays lung), not the air
NEAR, FAR = 0.6, 1.25  # of a trunk's outline: within and beyond, its edge is too far for a voxel to feel it  # ours
COLUMNS = 24  # kind; z range; centre or start (3); rotation (9) or end (3); half axes or radii (3); cut plane (4)


@numba.njit(cache=True, inline="always", error_model="numpy")
@no_type_check
def cover(distance, edge):
    """The fraction of a voxel that lies inside, from the signed distance (mm, negative inside) of its centre."""
    return min(1.0, max(0.0, 0.5 - distance / edge))


@numba.njit(cache=True, inline="always", error_model="numpy")
@no_type_check
def capsule(s, x, y, z, edge):
    """How far a voxel lies within a tapered tube; s[17] stretches the tube along z."""
    ax, ay, az = s[6] - s[3], s[7] - s[4], s[8] - s[5]
    px, py, pz = x - s[3], y - s[4], z - s[5]
    length2 = ax * ax + ay * ay + az * az + 1e-9
    t = min(1.0, max(0.0, (px * ax + py * ay + pz * az) / length2))
    qx, qy, qz = px - t * ax, py - t * ay, (pz - t * az) / s[17]
    r = s[15] + t * (s[16] - s[15])
    half = 0.5 * edge
    share = r * r / (r * r + edge * edge / 12) if r >= half else 3 * edge * r * r / (r + half) ** 3
    return share * cover(np.sqrt(qx * qx + qy * qy + qz * qz) - r, edge)


@numba.njit(cache=True, inline="always", error_model="numpy")
@no_type_check
def solid(s, x, y, z, edge):
    """How far a voxel lies within an ellipsoid or an elliptic cylinder, cut by a plane."""
    px, py, pz = x - s[3], y - s[4], z - s[5]
    a = s[6] * px + s[7] * py + s[8] * pz
    b = s[9] * px + s[10] * py + s[11] * pz
    c = s[12] * px + s[13] * py + s[14] * pz
    ua, ub, uc = a / s[15], b / s[16], c / s[17]
    if s[0] == CYLINDER:
        f = np.sqrt(ua * ua + ub * ub)
        g = np.sqrt((ua / s[15]) ** 2 + (ub / s[16]) ** 2)
        inside = max(f * (f - 1) / (g + 1e-6), abs(c) - s[17])
    else:
        f = np.sqrt(ua * ua + ub * ub + uc * uc)
        g = np.sqrt((ua / s[15]) ** 2 + (ub / s[16]) ** 2 + (uc / s[17]) ** 2)
        inside = f * (f - 1) / (g + 1e-6)
        if f < 0.5:
            inside = -min(s[15], s[16], s[17]) * 0.5
    inside = max(inside, s[18] * x + s[19] * y + s[20] * z - s[21])
    return cover(inside, edge)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def reach(s, z, origin, step, count, axis, edge):
    """First and last index + 1 along `axis` (0: y, 1: x) of the voxels at height `z` that the shape can touch."""
    k = 1 - axis  # where x is 0 and y is 1 in s
    if s[0] == CAPSULE:
        r = max(s[15], s[16]) + edge
        near, far, rise = 0.0, 1.0, s[8] - s[5]
        if abs(rise) > 1e-6:  # of a sloping tube only the part that is not far above or below
            tall = r * max(s[17], 1.0)
            low, high = (z - tall - s[5]) / rise, (z + tall - s[5]) / rise
            near, far = max(0.0, min(low, high)), min(1.0, max(low, high))
        along = s[6 + k] - s[3 + k]
        low, high = s[3 + k] + near * along, s[3 + k] + far * along
        low, high = min(low, high) - r, max(low, high) + r
    else:
        if s[0] == CYLINDER:
            r = abs(s[6 + k]) * s[15] + abs(s[9 + k]) * s[16] + abs(s[12 + k]) * s[17] + edge
        else:
            r = np.sqrt((s[6 + k] * s[15]) ** 2 + (s[9 + k] * s[16]) ** 2 + (s[12 + k] * s[17]) ** 2) + edge
        low, high = s[3 + k] - r, s[3 + k] + r
    first = int(np.floor((low - origin) / step))
    last = int(np.ceil((high - origin) / step)) + 1
    return max(0, first), min(count, last)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def paint_slice(hu, lung, labels, buffer, z, origin, step, shapes, starts, tissue, edge):
    """Paint all groups of shapes into one slice; `buffer` is a zeroed slice and is zero again afterwards."""
    rows, columns = hu.shape
    for g in range(starts.size - 1):
        top, bottom, left, right = rows, 0, columns, 0
        for k in range(starts[g], starts[g + 1]):
            s = shapes[k]
            if z + edge < s[1] or z - edge > s[2]:
                continue
            h0, h1 = reach(s, z, origin[1], step[1], rows, 0, edge)
            w0, w1 = reach(s, z, origin[0], step[0], columns, 1, edge)
            if h0 >= h1 or w0 >= w1:
                continue
            top, bottom, left, right = min(top, h0), max(bottom, h1), min(left, w0), max(right, w1)
            for h in range(h0, h1):
                y = origin[1] + h * step[1]
                for w in range(w0, w1):
                    x = origin[0] + w * step[0]
                    a = capsule(s, x, y, z, edge) if s[0] == CAPSULE else solid(s, x, y, z, edge)
                    if a > buffer[h, w]:
                        buffer[h, w] = a
        value, label, mode = tissue[g, 0], int(tissue[g, 1]), int(tissue[g, 2])
        for h in range(top, bottom):
            for w in range(left, right):
                a = buffer[h, w]
                if a <= 0:
                    continue
                buffer[h, w] = 0
                if mode == IN_LUNG:
                    a *= lung[h, w]
                else:
                    if mode == IN_BODY and labels[h, w] == 0:
                        continue
                    lung[h, w] *= 1 - a
                    if a >= 0.5:
                        labels[h, w] = label
                hu[h, w] += a * (value - hu[h, w])


@numba.njit(cache=True, parallel=True, error_model="numpy")
@no_type_check
def paint(hu, lung, labels, zs, origin, step, shapes, starts, tissue, edge):
    """Paint all groups of shapes into a volume, slice by slice; the order of the threads changes nothing."""
    for d in numba.prange(hu.shape[0]):
        buffer = np.zeros(hu.shape[1:], np.float32)
        paint_slice(hu[d], lung[d], labels[d], buffer, zs[d], origin, step, shapes, starts, tissue, edge)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def powers(origin, step, count, centre, half, power):
    """For each voxel along an axis |its place in parts of `half`| to the power: a superellipse's two sums."""
    out = np.empty(count)
    for k in range(count):
        out[k] = (abs(origin + k * step - centre) / half) ** power
    return out


@numba.njit(cache=True, inline="always", error_model="numpy")
@no_type_check
def outline(x, y, across, along, wide, deep, power):
    """Signed distance (mm, about) of (x, y), from the middle, to a superellipse; `across` and `along` are `powers`."""
    total = across + along
    f = total ** (1 / power)
    if f < 0.1:
        return -min(wide, deep) * 0.9
    if f <= 0.6:
        return (f - 1) * np.sqrt(x * x + y * y) / f
    scale = f * f / total
    p = across / max(abs(x), 1e-9) * scale
    q = along / max(abs(y), 1e-9) * scale
    return (f - 1) * f / np.sqrt(p * p + q * q)


@numba.njit(cache=True, parallel=True, error_model="numpy")
@no_type_check
def paint_trunk(hu, labels, origin, step, rings, fat, muscle, edge):
    """Fat and muscle of the trunk; a row of `rings` is a slice's half width, half depth, centre, power and fat (mm)."""
    for d in numba.prange(hu.shape[0]):
        _, _, centre, power, layer = rings[d]
        for ring in range(2):  # fat to the skin, then muscle within it
            more = layer if ring == 0 else 0.0
            wide, deep = rings[d, 0] + more, rings[d, 1] + more
            value, label = (fat, 1) if ring == 0 else (muscle, 2)
            rows = powers(origin[1], step[1], hu.shape[1], centre, deep, power)
            columns = powers(origin[0], step[0], hu.shape[2], 0.0, wide, power)
            within, beyond = NEAR**power, FAR**power
            for h in range(hu.shape[1]):
                y = origin[1] + h * step[1] - centre
                if rows[h] > beyond:
                    continue
                for w in range(hu.shape[2]):
                    total = rows[h] + columns[w]
                    if total > beyond:
                        continue
                    a = 1.0
                    if total > within:
                        x = origin[0] + w * step[0]
                        a = cover(outline(x, y, columns[w], rows[h], wide, deep, power), edge)
                    if a > 0:
                        hu[d, h, w] += a * (value - hu[d, h, w])
                        if a >= 0.5:
                            labels[d, h, w] = label


@numba.njit(cache=True, inline="always", error_model="numpy")
@no_type_check
def dome(x, y, side):
    """Height (z, mm) of a half of the diaphragm: a dome of `side` = top, centre x, y, half axes x, y, depth, power."""
    p, q = (x - side[1]) / side[3], (y - side[2]) / side[4]
    return side[0] - side[5] * (p * p + q * q) ** side[6]


@numba.njit(cache=True, parallel=True, error_model="numpy")
@no_type_check
def paint_cavity(hu, lung, labels, depth, zs, origin, step, rings, domes, organ, edge):
    """Lungs above the diaphragm, liver and fat below it, inside the ribs; `depth` is the distance to the ribs (mm).

    `organ` holds the HU of fat, liver and the lungs' mid level, their gradient to the back (HU/mm), the liver's lower
    edge (z), the slope of its lower face, its left end (x), and the septum's middle (x) and half width.
    """
    for d in numba.prange(hu.shape[0]):
        wide, deep, centre, power, _ = rings[d]
        if wide <= 2 or deep <= 2:
            continue
        z = zs[d]
        rows = powers(origin[1], step[1], hu.shape[1], centre, deep, power)
        columns = powers(origin[0], step[0], hu.shape[2], 0.0, wide, power)
        for h in range(hu.shape[1]):
            y = origin[1] + h * step[1]
            if abs(y - centre) > deep + edge:
                continue
            for w in range(hu.shape[2]):
                x = origin[0] + w * step[0]
                if abs(x) > wide + edge:
                    continue
                wall = outline(x, y - centre, columns[w], rows[h], wide, deep, power)
                depth[d, h, w] = wall
                a = cover(wall, edge)
                if a <= 0:
                    continue
                left = x > organ[7]
                above = 0.75 * (dome(x, y, domes[1 if left else 0]) - z)
                hu[d, h, w] += a * (organ[0] - hu[d, h, w])
                if a >= 0.5:
                    labels[d, h, w] = 1
                low = organ[4] + organ[5] * (x + wide)
                end = 0.7 * (x - organ[6] - 0.35 * (z - organ[4]) + 0.2 * (y - centre))
                a = cover(max(wall + 3, 4 - above, low - z, end), edge)
                if a > 0:
                    hu[d, h, w] += a * (organ[1] - hu[d, h, w])
                    if a >= 0.5:
                        labels[d, h, w] = 10
                a = cover(max(wall, above, organ[8] - abs(x - organ[7])), edge)
                if a > 0:
                    lung[d, h, w] = a
                    hu[d, h, w] += a * (organ[2] + organ[3] * (y - centre) - hu[d, h, w])
                    if a >= 0.5:
                        labels[d, h, w] = 4 if left else 3


@numba.njit(cache=True, inline="always", error_model="numpy")
@no_type_check
def lattice(i, j, k, seed):
    """A random number in [-1, 1] for a point of a lattice."""
    n = np.uint32(i) * np.uint32(73856093) ^ np.uint32(j) * np.uint32(19349663) ^ np.uint32(k) * np.uint32(83492791)
    n = (n ^ np.uint32(seed)) * np.uint32(2654435761)
    n = (n ^ (n >> np.uint32(15))) * np.uint32(2246822519)
    n = n ^ (n >> np.uint32(13))
    return (n & np.uint32(0xFFFFFF)) / 8388607.5 - 1.0


@numba.njit(cache=True, inline="always", error_model="numpy")
@no_type_check
def smooth_noise(x, y, z, seed):
    """Smooth noise in [-1, 1] with one free value at each integer point."""
    i, j, k = np.floor(x), np.floor(y), np.floor(z)
    u, v, t = x - i, y - j, z - k
    u, v, t = u * u * (3 - 2 * u), v * v * (3 - 2 * v), t * t * (3 - 2 * t)
    a, b, c = np.int64(i), np.int64(j), np.int64(k)
    total = 0.0
    for n in range(8):
        p, q, r = n & 1, (n >> 1) & 1, (n >> 2) & 1
        weight = (u if p else 1 - u) * (v if q else 1 - v) * (t if r else 1 - t)
        total += weight * lattice(a + p, b + q, c + r, seed)
    return total


@numba.njit(cache=True, parallel=True, error_model="numpy")
@no_type_check
def add_texture(hu, lung, labels, zs, origin, step, amounts, seed):
    """Grain of two sizes (30 and 9 mm): `amounts` is the HU in soft tissue, lung and bone; the air stays as it is."""
    for d in numba.prange(hu.shape[0]):
        for h in range(hu.shape[1]):
            for w in range(hu.shape[2]):
                label = labels[d, h, w]
                if label == 0 or hu[d, h, w] < -990:
                    continue
                x, y, z = origin[0] + w * step[0], origin[1] + h * step[1], zs[d]
                grain = smooth_noise(x / 30, y / 30, z / 30, seed) + smooth_noise(x / 9, y / 9, z / 9, seed + 1)
                bone = hu[d, h, w] > 110
                share = amounts[2] if bone else amounts[0]
                share += lung[d, h, w] * (amounts[1] - share)
                hu[d, h, w] += share * grain
