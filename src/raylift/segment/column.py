"""Vertebrae from a CT without a label map: for phantoms and clear cases, each with a confidence.

    smoothed bone --best path from head to feet--> the bodies' midline
    bone's share across the midline --discs are where it is low, some 14 to 45 mm apart--> cuts
    bodies between cuts as seeds --watershed on the depth in bone--> one label a vertebra, arch and processes with it

It asks for discs darker than bodies: contrast in the aorta, bridged discs and metal mislead it. Names are counted up
from the lowest vertebra, which only a person can name.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from raylift.errors import BadInput
from raylift.segment.vertebrae import LEVELS, VERSE, Vertebrae
from raylift.types import Grid, Volume

COARSE_MM, FINE_MM = 4.0, 1.5  # ours: voxels for the midline, and for the rest
SOFT_MM = 8.0  # ours: SD of the blur under which a body is the thickest bone
BONY_HU = (150.0, 300.0)  # ours: flesh with contrast counts nothing, cortex no more than dense marrow
FORWARD_MM = 45.0  # ours: from the arch, which may draw the path to itself, to the body's middle
TOP_HU = 260.0  # ours: what is denser tells no more of discs and bodies
SLOPE = 1  # coarse voxels that the midline may move sideways from one slice to the next: 45 degrees  # ours
TUBE_MM = 8.0  # radius about the midline in which bodies and discs are told apart  # ours
PITCH_MM = (14.0, 46.0)  # ours: from disc to disc, T1 of a small person to L4 of a tall one
CHANGE = (0.72, 1.45)  # ours: of one pitch to the next one down
AROUND_MM = {"left": 48.0, "front": 30.0, "back": 75.0}  # ours: how far a vertebra reaches from its midline
SURE = 0.75  # ours: what is less sure is left out; on phantoms bodies are at 0.9 and more
SUREST_UNNAMED = 0.5  # ours: where nobody says which vertebra is the lowest


@dataclass(frozen=True, kw_only=True, eq=False)
class Midline:
    """Points (n, 3) LPS mm a millimetre apart from the head down, where the spine runs there (unit, to the head), and
    bone's share of the section across it, [0, 1].
    """

    points: np.ndarray
    up: np.ndarray
    share: np.ndarray
    bone_hu: float


def from_bone(ct: Volume, *, lowest: str | None = None, begins: float | None = None) -> Vertebrae:
    """The vertebrae of an upright CT; `lowest` names the lowest whole one, `begins` (HU) says where bone begins."""
    if lowest is not None and lowest not in LEVELS:
        raise BadInput(f"no vertebra '{lowest}'; the lowest one is C1 to L5")
    line = midline(ct, begins)
    cuts, contrast = discs(line)
    fine, hu = _around(ct, line)
    seeds, sure = _seeds(line, cuts, contrast, fine)
    labels = _grown(hu, fine, line, seeds)
    count = len(cuts) - 1
    last = LEVELS.index(lowest or "L5")
    names = [LEVELS[last - k] if last >= k else None for k in reversed(range(count))]  # from the head down
    doubtful = [name for name, s in zip(names, sure, strict=True) if name and s < SURE]
    names = [name if name not in doubtful else None for name in names]
    numbers = np.array([0, *(VERSE[name] if name else 0 for name in names)], np.uint8)
    whole = _back(numbers[labels], fine, ct.grid)
    if not whole.any():
        raise BadInput(f"{ct.source or 'the CT'}: no vertebra stands out clearly; give a label map with --labels")
    most = 1.0 if lowest else SUREST_UNNAMED
    confidence = {name: round(most * s, 2) for name, s in zip(names, sure, strict=True) if name}
    notes = [] if lowest else ["Names are counted up from L5, a guess; --lowest says which vertebra is the lowest"]
    if doubtful:
        notes.append(f"{', '.join(doubtful)} left out: discs and bodies could not be told apart well enough")
    how = "found in the CT by its bone"
    return Vertebrae(labels=whole, grid=ct.grid, how=how, confidence=confidence, notes=tuple(notes))


def _sampled(ct: Volume, grid: Grid) -> np.ndarray:
    """HU on an upright grid, smoothed first where that is coarser."""
    ratio = np.array(grid.spacing_mm) / ct.grid.spacing_mm
    hu = ndimage.gaussian_filter(ct.hu.astype(np.float32), 0.42 * np.sqrt(np.maximum(ratio**2 - 1, 0)))
    step = np.linalg.inv(ct.grid.affine) @ grid.affine
    return ndimage.affine_transform(
        hu, step[:3, :3], step[:3, 3], grid.shape, order=1, mode="constant", cval=-1000.0
    )  # fmt: skip


def midline(ct: Volume, begins: float | None = None) -> Midline:
    """The path through the bodies, from the top of the scan to its end."""
    size = np.array(ct.grid.shape) * ct.grid.spacing_mm
    grid = Grid.canonical(tuple(np.maximum(size / COARSE_MM, 4).astype(int)), COARSE_MM, tuple(ct.grid.centre_mm))
    hu = _sampled(ct, grid)
    body = ndimage.gaussian_filter((hu > -400).astype(np.float32), 1)
    bony = np.clip((hu - BONY_HU[0]) / (BONY_HU[1] - BONY_HU[0]), 0, 1)
    score = ndimage.gaussian_filter(bony, SOFT_MM / COARSE_MM) * _central(body)
    path = _best_path(score)
    points = grid.world(np.column_stack([np.arange(len(path)), path]).astype(float))
    points = ndimage.gaussian_filter1d(points, 12.0 / COARSE_MM, axis=0, mode="nearest")
    points, up = _spaced(points)
    points, up = _spaced(_forward(ct, points, up))
    values = _sections(ct, points, up)
    bone = threshold_otsu(np.clip(values, 0, TOP_HU)[values > -200]) if begins is None else begins
    return Midline(points=points, up=up, share=(values > bone).mean(1), bone_hu=float(bone))


def _spaced(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The path's points a millimetre apart, and where it runs (unit, to the head) at each."""
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    at = np.arange(0.0, length[-1])
    points = np.stack([np.interp(at, length, points[:, k]) for k in range(3)], -1)
    up = -np.gradient(points, axis=0)
    return points, up / np.linalg.norm(up, axis=1, keepdims=True)


def _forward(ct: Volume, points: np.ndarray, up: np.ndarray) -> np.ndarray:
    """The path moved to the front, to where bone and discs fill the section across it most."""
    _, back = _across(up)
    offsets = np.arange(0.0, FORWARD_MM + 1, 3.0)
    filled = np.stack(
        [np.clip(_sections(ct, points - by * back, up), 0, BONY_HU[1]).mean(1) for by in offsets], -1
    )  # fmt: skip
    filled = ndimage.gaussian_filter(filled, (20, 1.0), mode="nearest")[::12]
    total, came = filled[0], []
    for row in filled[1:]:
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(total, 1, constant_values=-np.inf), 3)
        came.append(windows.argmax(1))
        total = row + windows.max(1)
    k = int(total.argmax())
    chosen = [k]
    for best in reversed(came):
        k += int(best[k]) - 1
        chosen.append(k)
    moved = np.interp(np.arange(len(points)), 12 * np.arange(len(chosen)), offsets[chosen[::-1]])
    return points - ndimage.gaussian_filter1d(moved, 15, mode="nearest")[:, None] * back


def _central(body: np.ndarray) -> np.ndarray:
    """1 in the middle of the body's breadth and behind its middle, less towards its sides and front."""
    weights = np.zeros(body.shape, np.float32)
    h, w = np.arange(body.shape[1])[:, None], np.arange(body.shape[2])
    for plane, out in zip(body, weights, strict=True):
        mass = plane.sum()
        if mass < 20:
            continue
        columns, rows = plane.sum(0), plane.sum(1)
        middle, spread = _moments(columns)
        centre, depth = _moments(rows)
        side = np.exp(-0.5 * ((w - middle) / (0.5 * spread + 1)) ** 2)
        behind = 1 / (1 + np.exp(-(h - centre) / (0.2 * depth + 0.5)))
        out[:] = side * behind
    return weights


def _moments(mass: np.ndarray) -> tuple[float, float]:
    at = np.arange(len(mass))
    mean = float((mass * at).sum() / mass.sum())
    return mean, float(np.sqrt((mass * (at - mean) ** 2).sum() / mass.sum()))


def _best_path(score: np.ndarray) -> np.ndarray:
    """For each slice the (h, w) of the path that gathers most, moving SLOPE voxels a slice at most."""
    total, came = score[0].copy(), []
    side = 2 * SLOPE + 1
    for plane in score[1:]:
        padded = np.pad(total, SLOPE, constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side)).reshape(*total.shape, -1)
        best = windows.argmax(-1)
        came.append(best)
        total = plane + np.take_along_axis(windows, best[..., None], -1)[..., 0]
    h, w = np.unravel_index(int(total.argmax()), total.shape)
    path = [(h, w)]
    for best in reversed(came):
        step = divmod(int(best[h, w]), side)
        h, w = h + step[0] - SLOPE, w + step[1] - SLOPE
        path.append((h, w))
    return np.array(path[::-1])


def _across(up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors to the left and to the back across the midline."""
    left = np.array([1.0, 0, 0]) - up[:, :1] * up
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    return left, np.cross(up, left)


def _sections(ct: Volume, points: np.ndarray, up: np.ndarray) -> np.ndarray:
    """HU at places in a disc of TUBE_MM across each point of the midline, (n, places)."""
    left, back = _across(up)
    radius, angle = np.meshgrid(np.linspace(0.1, 1, 5) ** 0.5 * TUBE_MM, np.linspace(0, 2 * np.pi, 12, endpoint=False))
    a, b = (radius * np.cos(angle)).ravel(), (radius * np.sin(angle)).ravel()
    where = points[:, None] + a[:, None] * left[:, None] + b[:, None] * back[:, None]
    index = ct.grid.index(where).reshape(-1, 3).T
    return ndimage.map_coordinates(ct.hu, index, order=1, mode="nearest", output=np.float32).reshape(len(points), -1)


def discs(line: Midline) -> tuple[list[int], np.ndarray]:
    """Where the midline crosses discs (indices, from the head down), and how much darker than its bodies each is.

    The best of all sequences whose pitches are those of vertebrae and change little from one to the next.
    """
    share = ndimage.gaussian_filter1d(line.share, 1.0)
    local = ndimage.percentile_filter(share, 75, size=61)
    gain = local - share - 0.12  # ours: each cut must be worth something
    low, high = (int(x) for x in PITCH_MM)
    n, pitches = len(gain), np.arange(low, high + 1)
    if n < 2 * low:
        raise BadInput("the scan is too short along the body to hold a vertebra")
    best = np.full((n, len(pitches)), -np.inf)  # the best sequence that ends here with this pitch
    came = np.full((n, len(pitches)), -1)
    for k, pitch in enumerate(pitches):
        fits = (pitch / pitches >= CHANGE[0]) & (pitch / pitches <= CHANGE[1])
        fits_at = np.flatnonzero(fits)
        for at in range(pitch, n):
            before = at - pitch
            earlier = best[before, fits_at]
            j = int(earlier.argmax()) if len(fits_at) else -1
            if earlier[j] > gain[before] * 1.0:
                best[at, k], came[at, k] = gain[at] + earlier[j], fits_at[j]
            else:
                best[at, k] = gain[at] + gain[before]
    at, k = np.unravel_index(int(best.argmax()), best.shape)
    cuts = [int(at)]
    while k >= 0:
        at -= pitches[k]
        cuts.append(int(at))
        k = came[at + pitches[k], k]
    cuts = cuts[::-1]
    return cuts, (local - share)[cuts]


def _around(ct: Volume, line: Midline) -> tuple[Grid, np.ndarray]:
    """An upright grid of FINE_MM around the midline, and the CT on it."""
    room = np.array([AROUND_MM["left"], max(AROUND_MM["front"], AROUND_MM["back"]), 25.0])
    low, high = line.points.min(0) - room, line.points.max(0) + room
    ends = ct.grid.corners_mm
    low, high = np.maximum(low, ends.min(0)), np.minimum(high, ends.max(0))
    shape = np.maximum(np.ceil((high - low) / FINE_MM), 2).astype(int)[::-1]
    grid = Grid.canonical(tuple(shape), FINE_MM, tuple((low + high) / 2))
    return grid, _sampled(ct, grid)


def _seeds(line: Midline, cuts: list[int], contrast: np.ndarray, grid: Grid):
    """Seeds 1, 2, ... of the bodies between cuts, from the head down, as (points, number), and how sure each is."""
    seeds, sure = [], []
    for k, (top, bottom) in enumerate(pairwise(cuts), 1):
        margin = max(2, round(0.25 * (bottom - top)))
        inside = np.arange(top + margin, bottom - margin + 1)
        seeds.append((line.points[inside], k))
        depth = min(float(contrast[k - 1]), float(contrast[k]))
        filled = float(np.clip(line.share[inside].mean(), 0, 1))
        sure.append(float(np.clip(depth / 0.5, 0, 1)) * filled)
    return seeds, sure


def _grown(hu: np.ndarray, grid: Grid, line: Midline, seeds) -> np.ndarray:
    """Labels 1, 2, ...: bone (marrow filled in) divided among the seeds' bodies."""
    bone = hu > line.bone_hu
    bone = np.stack([_holes_filled(plane) for plane in bone])
    own, markers = np.zeros(grid.shape, np.int32), np.zeros(grid.shape, np.int32)
    where = grid.world(np.argwhere(bone))
    nearest, height, side, behind = _beside(where, line)
    number = np.zeros(len(line.points), np.int32)
    for points, k in seeds:
        first = np.flatnonzero((line.points == points[0]).all(1))[0]
        number[first : first + len(points)] = k
    keep = (np.abs(side) < AROUND_MM["left"]) & (behind > -AROUND_MM["front"]) & (behind < AROUND_MM["back"])
    core = keep & (np.abs(side) < TUBE_MM) & (np.abs(behind) < TUBE_MM) & (np.abs(height) < 2.0)
    index = tuple(np.argwhere(bone).T)
    own[index] = keep
    markers[index] = np.where(core, number[nearest], 0)
    depth = ndimage.distance_transform_edt(bone, sampling=grid.spacing_mm)
    return watershed(-depth, markers, mask=own > 0)


def _beside(where: np.ndarray, line: Midline):
    """For each point the nearest place on the midline, and how far above, to the left of and behind it (mm)."""
    from scipy.spatial import cKDTree

    _, nearest = cKDTree(line.points).query(where)
    left, back = _across(line.up)
    away = where - line.points[nearest]
    return nearest, *(np.einsum("ij,ij->i", away, axis[nearest]) for axis in (line.up, left, back))


def _holes_filled(plane: np.ndarray) -> np.ndarray:
    """A slice with its holes filled that are no larger than a body's marrow; the canal stays open."""
    holes, count = ndimage.label(~plane)
    if count < 2:
        return plane
    sizes = np.bincount(holes.ravel()) * FINE_MM**2
    small = sizes < 60.0  # ours, mm²: the canal is 150 and more
    return plane | small[holes]


def _back(labels: np.ndarray, grid: Grid, to: Grid) -> np.ndarray:
    """Labels on the CT's own grid, nearest neighbour."""
    step = np.linalg.inv(grid.affine) @ to.affine
    return ndimage.affine_transform(labels, step[:3, :3], step[:3, 3], to.shape, order=0, mode="constant", cval=0)
