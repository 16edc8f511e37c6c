"""Vertebrae from a CT without a label map, each with a confidence.

    the straight spine --dark sheets between bright ones, 12 to 46 mm apart--> discs, as tilted planes
    middles of bodies against discs, canal and flesh --watershed on the edges--> bodies
    bodies --watershed on the depth in bone--> one label a vertebra, arch and processes with it
    --measured, compared with neighbours--> what is no likely vertebra is left out, and why is told

Names are counted up from the lowest vertebra, which only a person can name.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.segmentation import watershed

from raylift.errors import BadInput
from raylift.segment.likely import CLEAR, doubts
from raylift.segment.midline import HALF_MM, PLACE_MM, Midline, midline, sampled, straight
from raylift.segment.vertebrae import LEVELS, VERSE, Vertebrae
from raylift.types import Grid, Volume

FINE_MM = 1.5  # ours
PITCH_MM = (12.0, 46.0)  # ours: from disc to disc, C4 of a small person to L4 of a tall one
CHANGE = 1.5  # ours: the largest ratio of one pitch to the next
STEADY = 4.0  # what a change of pitch costs, times its squared logarithm  # ours
BODY_MM = (10.0, 7.0)  # ours: half axes of the section on which discs are sought; T1's body is so deep
WIDER = (0.55, 0.4)  # ours: half axes of the section on which its tilt is fitted, in parts of the pitch
REACHES_MM, REACH_SHARE = (4, 5, 6, 7, 8), 0.18  # ours: from a disc's middle to an endplate; of the pitch
NEARER_HU = 4.0  # ours: HU that a brighter plane must gain for each mm that it is further away
UPRIGHT_HU = 60.0  # ours: what a slope of 1 costs
TILTS = np.arange(-0.36, 0.361, 0.09)  # ours: of discs against the midline
TOP_HU = (-100.0, 500.0)  # ours: what lies outside tells no more of discs
ONE_SIDED = 0.6  # ours: what the inner endplate counts where the spine begins or ends
NEAR_SHARE = 0.14  # ours: of the pitch, how far endplates are from a disc's middle at most
BODILY = 1.5  # what endplates brighter than the middle between them count, beside dark discs  # ours
FAINT_HU = 15.0  # ours: no smaller contrast is a usual one
LEAST = 0.3  # ours: of the usual contrast; a sheet with less is no disc
AROUND_MM = {"left": 48.0, "front": 32.0, "back": 75.0}  # ours: how far a vertebra reaches from its midline
SURE = 0.75  # ours: what is less sure is left out
SUREST_UNNAMED = 0.5  # ours: where nobody says which vertebra is the lowest


@dataclass(frozen=True, kw_only=True, eq=False)
class Disc:
    """A plane through a disc's middle, LPS mm, its unit normal to the head, and its contrast in parts of the usual."""

    at: int
    centre: np.ndarray
    normal: np.ndarray
    contrast: float


def from_bone(ct: Volume, *, lowest: str | None = None, begins: float | None = None) -> Vertebrae:
    """The vertebrae of an upright CT; `lowest` names the lowest whole one, `begins` (HU) says where bone begins."""
    if lowest is not None and lowest not in LEVELS:
        raise BadInput(f"no vertebra '{lowest}'; the lowest one is C1 to L5")
    line = midline(ct)
    fine = _around(ct, line)
    hu = sampled(ct, fine)
    cuts = _discs(straight(hu, fine, line), line)
    while len(cuts) > 1 and cuts[-2].contrast < CLEAR:  # no vertebra begins below what is no disc
        cuts.pop()
    if len(cuts) < 2:
        raise _unclear(ct)
    labels = _grown(hu, fine, line, cuts, begins)
    count = len(cuts) - 1
    last = LEVELS.index(lowest or "L5")
    names = [LEVELS[last - k] if last >= k else None for k in reversed(range(count))]  # from the head down
    sure, why = doubts(labels, fine, cuts)
    most = 1.0 if lowest else SUREST_UNNAMED
    confidence = {n: round(most * s, 2) for n, s in zip(names, sure, strict=True) if n and s >= SURE}
    numbers = np.array([0, *(VERSE[name] if name in confidence else 0 for name in names)], np.uint8)
    whole = _back(numbers[labels], fine, ct.grid)
    if not whole.any():
        raise _unclear(ct)
    notes = [] if lowest else ["Names are counted up from L5, a guess; --lowest says which vertebra is the lowest"]
    notes += [f"{name} left out: {reason}" for name, reason in zip(names, why, strict=True) if name and reason]
    if why[-1]:
        notes.append("The lowest vertebra itself is doubtful: look whether the names are right")
    how = "found in the CT by its bone"
    return Vertebrae(labels=whole, grid=ct.grid, how=how, confidence=confidence, notes=tuple(notes))


def _unclear(ct: Volume) -> BadInput:
    return BadInput(f"{ct.source or 'the CT'}: no vertebra stands out clearly; give a label map with --labels")


def _discs(spine: Float[np.ndarray, "n b a"], line: Midline) -> list[Disc]:
    """The discs that the midline crosses, from the head down."""
    columns, across = _columns(spine, BODY_MM)
    slopes = np.array([(p, q) for p in TILTS for q in TILTS])
    means = np.stack([_sheared(columns, p * across[0] + q * across[1]) for p, q in slopes])
    gains = np.max([_gains(mean, slope) for mean, slope in zip(means, slopes, strict=True)], 0)
    found = _best_sequence(gains, means[len(slopes) // 2], means.max(0))
    pitches = np.diff(found, prepend=2 * found[0] - found[1])
    reaches = _reach(pitches)
    kinds = [1, *[0] * (len(found) - 2), 2]
    usual = max(float(np.median(gains[found, kinds, reaches])), FAINT_HU)
    cuts = []
    for at, kind, reach, pitch in zip(found, kinds, reaches, pitches, strict=True):
        at, (p, q), gain = _tilted(spine, at, kind, int(reach), np.multiply(WIDER, pitch))
        normal = line.up[at] - p * line.left[at] - q * line.back[at]
        normal /= np.linalg.norm(normal)
        cuts.append(Disc(at=at, centre=line.points[at], normal=normal, contrast=float(gain / usual)))
    return cuts


def _reach(pitch) -> np.ndarray:
    """Which of REACHES_MM is that of discs at this pitch."""
    return np.searchsorted(REACHES_MM, np.asarray(pitch) * REACH_SHARE).clip(0, len(REACHES_MM) - 1)


def _columns(spine: Float[np.ndarray, "n b a"], half_mm) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The columns (n, k) within an ellipse about the midline, and how far to the left and back each is, mm."""
    a, b = (np.arange(-half, half + 0.1, PLACE_MM) for half in HALF_MM)
    inside = (a / half_mm[0]) ** 2 + (b[:, None] / half_mm[1]) ** 2 <= 1
    side, back = np.broadcast_to(a, inside.shape), np.broadcast_to(b[:, None], inside.shape)
    return spine[:, inside].clip(*TOP_HU), (side[inside], back[inside])


def _tilted(spine, at: int, kind: int, reach: int, wider_mm):
    """Place, slopes and gain of the best plane near a disc, first on a small section, then on a larger one."""
    best = (at, (0.0, 0.0), 0.0)
    for half, span, step in ((BODY_MM, 0.36, 0.09), (wider_mm, 0.09, 0.03)):
        low = max(0, best[0] - 32)
        columns, across = _columns(spine[low : best[0] + 33], half)
        tries = np.arange(-span, span + 0.001, step)
        (p0, q0), scores = best[1], {}
        near = slice(max(0, best[0] - low - 3), best[0] - low + 4)
        for p in p0 + tries:
            for q in q0 + tries:
                gain = _gains(_sheared(columns, p * across[0] + q * across[1]), (p, q))[near, kind, reach]
                scores[(p, q)] = float(gain.max()), int(gain.argmax()) + near.start + low
        slope = max(scores, key=scores.__getitem__)
        best = (scores[slope][1], slope, scores[slope][0])
    return best


def _gains(mean: Float[np.ndarray, " n"], slope) -> Float[np.ndarray, "n 3 r"]:
    """How much darker (HU) planes of these slopes are than the brightest ones close above and below, on the lower
    side: within the spine, where it begins, where it ends; for each of REACHES_MM.
    """
    mean = ndimage.gaussian_filter1d(mean, 0.8)
    far, n = REACHES_MM[-1], len(mean)
    padded = np.pad(mean, far, mode="edge")
    gains = np.full((n, 3, len(REACHES_MM)), -100.0)
    for r, reach in enumerate(REACHES_MM):
        above, below = (
            np.max([padded[far + sign * d : far + sign * d + n] - NEARER_HU * d for d in range(2, reach + 1)], 0)
            for sign in (-1, 1)
        )
        both = 0.7 * np.minimum(above, below) + 0.3 * np.maximum(above, below)
        gains[:, 0, r] = both - mean
        gains[:, 1, r] = ONE_SIDED * below + (1 - ONE_SIDED) * both - mean
        gains[:, 2, r] = ONE_SIDED * above + (1 - ONE_SIDED) * both - mean
    gains[:4] = gains[-4:] = -100.0
    return gains - UPRIGHT_HU * (slope[0] ** 2 + slope[1] ** 2)


def _sheared(columns: Float[np.ndarray, "n k"], rise_mm: np.ndarray) -> Float[np.ndarray, " n"]:
    """The mean over planes that rise by `rise_mm` at each column; indices run down."""
    n, k = columns.shape
    padded = np.pad(columns, ((24, 24), (0, 0)), mode="edge")
    low = np.floor(-rise_mm).astype(int).clip(-24, 23)
    share = -rise_mm - low
    total = np.zeros(n)
    for j in range(k):
        first = padded[24 + low[j] : 24 + low[j] + n + 1, j] if low[j] < 23 else padded[47 : 48 + n, j]
        total += first[:n] * (1 - share[j]) + (padded[25 + low[j] : 25 + low[j] + n, j]) * share[j]
    return total / k


def _bodily(level, bright, pitches: np.ndarray) -> Float[np.ndarray, "n k"]:
    """How much brighter (HU) the endplates are than the middle between, for a body that ends here with this pitch."""
    n = len(level)
    told = np.zeros((n, len(pitches)))
    smooth = ndimage.gaussian_filter1d(level, 1.5)
    for k, pitch in enumerate(pitches):
        reach = round(NEAR_SHARE * pitch)
        ends = ndimage.maximum_filter1d(bright, 2 * reach + 1)
        half = round(0.2 * pitch)
        middle = ndimage.maximum_filter1d(smooth, 2 * half + 1)[pitch // 2 : n - pitch + pitch // 2]
        told[pitch:, k] = np.minimum(ends[pitch:], ends[: n - pitch]) - middle
    return told


def _best_sequence(gains: Float[np.ndarray, "n 3 r"], level, bright) -> list[int]:
    """The sequence of discs that gathers most, with pitches of vertebrae that change little from one to the next.

    `level` is the HU across the midline, `bright` the same on the brightest plane at each place.
    """
    low, high = (int(x) for x in PITCH_MM)
    n, pitches = len(gains), np.arange(low, high + 1)
    if n < 2 * low:
        raise BadInput("the scan is too short along the body to hold a vertebra")
    peaks = ndimage.maximum_filter1d(gains[:, 0, 0], 31)
    usual = max(float(np.percentile(peaks, 60)), 20.0)
    scaled = gains / usual - LEAST
    body = BODILY * (_bodily(level, bright, pitches) / usual).clip(-2, 1)
    gain, first, last = (scaled[:, kind, _reach(pitches)] for kind in range(3))  # (n, pitch above)
    ratio = np.log(pitches[:, None] / pitches)
    cost = np.where(np.abs(ratio) <= np.log(CHANGE), STEADY * ratio**2, np.inf)  # of this pitch, the one before
    best = np.full((n, len(pitches)), -np.inf)  # the best sequence that ends here with this pitch
    came = np.full((n, len(pitches)), -1)
    for at in range(low, n):
        count = min(at - low + 1, len(pitches))
        before, k = at - pitches[:count], np.arange(count)
        earlier = best[before] - cost[:count]
        j = earlier.argmax(1)
        goes_on = earlier[k, j] > first[before, k]
        best[at, :count] = gain[at, :count] + body[at, :count] + np.maximum(earlier[k, j], first[before, k])
        came[at, :count] = np.where(goes_on, j, -1)
    best += last - gain
    at, k = (int(x) for x in np.unravel_index(int(best.argmax()), best.shape))
    cuts = [at]
    while k >= 0:
        at, k = at - int(pitches[k]), int(came[at, k])
        cuts.append(at)
    return cuts[::-1]


def _around(ct: Volume, line: Midline) -> Grid:
    """An upright grid of FINE_MM around the midline."""
    room = np.array([AROUND_MM["left"], max(AROUND_MM["front"], AROUND_MM["back"]), 25.0])
    ends = ct.grid.corners_mm
    low, high = np.maximum(line.points.min(0) - room, ends.min(0)), np.minimum(line.points.max(0) + room, ends.max(0))
    shape = np.maximum(np.ceil((high - low) / FINE_MM), 2).astype(int)[::-1]
    return Grid.canonical(tuple(shape), FINE_MM, tuple((low + high) / 2))


def _grown(hu, grid: Grid, line: Midline, cuts: list[Disc], begins: float | None) -> Int[np.ndarray, "d h w"]:
    """Labels 1, 2, ... from the head down: bodies, then the bone that each is nearest to."""
    place = Beside.of(grid, line)
    side, behind = place.side, place.behind
    canal = np.einsum("ij,ij->i", line.canal - line.points, line.back).astype(np.float32)[place.nearest]
    slab, away = _between(place, cuts)
    section = (side / BODY_MM[0]) ** 2 + (behind / BODY_MM[1]) ** 2
    bodies = _bodies(hu, section, side, behind, canal, slab, away)
    rim = (bodies > 0) & ~ndimage.binary_erosion(bodies > 0)
    bodies[rim & (hu < _begins(hu, bodies > 0))] = 0
    bone_hu = begins if begins is not None else _begins(hu, bodies > 0)
    bone = (hu > bone_hu) & (np.abs(side) < AROUND_MM["left"]) & (behind < AROUND_MM["back"])
    bone &= (behind > canal - 9.0) & ((behind > canal) | (np.abs(side) < 30))  # ours: no ribs before the canal
    bone |= bodies > 0
    depth = ndimage.distance_transform_edt(bone, sampling=grid.spacing_mm)
    return watershed(-depth, bodies, mask=bone)


def _begins(hu, bodies: Bool[np.ndarray, "d h w"]) -> float:
    """Half-way between flesh and the cortex of the bodies, HU."""
    rim = bodies & ~ndimage.binary_erosion(bodies, iterations=2)
    return float(np.clip((50.0 + np.percentile(hu[rim], 70)) / 2, 150.0, 300.0))


def _bodies(hu, section, side, behind, canal, slab, away) -> Int[np.ndarray, "d h w"]:
    """Bodies by watershed on the edges: their middles against discs, canal and what is soft around them."""
    soft = ndimage.gaussian_filter(hu.clip(-200, 700), 0.6)
    room = (np.abs(side) < 32) & (behind > -AROUND_MM["front"]) & (behind < canal - 4) & (slab > 0)
    markers = np.zeros(hu.shape, np.int32)
    middle = (section < 0.6) & (away > 5.0) & (slab > 0)
    markers[middle] = slab[middle]
    other = ~room | (soft < 60) | ((away < 0.8) & (section < 1)) | ((away < 0.8) & (soft < 150))
    markers[other & ~middle & room] = -1
    edges = ndimage.gaussian_gradient_magnitude(hu.clip(-200, 700), 0.7)
    grown = watershed(edges, markers, mask=room)
    grown[grown < 0] = 0
    return grown


def _between(place: "Beside", cuts: list[Disc]) -> tuple[np.ndarray, np.ndarray]:
    """Between which discs each voxel is, from 1 (0: beyond the first and last), and how far from the nearest, mm."""
    slab = np.zeros(place.nearest.shape, np.int32)
    away = np.full(place.nearest.shape, 99.0, np.float32)
    for disc in cuts:
        close = np.abs(place.nearest - disc.at) < 30
        height = (place.where[close] - disc.centre.astype(np.float32)) @ disc.normal.astype(np.float32)
        away[close] = np.minimum(away[close], np.abs(height))
        below = place.nearest > disc.at
        below[close] = height < 0
        slab += below
    slab[slab == len(cuts)] = 0
    return slab, away


@dataclass(frozen=True, kw_only=True, eq=False)
class Beside:
    """For each voxel its place in LPS mm, the nearest point of the midline, how far to the left of and behind it."""

    where: Float[np.ndarray, "d h w 3"]
    nearest: Int[np.ndarray, "d h w"]
    side: Float[np.ndarray, "d h w"]
    behind: Float[np.ndarray, "d h w"]

    @classmethod
    def of(cls, grid: Grid, line: Midline) -> "Beside":
        """Looked up at every fourth voxel and interpolated between."""
        every = 4
        coarse = np.stack(np.meshgrid(*(np.arange(0, n + every, every) for n in grid.shape), indexing="ij"), -1)
        nearest = cKDTree(line.points).query(grid.world(coarse.astype(float)))[1].astype(np.float32)
        at = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in grid.shape), indexing="ij"))
        nearest = ndimage.map_coordinates(nearest, at / every, order=1).round().astype(np.int32)
        steps = grid.affine[:3, :3].astype(np.float32)
        where = np.moveaxis(at, 0, -1) @ steps.T + grid.affine[:3, 3].astype(np.float32)
        offset = where - line.points.astype(np.float32)[nearest]
        side, behind = (
            sum(offset[..., k] * axis[:, k].astype(np.float32)[nearest] for k in range(3))
            for axis in (line.left, line.back)
        )
        return cls(where=where, nearest=nearest, side=side, behind=behind)


def _back(labels: np.ndarray, grid: Grid, to: Grid) -> np.ndarray:
    """Labels on the CT's own grid, nearest neighbour."""
    step = np.linalg.inv(grid.affine) @ to.affine
    return ndimage.affine_transform(labels, step[:3, :3], step[:3, 3], to.shape, order=0, mode="constant", cval=0)
