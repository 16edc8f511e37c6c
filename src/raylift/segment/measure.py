"""A vertebra's body measured on its mask, and the spine's angles measured on the endplates.

Endplates are planes fitted to the rim of the body's upper and lower face; heights run along the mean of their
normals: the anterior and posterior one between the planes at the body's front and back edge, the middle one between
the faces themselves, so that a biconcave body shows. Angles are those of the endplates' traces in the coronal (x z)
and sagittal (y z) plane of the patient, as on a frontal and a lateral X-ray (Cobb 1948).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import acos, atan2, degrees

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from raylift.errors import BadInput
from raylift.segment.vertebrae import DOWN, LUMBAR, THORACIC, Vertebrae
from raylift.types import Grid, Vector

STEP_MM = 0.5  # of the march along a column; the face is interpolated between steps  # ours
RIM = (0.55, 0.88)  # part of the body's radius on which an endplate's plane is fitted  # ours
CORE = 0.25  # part of the radius that counts as the middle  # ours
STAIR = 0.6  # voxels: what lies off a plane by no more than 1.5 is a stair of the mask, no outlier  # ours
TRIM = 2.5  # residuals beyond so many robust SDs leave the plane's fit  # ours
HEIGHT_MM, ACROSS_MM = (4.0, 50.0), (10.0, 75.0)  # ours: of a vertebral body, the crushed and the largest
WEDGE_DEG, ROUGH_MM = 40.0, 2.5  # ours: no body is wedged, no endplate rough by more
ROUNDS = 4  # of axis and planes in turn  # ours
KYPHOSIS = ("T4", "T12")  # upper endplate of the first to the lower one of the second
LORDOSIS = ("L1", "L5")


@dataclass(frozen=True, kw_only=True)
class Endplate:
    """A plane through `centre_mm` (LPS) with its unit `normal` towards the head."""

    centre_mm: Vector
    normal: Vector

    @property
    def coronal_deg(self) -> float:
        """Tilt of its trace in the coronal plane; positive where the normal leans to the patient's left."""
        return degrees(atan2(self.normal[0], self.normal[2]))

    @property
    def sagittal_deg(self) -> float:
        """Tilt of its trace in the sagittal plane; positive where the normal leans to the back."""
        return degrees(atan2(self.normal[1], self.normal[2]))


@dataclass(frozen=True, kw_only=True)
class Body:
    """A vertebra's body: where it is, its endplates, its heights and sides in mm, its wedging in degrees."""

    centre_mm: Vector
    superior: Endplate
    inferior: Endplate
    back: Vector  # unit, across the axis
    anterior_mm: float
    middle_mm: float
    posterior_mm: float
    depth_mm: float
    width_mm: float
    rms_mm: float = 0.0  # of the endplates' planes
    coverage: float = 1.0  # part of the columns that ended on both faces

    @property
    def wedge_deg(self) -> float:
        """Angle between the endplates in the vertebra's own sagittal plane; positive where the front is lower."""
        return _angle_along(self.inferior, self.back) - _angle_along(self.superior, self.back)

    def record(self) -> dict:
        """Plain values for a JSON file."""
        return asdict(self) | {"wedge_deg": self.wedge_deg}


def _angle_along(plate: Endplate, back) -> float:
    up = _unit(np.array([0.0, 0.0, 1.0]) - back[2] * np.asarray(back))
    return degrees(atan2(float(np.dot(plate.normal, back)), float(np.dot(plate.normal, up))))


def body_between(
    superior: Endplate, inferior: Endplate, *, back, depth_mm: float, width_mm: float, dip_mm: float = 0.0, **more
) -> Body:
    """The body with these endplates; `dip_mm` is how much lower it is in its middle than between the planes."""
    axis = _unit(np.add(superior.normal, inferior.normal))
    centre = np.add(superior.centre_mm, inferior.centre_mm) / 2
    back = _unit(np.asarray(back, float) - np.dot(back, axis) * axis)
    front, middle, rear = (
        height_at(superior, inferior, centre + share * depth_mm * back, axis) for share in (-0.5, 0, 0.5)
    )
    return Body(
        centre_mm=_vector(centre),
        superior=superior,
        inferior=inferior,
        back=_vector(back),
        anterior_mm=front,
        middle_mm=middle - dip_mm,
        posterior_mm=rear,
        depth_mm=float(depth_mm),
        width_mm=float(width_mm),
        **more,
    )


def height_at(superior: Endplate, inferior: Endplate, point_mm, axis) -> float:
    """Distance (mm) between the planes along `axis` through a point."""
    ends = [
        float(np.dot(np.subtract(plate.centre_mm, point_mm), plate.normal) / np.dot(axis, plate.normal))
        for plate in (superior, inferior)
    ]
    return ends[0] - ends[1]


def measure(mask: Bool[np.ndarray, "D H W"], grid: Grid, *, axis=(0.0, 0.0, 1.0), name: str = "vertebra") -> Body:
    """The body of the vertebra in `mask`; `axis` is roughly where the spine runs there, to the head."""
    if not mask.any():
        raise BadInput(f"{name}: its mask is empty; nothing can be measured")
    mask, grid = _cropped(mask, grid)
    spacing = np.array(grid.spacing_mm)
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    thick = np.argwhere(depth >= 0.8 * depth.max())
    centre = grid.world(thick.mean(0))
    away = grid.world(np.argwhere(mask).mean(0)) - centre  # the arch lies behind the body
    solid = _Solid(mask, grid)
    axis, found = _unit(np.asarray(axis, float)), None
    for _ in range(ROUNDS):
        back = away - np.dot(away, axis) * axis
        back = _unit(back if np.linalg.norm(back) > 1 else np.array([0, 1.0, 0]) - axis[1] * axis)
        frame = np.stack([np.cross(back, axis), back, axis])  # rows: left, back, up
        centre, half = _outline(solid, centre, frame)
        found = _faces(solid, centre, frame, half, name)
        axis = _unit(np.add(found[0].normal, found[1].normal))
        centre = np.add(found[0].centre_mm, found[1].centre_mm) / 2
    superior, inferior, dip, rms, coverage = found
    size = {"depth_mm": 2 * half[1], "width_mm": 2 * half[0]}
    body = body_between(superior, inferior, back=frame[1], **size, dip_mm=dip, rms_mm=rms, coverage=coverage)
    _check(body, name)
    return body


def _check(body: Body, name: str) -> None:
    """Raises where what was measured is no vertebral body."""
    heights = body.anterior_mm, body.middle_mm, body.posterior_mm
    between = degrees(acos(min(1.0, float(np.dot(body.superior.normal, body.inferior.normal)))))
    faults = {
        f"heights of {min(heights):.0f} to {max(heights):.0f} mm": not (
            HEIGHT_MM[0] < min(heights) and max(heights) < HEIGHT_MM[1]
        ),
        f"endplates {between:.0f} degrees apart": between > WEDGE_DEG,
        f"endplates that are rough by {body.rms_mm:.1f} mm": body.rms_mm > ROUGH_MM,
        f"a depth of {body.depth_mm:.0f} and a width of {body.width_mm:.0f} mm": not (
            ACROSS_MM[0] < min(body.depth_mm, body.width_mm) and max(body.depth_mm, body.width_mm) < ACROSS_MM[1]
        ),
    }
    if any(faults.values()):
        found = next(fault for fault, there in faults.items() if there)
        raise BadInput(f"{name}: what is in its mask has {found}, which is no vertebral body")


def _cropped(mask: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    affine = grid.affine.copy()
    affine[:3, 3] = grid.world([side.start for side in box])
    return mask[box], Grid(mask[box].shape, affine)


class _Solid:
    """How full the world is at points (..., 3) LPS: 1 inside the mask, 0 outside, linear between voxel centres."""

    def __init__(self, mask: np.ndarray, grid: Grid):
        self.filled, self.grid = np.pad(mask, 1).astype(np.float32), grid

    def __call__(self, points) -> np.ndarray:
        index = self.grid.index(points) + 1
        flat = index.reshape(-1, 3).T
        return ndimage.map_coordinates(self.filled, flat, order=1, mode="constant").reshape(index.shape[:-1])

    def reach(self, starts, direction, longest: float) -> np.ndarray:
        """How far (mm) one gets from each start along `direction` before leaving; nan: started outside, or never."""
        steps = np.arange(0, longest + STEP_MM, STEP_MM)
        filled = self(np.asarray(starts)[..., None, :] + steps[:, None] * np.asarray(direction))
        out = filled < 0.5
        first = out.argmax(-1)
        inside, there = first > 0, out.any(-1)
        first = np.maximum(first, 1)
        before, after = (np.take_along_axis(filled, k[..., None], -1)[..., 0] for k in (first - 1, first))
        share = (before - 0.5) / np.maximum(before - after, 1e-6)
        return np.where(inside & there, (first - 1 + share) * STEP_MM, np.nan)


def _outline(solid: _Solid, centre, frame):
    """The middle of the body's cross-section, and half its width and depth (mm)."""
    left, back, up = frame
    for _ in range(2):
        starts = centre + np.linspace(-3, 3, 5)[:, None, None] * up + np.linspace(-2, 2, 5)[:, None] * left
        front, rear = (_middle(solid.reach(starts, side * back, 45.0)) for side in (-1, 1))
        centre = centre + (rear - front) / 2 * back
        starts = centre + np.linspace(-3, 3, 5)[:, None, None] * up + np.linspace(-4, 0, 5)[:, None] * back
        right, other = (_middle(solid.reach(starts, side * left, 45.0)) for side in (-1, 1))
        centre = centre + (other - right) / 2 * left
    return centre, ((right + other) / 2, (front + rear) / 2)


def _middle(lengths) -> float:
    """The median of what was found; 12 mm, about a body's half depth, where nothing was."""
    found = lengths[np.isfinite(lengths)]
    return float(np.median(found)) if len(found) else 12.0


def _faces(solid: _Solid, centre, frame, half, name: str):
    """Both endplates, how much the middle dips below their planes (mm), the planes' rms (mm), and the coverage."""
    left, back, up = frame
    radius, angle = np.meshgrid(np.linspace(0.02, RIM[1], 12), np.linspace(0, 2 * np.pi, 48, endpoint=False))
    a, b = radius * half[0] * np.cos(angle), radius * half[1] * np.sin(angle)
    starts = centre + a[..., None] * left + b[..., None] * back
    top, bottom = solid.reach(starts, up, 30.0), solid.reach(starts, -up, 30.0)
    both = np.isfinite(top) & np.isfinite(bottom)
    rim, core = (radius >= RIM[0]) & both, (radius <= CORE) & both
    if rim.sum() < 40 or core.sum() < 4:
        raise BadInput(f"{name}: no vertebral body with two endplates is in its mask")
    plates, rms, flat = [], [], []
    for height in (top, -bottom):
        plane, error = _plane(a[rim], b[rim], height[rim], STAIR * max(solid.grid.spacing_mm))
        rms.append(error)
        flat.append(plane[2])
        normal = _unit(up - plane[0] * left - plane[1] * back)
        plates.append(Endplate(centre_mm=_vector(centre + plane[2] * up), normal=_vector(normal)))
    dip = flat[0] - flat[1] - float(np.median((top + bottom)[core]))
    return *plates, dip, float(np.mean(rms)), float(both.mean())


def _plane(a, b, height, least: float) -> tuple[Float[np.ndarray, "3"], float]:
    """height = p0 a + p1 b + p2 fitted with outliers left out, and the rms of what stayed; `least` (mm) is the SD that
    a mask's stairs alone can have.
    """
    columns = np.stack([a, b, np.ones_like(a)], -1)
    keep = np.ones(len(a), bool)
    for _ in range(6):
        plane = np.linalg.lstsq(columns[keep], height[keep], rcond=None)[0]
        rest = height - columns @ plane
        scale = max(1.4826 * np.median(np.abs(rest[keep] - np.median(rest[keep]))), least)
        keep = np.abs(rest - np.median(rest[keep])) < TRIM * scale
    return plane, float(np.sqrt(np.mean(rest[keep] ** 2)))


def measure_all(vertebrae: Vertebrae) -> tuple[dict[str, Body], dict[str, str]]:
    """The body of each level that lies wholly in the scan, and the reason for each that could not be measured."""
    centres = {level: vertebrae.centroid_mm(level) for level in vertebrae.levels}
    bodies, failed = {}, {}
    for level, axis in directions(centres).items():
        if vertebrae.cut_off(level):
            failed[level] = "the scan ends within it"
            continue
        mask, grid = vertebrae.part(level)
        try:
            bodies[level] = measure(mask, grid, axis=axis, name=level)
        except BadInput as error:
            failed[level] = str(error)
    return bodies, failed


def directions(centres: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Where the spine runs (unit, to the head) at each of these levels, given from the head down."""
    names, points = list(centres), np.array(list(centres.values()))
    if len(names) < 2:
        return {name: np.array([0.0, 0.0, 1.0]) for name in names}
    return {name: _unit(-step) for name, step in zip(names, np.gradient(points, axis=0), strict=True)}


def cobb_deg(bodies: Mapping[str, Body], upper: str, lower: str) -> float:
    """Cobb angle (degrees, 0 or more) from the upper endplate of `upper` to the lower one of `lower`."""
    return abs(bodies[upper].superior.coronal_deg - bodies[lower].inferior.coronal_deg)


def largest_curve(bodies: Mapping[str, Body]) -> dict | None:
    """The pair of levels with the largest Cobb angle: upper, lower, degrees, the side of the bulge; None below two."""
    names = sorted(bodies, key=DOWN.__getitem__)
    pairs = [(cobb_deg(bodies, a, b), a, b) for k, a in enumerate(names) for b in names[k + 1 :]]
    if not pairs:
        return None
    angle, upper, lower = max(pairs)
    bends_left = bodies[upper].superior.coronal_deg < bodies[lower].inferior.coronal_deg
    return {"upper": upper, "lower": lower, "cobb_deg": angle, "convex": "left" if bends_left else "right"}


def sagittal_deg(bodies: Mapping[str, Body], upper: str, lower: str) -> float:
    """Bend in the sagittal plane from the upper endplate of `upper` to the lower one of `lower`, degrees.

    Positive where the spine bulges to the back (kyphosis), negative where it bulges to the front (lordosis).
    """
    return bodies[lower].inferior.sagittal_deg - bodies[upper].superior.sagittal_deg


def angles(bodies: Mapping[str, Body]) -> dict:
    """Largest Cobb angle, thoracic kyphosis (T4 to T12) and lumbar lordosis (L1 to L5), degrees.

    Where an end level is missing, the nearest one that is there stands for it and is named; None where there is none.
    """
    told: dict = {"cobb": largest_curve(bodies)}
    for name, (upper, lower), group, sign in (
        ("kyphosis", KYPHOSIS, THORACIC, 1),
        ("lordosis", LORDOSIS, LUMBAR, -1),
    ):
        there = [k for k in group if k in bodies and DOWN[upper] <= DOWN[k] <= DOWN[lower]]
        told[name] = None
        if len(there) > 1:
            first, last = there[0], there[-1]
            told[name] = {"upper": first, "lower": last, "deg": sign * sagittal_deg(bodies, first, last)}
    return told


def _unit(vector) -> np.ndarray:
    return np.asarray(vector, float) / np.linalg.norm(vector)


def _vector(values) -> Vector:
    return tuple(float(x) for x in values)
