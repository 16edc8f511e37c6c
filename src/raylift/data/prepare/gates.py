"""Faults of a CT that its voxels show: slices that repeat or are missing, a body that is cut off or upside down, metal.

`check.py` asks what the numbers and the grid say; here each function looks at the picture, and gives a reason or None.
"""

import itertools
from collections.abc import Sequence
from math import ceil

import numpy as np
from scipy import ndimage

from raylift.data.prepare.morphology import dilated, narrowed
from raylift.segment.morphology import box_of
from raylift.types import Volume

BLOCK_MM = 8.0  # planes are compared as means over squares of this side, which leaves no noise  # ours
BODY_HU = -700.0  # what a square of the patient has on average at least  # ours
JUMP = 1.6  # one slice missing among slices of 1.5 to 5 mm gives 1.74 to 2.15; twelve sound CTs up to 1.41  # ours
UPPER = 75  # percentile over squares: a pad or the table's end is not the patient's step  # ours
MEDIAN, HALF_JUMP = 50, 1.35  # half of the squares jump too: by 1.35 to 2.37 at a gap in twelve CTs  # ours
ENDS_MM = 20.0  # at either end, where the body widens fast, steps are not asked  # ours
AROUND = 9  # planes that say what is usual  # ours
STEP_HU = 2.0  # planes that differ by less are alike, whatever their neighbours do  # ours
EDGE_MM = 7.5  # how near to the edge of the field the body's outline is cut by it  # ours
CORNER_MM = 4.5  # outside the circle of a round field, beyond what resampling smears  # ours
NOTED_CUT = 0.03  # of the body's outline  # ours
MOST_CUT = 0.35  # shoulders that do not fit a chest's field come to 0.25  # ours
METAL_HU = 2500.0  # no bone is so dense; iodine in a large vein can be  # ours
NOTED_METAL_ML = 1.0  # ours
MOST_METAL_ML = 20.0  # dense contrast and valves come to 9 mL, an artificial hip or spinal rods to more  # ours
RIB_HU = (100.0, 700.0)  # ours
LEAST_SLOPE = -0.1  # 0.17 to 0.33 in an upright chest, the same below 0 upside down  # ours


def repeated_slices(volume: Volume) -> str | None:
    """Neighbours along the body that are equal to the last bit, noise and all; `volume` is canonical."""
    hu = volume.hu
    repeats = [d for d in range(len(hu) - 1) if np.array_equal(hu[d], hu[d + 1]) and _has_noise(hu[d])]
    if not repeats:
        return None
    return f"{len(repeats)} slices repeat their neighbours, the first is number {repeats[0] + 2} from the head"


def _has_noise(plane: np.ndarray) -> bool:
    """True where neighbours inside the body mostly differ; not so in a drawing, which may repeat itself."""
    body = plane[:, 1:] > BODY_HU
    return bool(body.any() and (plane[:, 1:] != plane[:, :-1])[body].mean() > 0.5)


def missing_slices(volume: Volume) -> str | None:
    """A step from one plane to the next that is larger than those around it; `volume` is canonical."""
    most, half = _steps(volume, (UPPER, MEDIAN))
    if len(most) < AROUND:
        return None
    jump, everywhere = (
        steps / np.maximum(ndimage.median_filter(steps, AROUND, mode="nearest"), STEP_HU) for steps in (most, half)
    )
    jump[everywhere < HALF_JUMP] = 0.0  # an organ that begins moves a part of the picture, a gap all of it
    ends = ceil(ENDS_MM / volume.grid.spacing_mm[0])
    jump[:ends], jump[-ends:] = 0.0, 0.0
    at = int(np.argmax(jump))
    if jump[at] <= JUMP:
        return None
    return (
        f"slices are missing between number {at + 1} and {at + 2} from the head: "
        f"the step there is {jump[at]:.1f} times those around it"
    )


def _steps(volume: Volume, percentiles: Sequence[float]) -> np.ndarray:
    """How much each plane differs from the next where the patient is, HU: percentiles over squares, one a row."""
    planes = squares(volume)
    steps = np.zeros((len(percentiles), max(len(planes) - 1, 0)))
    for k, (one, other) in enumerate(itertools.pairwise(planes)):
        body = (one > BODY_HU) | (other > BODY_HU)
        if (one > BODY_HU).any() and (other > BODY_HU).any():  # a plane of air is the end of what was scanned
            steps[:, k] = np.percentile(np.abs(one - other)[body], percentiles)
    return steps


def squares(volume: Volume) -> np.ndarray:
    """The planes of `volume` as means over squares of 8 mm, clipped to -1000..400 HU, float32."""
    side = [max(1, round(BLOCK_MM / s)) for s in volume.grid.spacing_mm[1:]]
    rows, columns = (n // k for n, k in zip(volume.hu.shape[1:], side, strict=True))
    sums = np.empty((len(volume.hu), rows, columns), np.float32)
    for total, plane in zip(sums, volume.hu, strict=True):
        cut = plane[: rows * side[0], : columns * side[1]].clip(-1000, 400)
        strips = cut.reshape(rows, side[0], -1).sum(1, dtype=np.float32)
        total[:] = strips.reshape(rows, columns, side[1]).sum(2)
    return sums / np.float32(side[0] * side[1])


def cut_share(small: Volume, body: np.ndarray) -> float:
    """How much of the body's outline lies on the edge of the scanner's field, 0 to 1; both are coarse and upright."""
    inner = narrowed(narrowed(body, 1), 2)
    inner[:, [0, -1]] = inner[:, :, [0, -1]] = False
    outline = body & ~inner
    rows, columns = body.shape[1:]
    y, x = (np.abs(np.arange(n) - (n - 1) / 2) for n in (rows, columns))
    near = max(1.0, EDGE_MM / small.grid.spacing_mm[1])
    edge = (y[:, None] > rows / 2 - near) | (x > columns / 2 - near)
    radius, beyond = np.hypot(y[:, None], x), min(rows, columns) / 2
    outside = small.hu[:, radius > beyond + CORNER_MM / small.grid.spacing_mm[1]]
    if outside.size and (outside < -995).mean() > 0.98 and outside.max() < BODY_HU:  # padded round a circle
        edge |= radius > beyond - near
    return float((outline & edge).sum() / max(outline.sum(), 1))


def truncated(share: float) -> str | None:
    """So much of the outline cut that the X-rays would miss what they cross."""
    if share <= MOST_CUT:
        return None
    return f"the field of view cuts off {share:.0%} of the body's outline; more than {MOST_CUT:.0%} is too much"


def metal_ml(whole: Volume, body: np.ndarray, coarse: int) -> float:
    """The volume denser than any bone inside the body, mL; `body` has voxels of `coarse` times those of `whole`."""
    places = np.unravel_index(np.flatnonzero(whole.hu > METAL_HU), whole.hu.shape)
    d, h, w = (at // coarse for at in places)
    return float(body[d, h, w].sum() * np.prod(whole.grid.spacing_mm) / 1000)


def full_of_metal(volume_ml: float) -> str | None:
    """So much metal that its streaks are everywhere."""
    if volume_ml <= MOST_METAL_ML:
        return None
    return f"{volume_ml:.0f} mL above {METAL_HU:.0f} HU in the body: metal; up to {MOST_METAL_ML:.0f} mL is taken"


def upside_down(small: Volume, body: np.ndarray, lungs: np.ndarray | None) -> str | None:
    """Ribs that rise towards the front: they fall, in everybody. None where there are no lungs to look around."""
    if lungs is None:
        return None
    slope = rib_slope(small, body, lungs)
    if slope >= LEAST_SLOPE:
        return None
    return "its ribs rise towards the front: head and feet are exchanged (a feet-first scan with wrong orientation?)"


def rib_slope(small: Volume, body: np.ndarray, lungs: np.ndarray) -> float:
    """How far bones beside the lungs fall towards the front, -1 to 1: the correlation of two slopes of the HU."""
    columns = np.flatnonzero(lungs.any((0, 1)))
    aside = np.abs(np.arange(lungs.shape[2]) - columns[[0, -1]].mean()) > (columns[-1] - columns[0]) / 6
    near = lungs
    for _ in range(5):
        near = dilated(near, edges=False)
    near = near & body & aside
    if not near.any():
        return 0.0
    box = box_of(near, 4)
    bone = ndimage.gaussian_filter(small.hu[box].clip(*RIB_HU).astype(np.float32), 0.7)  # reaches 3 voxels
    down, back = (np.gradient(bone, axis=axis)[near[box]] for axis in (0, 1))
    return float((down * back).sum() / max(np.sqrt((down**2).sum() * (back**2).sum()), 1e-6))


def noted(share: float, volume_ml: float) -> list[str]:
    """What is taken all the same but should be known."""
    notes = []
    if share > NOTED_CUT:
        notes.append(f"the field of view cuts off {share:.0%} of the body's outline")
    if volume_ml > NOTED_METAL_ML:
        notes.append(f"{volume_ml:.1f} mL above {METAL_HU:.0f} HU in the body: metal or dense contrast")
    return notes
