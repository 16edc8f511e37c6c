"""A spine from T1 to L5 with a stated Cobb angle, kyphosis and lordosis, and the exact truth of every vertebra.

Tilts are prescribed, not measured: every endplate's trace leans by an angle that is a function of its place along the
spine, so that the upper endplate of the curve's first level and the lower one of its last are exactly the stated angle
apart, and no other pair is further. The chain of bodies and discs is then built from L5 up.
"""

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from math import cos, pi

import numpy as np
from numpy.random import Generator
from scipy.interpolate import PchipInterpolator

from raylift.data.phantom.anatomy import VERTEBRAE
from raylift.data.phantom.shapes import Scene, capsule, cylinder
from raylift.data.phantom.torso import Phantom
from raylift.data.phantom.vertebra import (
    BODY_SHARE,
    FAT_HU,
    TISSUE_HU,
    Bone,
    Placed,
    draw_bone,
    draw_scene,
    leaning,
    painted,
    upright_over,
)
from raylift.errors import BadInput, unknown_name
from raylift.segment.measure import KYPHOSIS, LORDOSIS, angles, cobb_deg
from raylift.types import Grid, Volume

SPINE_GRID = Grid.canonical((400, 160, 176), 1.5)  # 600 x 240 x 264 mm: T1 to L5 of a tall person
FADE_MM = 110.0  # ours: beyond the curve's ends the spine comes back upright within this
CURVES = (("T5", "T12"), ("T6", "T11"), ("T10", "L3"), ("T11", "L4"))  # ours: thoracic and thoracolumbar ones


@dataclass(frozen=True, kw_only=True)
class Posture:
    """What bends the spine, in degrees; `wedges` are compressed levels, how much lower their front is than the rest."""

    cobb_deg: float
    upper: str
    lower: str
    convex: str  # left or right
    kyphosis_deg: float  # T4 to T12
    lordosis_deg: float  # L1 to L5
    wedges: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        for level in (self.upper, self.lower, *self.wedges):
            if level not in VERTEBRAE:
                raise unknown_name("vertebra", level, VERTEBRAE)
        if VERTEBRAE.index(self.upper) >= VERTEBRAE.index(self.lower):
            raise BadInput(f"a curve from {self.upper} to {self.lower} does not run down the spine")
        if self.convex not in ("left", "right"):
            raise BadInput(f"a curve is convex to the left or right, not '{self.convex}'")
        if not (0 <= self.cobb_deg <= 90 and abs(self.kyphosis_deg) <= 90 and abs(self.lordosis_deg) <= 90):
            raise BadInput("Cobb angle, kyphosis and lordosis are at most 90 degrees")
        if any(abs(w) > 20 for w in self.wedges.values()):
            raise BadInput("a compressed vertebra's wedge is at most 20 degrees")


def draw_posture(rng: Generator, **fixed) -> Posture:
    """A posture by lot; all ranges are ours, after the usual ones of adults."""
    upper, lower = CURVES[int(rng.integers(len(CURVES)))]
    values = {
        "cobb_deg": float(rng.uniform(0, 55)),
        "upper": upper,
        "lower": lower,
        "convex": "right" if rng.random() < 0.7 else "left",
        "kyphosis_deg": float(rng.uniform(20, 50)),
        "lordosis_deg": float(rng.uniform(25, 55)),
    }
    level, wedge = VERTEBRAE[int(rng.integers(5, 14))], float(rng.uniform(5, 14))
    if rng.random() < 0.4:
        values["wedges"] = {level: wedge}
    return Posture(**(values | fixed))


def places_mm(bone: Bone) -> dict[str, tuple[float, float]]:
    """How far below T1's upper endplate each level's upper and lower endplate lie along the spine, mm."""
    places, at = {}, 0.0
    for level in VERTEBRAE:
        pitch = bone.pitch_mm(level)
        places[level] = at, at + BODY_SHARE * pitch
        at += pitch
    return places


def coronal_of(posture: Posture, places):
    """Lean to the patient's left (degrees) at a place along the spine: half the Cobb angle at either end of a curve."""
    first, last = places[posture.upper][0], places[posture.lower][1]
    side = (1 if posture.convex == "right" else -1) * posture.cobb_deg / 2

    def lean(at: float) -> float:
        if first <= at <= last:
            return side * cos(pi * (at - first) / (last - first))
        beyond = first - at if at < first else at - last
        fade = (1 + cos(pi * min(beyond / FADE_MM, 1))) / 2
        return (side if at < first else -side) * fade

    return lean


def sagittal_of(posture: Posture, places):
    """Lean to the back (degrees) at a place along the spine; kyphosis and lordosis between their own endplates."""
    k, lo = posture.kyphosis_deg, posture.lordosis_deg
    knots = {
        places["T1"][0] - 1: -0.5 * k - 8,  # ours: the neck leans forward a little more
        places[KYPHOSIS[0]][0]: -0.5 * k,
        places[KYPHOSIS[1]][1]: 0.5 * k,
        places[LORDOSIS[0]][0]: 0.5 * k,
        places[LORDOSIS[1]][1]: 0.5 * k - lo,
    }
    bend = PchipInterpolator(list(knots), list(knots.values()))
    return lambda at: float(bend(at))


def chain(bone: Bone, posture: Posture) -> list[Placed]:
    """All levels from T1 down, the lowest endplate's centre at the origin."""
    places = places_mm(bone)
    coronal, sagittal = coronal_of(posture, places), sagittal_of(posture, places)
    at, found = np.zeros(3), []
    for level in reversed(VERTEBRAE):
        top, bottom = places[level]
        lower = leaning(coronal(bottom), sagittal(bottom))
        upper = leaning(coronal(top), sagittal(top) - posture.wedges.get(level, 0.0))
        placed = upright_over(at, level=level, bone=bone, lower_normal=lower, upper_normal=upper)
        found.append(placed)
        disc = (1 - BODY_SHARE) * bone.pitch_mm(VERTEBRAE[max(0, VERTEBRAE.index(level) - 1)])
        above = leaning(coronal(top), sagittal(top))
        at = np.asarray(placed.superior.centre_mm) + disc * above
    return found[::-1]


def spine(
    seed: int | Generator, *, grid: Grid | None = None, noise_hu: float = 0.0, bone: dict | None = None, **fixed
) -> Phantom:
    """A spine in a plain trunk, labels VerSe's numbers; `fixed` fixes fields of `Posture`, `bone` those of `Bone`.

    The truth holds the posture, the angles that the endplates make, and every level's body.
    """
    rng = seed if isinstance(seed, Generator) else np.random.default_rng(seed)
    posture, one = draw_posture(rng, **fixed), draw_bone(rng, **(bone or {}))
    grid = grid or SPINE_GRID
    placed = _centred(chain(one, posture), grid)
    trunk = Scene()
    middle = np.asarray(grid.centre_mm)
    front = middle - (0, 70.0, 0)  # ours: the belly lies before the spine
    for grown, hu in ((14.0, FAT_HU), (0.0, TISSUE_HU)):
        trunk.group([cylinder(front, (150 + grown, 120 + grown, 2000))], hu, 0)
    discs = [_disc(a, b) for a, b in pairwise(placed)]
    hu, labels = painted(grid, trunk, draw_scene(placed, one, discs), one, rng, noise_hu)
    bodies = {each.level: each.truth() for each in placed}
    truth = {
        "kind": "spine",
        "posture": asdict(posture),
        "bone": asdict(one),
        "cobb_deg": cobb_deg(bodies, posture.upper, posture.lower),
        "angles": angles(bodies),
        "bodies": {level: body.record() for level, body in bodies.items()},
    }
    return Phantom(volume=Volume(hu=hu, grid=grid, source="phantom"), labels=labels, truth=truth)


def _disc(upper: Placed, lower: Placed) -> np.ndarray:
    """The disc between two bodies, a stub that both bodies cover at its ends."""
    half = 0.8 * min(lower.half_axes_mm)
    return capsule(upper.inferior.centre_mm, lower.superior.centre_mm, half)


def _centred(placed: list[Placed], grid: Grid) -> list[Placed]:
    """The chain moved so that the middle of its extent is the grid's centre; refused where the grid is too short."""
    ends = np.array([p.centre_mm for each in placed for p in (each.superior, each.inferior)])
    by = np.asarray(grid.centre_mm) - (ends.max(0) + ends.min(0)) / 2
    moved = [
        Placed(
            level=each.level,
            superior=_shifted(each.superior, by),
            inferior=_shifted(each.inferior, by),
            half_axes_mm=each.half_axes_mm,
            dish_mm=each.dish_mm,
        )
        for each in placed
    ]
    room = np.abs(grid.corners_mm - grid.centre_mm).max(0)
    need = np.abs(ends + by - grid.centre_mm).max(0) + (30.0, 60.0, 8.0)
    if (need > room).any():
        raise BadInput(
            f"this spine needs {2 * need.max():.0f} mm of room; the grid holds {2 * room.round()} mm (x y z)"
        )
    return moved


def _shifted(plate, by):
    return type(plate)(centre_mm=tuple(float(x) for x in np.add(plate.centre_mm, by)), normal=plate.normal)
