"""One vertebra from T1 to L5 with exact truth: body between two plane endplates, pedicles, laminae, processes."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from raylift.data.phantom.anatomy import VERTEBRAE
from raylift.data.phantom.bones import DEPTH, PITCH, T8_PITCH_MM, WIDTH, frame_along, vertebra_parts
from raylift.data.phantom.paint import add_texture, paint
from raylift.data.phantom.shapes import Scene, cylinder, ellipsoid, shrunk
from raylift.data.phantom.torso import Phantom
from raylift.errors import BadInput, GeometryError, unknown_name
from raylift.geometry import is_upright
from raylift.segment.measure import Body, Endplate, body_between
from raylift.segment.vertebrae import VERSE
from raylift.types import Grid, Volume

BODY_SHARE = 0.8  # of a level's pitch is its body, the rest its disc, as in `bones.vertebra_parts`
CORTEX_MM = (1.6, 1.4)  # of body and arch, as in the torso
DISH = 0.55  # a dished endplate is hollow within this part of its radius  # ours
TISSUE_HU, FAT_HU, DISC_HU, AIR_HU = 45.0, -100.0, 85.0, -1000.0
VERTEBRA_GRID = Grid.canonical((128, 128, 128), 1.0)  # EAR 3.1: 1 mm, 128 voxels


@dataclass(frozen=True, kw_only=True)
class Bone:
    """What a person's vertebrae share: T8's half width (mm), the scale of heights, HU of cortex and marrow."""

    half_mm: float
    stature: float
    cortex_hu: float
    marrow_hu: float
    dish_mm: float  # how deep each endplate is hollow in its middle
    seed: int  # of the grain

    def pitch_mm(self, level: str) -> float:
        """From one disc's middle to the next."""
        return float(PITCH[VERTEBRAE.index(level)] * T8_PITCH_MM * self.stature)

    def half_axes_mm(self, level: str) -> tuple[float, float]:
        """Half width and half depth of the body, as in `bones.vertebra_parts`."""
        k = VERTEBRAE.index(level)
        return float(self.half_mm * WIDTH[k]), float(0.82 * 1.02 * self.half_mm * DEPTH[k])


def draw_bone(rng: Generator, **fixed) -> Bone:
    """A person's bone by lot; all ranges are ours, after adults' CTs."""
    values = {
        "half_mm": float(rng.uniform(12.5, 16.5)),
        "stature": float(rng.uniform(0.92, 1.08)),
        "cortex_hu": float(rng.uniform(700, 1000)),
        "marrow_hu": float(rng.uniform(130, 260)),
        "dish_mm": float(rng.uniform(0.0, 1.5)),
        "seed": int(rng.integers(2**31)),
    }
    return Bone(**(values | fixed))


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A vertebra in the world: its level, its endplates, and the half axes of its body (mm)."""

    level: str
    superior: Endplate
    inferior: Endplate
    half_axes_mm: tuple[float, float]
    dish_mm: float

    @property
    def frame(self) -> np.ndarray:
        """Rows: left, back, up of the body, whose sides run along the lower endplate's normal."""
        return frame_along(self.inferior.normal)

    def truth(self) -> Body:
        """What a perfect measurement gives."""
        wide, deep = self.half_axes_mm
        return body_between(
            self.superior,
            self.inferior,
            back=tuple(self.frame[1].tolist()),
            depth_mm=2 * deep,
            width_mm=2 * wide,
            dip_mm=2 * self.dish_mm,
        )

    def body(self, inset: float = 0.0) -> np.ndarray:
        """The body as a shape, its whole surface `inset` mm further in."""
        (wide, deep), frame = self.half_axes_mm, self.frame
        normal, top = np.asarray(self.superior.normal), np.asarray(self.superior.centre_mm)
        low = np.asarray(self.inferior.centre_mm)
        tall = np.linalg.norm(top - low) + 2 * max(wide, deep)  # the upper endplate's plane cuts it
        centre = low + (inset + tall / 2) * frame[2]
        cut = (*normal, float(np.dot(normal, top)) - inset)
        return cylinder(centre, (wide - inset, deep - inset, tall / 2), frame, cut)

    def dishes(self) -> list[np.ndarray]:
        """What of the discs bulges into the body."""
        if self.dish_mm <= 0:
            return []
        wide, deep = (DISH * half for half in self.half_axes_mm)
        plates = (self.superior, self.inferior)
        return [ellipsoid(p.centre_mm, (wide, deep, self.dish_mm), frame_along(p.normal)) for p in plates]

    def arch(self, bone: Bone) -> list[np.ndarray]:
        """Pedicles, laminae, joint, transverse and spinous processes as shapes."""
        middle = np.add(self.superior.centre_mm, self.inferior.centre_mm) / 2
        frame = frame_along(np.add(self.superior.normal, self.inferior.normal))
        index = VERTEBRAE.index(self.level)
        return vertebra_parts(index, middle, frame, bone.half_mm, bone.pitch_mm(self.level))[1]


def upright_over(low_mm, *, level: str, bone: Bone, lower_normal, upper_normal, height_mm: float | None = None):
    """The vertebra whose lower endplate has its centre at `low_mm`; its axis is the lower endplate's normal."""
    height = BODY_SHARE * bone.pitch_mm(level) if height_mm is None else height_mm
    top = np.asarray(low_mm) + height * np.asarray(lower_normal)
    return Placed(
        level=level,
        superior=Endplate(centre_mm=tuple(map(float, top)), normal=tuple(map(float, upper_normal))),
        inferior=Endplate(centre_mm=tuple(map(float, low_mm)), normal=tuple(map(float, lower_normal))),
        half_axes_mm=bone.half_axes_mm(level),
        dish_mm=bone.dish_mm,
    )


def leaning(coronal_deg: float, sagittal_deg: float) -> np.ndarray:
    """The unit vector to the head whose traces in the coronal and sagittal plane lean by these angles."""
    vector = np.array([np.tan(np.radians(coronal_deg)), np.tan(np.radians(sagittal_deg)), 1.0])
    return vector / np.linalg.norm(vector)


def draw_scene(placed: list[Placed], bone: Bone, discs: list[np.ndarray]) -> Scene:
    """Discs, then each vertebra's arch and body; labels are VerSe's numbers."""
    scene = Scene()
    scene.group(discs, DISC_HU, 0)
    for each in placed:
        number, arch = VERSE[each.level], each.arch(bone)
        scene.group(arch, 0.62 * bone.cortex_hu, number)
        scene.group(shrunk(arch, CORTEX_MM[1]), bone.marrow_hu + 60, number)
    for each in placed:
        number = VERSE[each.level]
        scene.group([each.body()], 0.62 * bone.cortex_hu, number)
        scene.group([each.body(CORTEX_MM[0])], bone.marrow_hu, number)
        scene.group(each.dishes(), DISC_HU, 0)
    return scene


def painted(grid: Grid, background: Scene, scene: Scene, bone: Bone, noise: Generator | None, noise_hu: float):
    """HU (int16) and labels (uint8) of scenes on an upright grid."""
    if not is_upright(grid):
        raise GeometryError("a phantom is drawn on an upright grid (D feet, H back, W left): see Grid.canonical")
    hu = np.full(grid.shape, AIR_HU, np.float32)
    labels, lung = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.float32)
    first, (sd, sh, sw) = grid.affine[:3, 3], grid.spacing_mm
    zs = first[2] - sd * np.arange(grid.shape[0])
    origin, step, edge = np.array([first[0], first[1]]), np.array([sw, sh]), float(np.cbrt(sd * sh * sw))
    for each in (background, scene):
        paint(hu, lung, labels, zs, origin, step, *each.arrays(), edge)
    add_texture(hu, lung, labels, zs, origin, step, np.array([0.0, 0.0, 40.0]), bone.seed)
    if noise_hu:
        hu += noise_hu * noise.standard_normal(hu.shape, dtype=np.float32)
    return np.round(hu).clip(-1024, 3071).astype(np.int16), labels


def vertebra(
    seed: int | Generator,
    *,
    level: str | None = None,
    wedge_deg: float | None = None,
    grid: Grid | None = None,
    noise_hu: float = 0.0,
    **fixed,
) -> Phantom:
    """One vertebra in soft tissue, its label VerSe's number; class, size, wedge and lean by lot unless given.

    `fixed` fixes fields of `Bone`. The truth holds its `Body`; `wedge_deg` is how much lower its front is.
    """
    rng = seed if isinstance(seed, Generator) else np.random.default_rng(seed)
    if level is not None and level not in VERTEBRAE:
        raise unknown_name("vertebra", level, VERTEBRAE)
    drawn = VERTEBRAE[int(rng.integers(len(VERTEBRAE)))]
    lot = float(rng.exponential(4.0)), *rng.normal(0, 4.0, 2)  # ours, degrees: wedge; lean to the side and back
    wedge = min(lot[0], 20.0) if wedge_deg is None else wedge_deg
    if not -25 <= wedge <= 25:
        raise BadInput(f"a wedge of {wedge:g} degrees leaves no front or back of a vertebra; at most 25")
    bone, grid = draw_bone(rng, **fixed), grid or VERTEBRA_GRID
    low, high = (leaning(lot[1], lot[2] + share * wedge) for share in (0.5, -0.5))
    name = level or drawn
    middle = np.asarray(grid.centre_mm) - (0, 14 * bone.half_mm / 17, 0)  # the arch behind it belongs to the picture
    start = middle - 0.5 * BODY_SHARE * bone.pitch_mm(name) * low
    placed = upright_over(start, level=name, bone=bone, lower_normal=low, upper_normal=high)
    background = Scene()
    background.group([cylinder(grid.centre_mm, (58, 58, 2000))], TISSUE_HU, 0)
    hu, labels = painted(grid, background, draw_scene([placed], bone, []), bone, rng, noise_hu)
    truth = {"kind": "vertebra", "level": name, "bodies": {name: placed.truth().record()}}
    return Phantom(volume=Volume(hu=hu, grid=grid, source="phantom"), labels=labels, truth=truth)
