"""Whether what was found between two discs is likely a whole vertebra: measured, and compared with its neighbours."""

from itertools import pairwise
from math import acos, degrees

import numpy as np
from jaxtyping import Int

from raylift.errors import BadInput
from raylift.segment.measure import Body, measure
from raylift.types import Grid

CLEAR = 0.4  # ours: contrast of a disc, in parts of the usual one, from which it is believed
ALIKE = 1.3  # ours: the largest ratio of a size to the median of its nearest neighbours'
NEIGHBOURS = 2  # on either side  # ours
LEAN_DEG = 12.0  # ours: of an endplate against the plane through its disc
WEDGE_DEG = 20.0  # ours: compressed by more is told by no bone alone
END_WEDGE_DEG = 10.0  # ours: the first and last have a disc with an endplate on one side only
ROUGH_MM, COVERED = 1.3, 0.9  # ours: rms of the endplates' planes, part of the columns that end on both
TALL_MM = 80.0  # ours: from a vertebra's upper edge to its spinous process' tip
GAP_MM = (-1.0, 16.0)  # ours: from an endplate to that of the next vertebra


def doubts(labels: Int[np.ndarray, "d h w"], grid: Grid, cuts) -> tuple[list[float], list[str]]:
    """For each label from 1 how sure it is a whole vertebra, [0, 1], and what speaks against it, or ''."""
    bodies, why = [], []
    for k, (upper, lower) in enumerate(pairwise(cuts), 1):
        try:
            bodies.append(measure(labels == k, grid, axis=upper.normal + lower.normal, name="what is there"))
            why.append("")
        except BadInput as error:
            bodies.append(None)
            why.append(str(error))
    sure = [0.0] * len(bodies)
    for k, body in enumerate(bodies):
        if body is None:
            continue
        found = _alone(body, cuts[k], cuts[k + 1], end=k in (0, len(bodies) - 1)) + _beside(bodies, k)
        rows = np.flatnonzero((labels == k + 1).any((1, 2)))
        found.append((float(np.ptp(rows)) * grid.spacing_mm[0] / TALL_MM, "its arch takes in those of others"))
        worst, why[k] = max(found)
        sure[k] = float(np.clip(1.25 - 0.5 * worst, 0, 1))  # ours: a fault at its limit leaves 0.75
        why[k] = why[k] if worst > 1 else ""
    return sure, why


def _alone(body: Body, upper, lower, *, end: bool) -> list[tuple[float, str]]:
    """How far each fault of one body is on the way to its limit (1), and what it is."""
    leans = max(_apart(body.superior.normal, upper.normal), _apart(body.inferior.normal, lower.normal))
    contrast = max(min(upper.contrast, lower.contrast), 1e-3)
    return [
        (CLEAR / contrast, "one of its discs is not clear"),
        (leans / LEAN_DEG, f"an endplate leans by {leans:.0f} degrees against its disc"),
        (abs(body.wedge_deg) / (END_WEDGE_DEG if end else WEDGE_DEG), f"it is wedged by {body.wedge_deg:.0f} degrees"),
        (body.rms_mm / ROUGH_MM, f"its endplates are rough by {body.rms_mm:.1f} mm"),
        ((1 - body.coverage) / (1 - COVERED), "its endplates are not whole"),
    ]


def _beside(bodies: list[Body | None], k: int) -> list[tuple[float, str]]:
    """The same of faults that neighbours show."""
    body, found = bodies[k], []
    near = [b for b in bodies[max(0, k - NEIGHBOURS) : k] + bodies[k + 1 : k + 1 + NEIGHBOURS] if b]
    for size in ("posterior_mm", "middle_mm", "width_mm", "depth_mm") if near else ():
        usual = float(np.median([getattr(b, size) for b in near]))
        ratio = abs(np.log(getattr(body, size) / usual)) / np.log(ALIKE)
        found.append((ratio, f"its {size.removesuffix('_mm')} size is unlike its neighbours'"))
    if not near:
        found.append((2.0, "no neighbour stands beside it"))
    for upper, lower in ((k - 1, k), (k, k + 1)):
        if upper >= 0 and lower < len(bodies) and bodies[upper] and bodies[lower]:
            gap = np.subtract(bodies[upper].inferior.centre_mm, bodies[lower].superior.centre_mm)
            gap = float(gap @ np.asarray(bodies[upper].inferior.normal))
            off = 0.0 if GAP_MM[0] <= gap <= GAP_MM[1] else 2.0
            found.append((off, f"it is {gap:.0f} mm from the next one"))
    return found


def _apart(a, b) -> float:
    return degrees(acos(min(1.0, float(np.dot(a, b)))))
