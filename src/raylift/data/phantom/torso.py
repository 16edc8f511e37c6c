"""A randomised torso with exact truth, drawn on any upright grid: air, table, arms, trunk, chest, abdomen, bones."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.random import Generator

from raylift.data.phantom import bones, organs
from raylift.data.phantom.anatomy import Anatomy, draw
from raylift.data.phantom.paint import IN_BODY, IN_LUNG, add_texture, paint, paint_cavity, paint_trunk
from raylift.data.phantom.shapes import Scene, cylinder, ellipsoid, moved, shrunk
from raylift.errors import BadInput, GeometryError, unknown_name
from raylift.geometry import is_upright
from raylift.types import Grid, Volume

TISSUES = (
    *("air", "fat", "muscle", "lung_right", "lung_left", "airway", "heart", "vessels", "mediastinum", "bone", "liver"),
    *("stomach", "gas", "spleen", "kidneys", "bowel", "cartilage", "vertebrae", "discs", "head", "table"),
    "pneumothorax",
)
LABELS = {name: code for code, name in enumerate(TISSUES)}  # paint.py draws 1, 2, 3, 4 and 10 by number
AIR_HU = -1000.0
DEFAULT_GRID = Grid.canonical((160, 160, 224), 2.5)  # 400 x 400 x 560 mm: a wide body with its arms


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantom:
    """A CT of nobody: `volume` (HU, int16), `labels` (uint8, see `LABELS`) and `truth` (plain values)."""

    volume: Volume
    labels: np.ndarray
    truth: dict


def _generator(seed: int | Generator) -> Generator:
    return seed if isinstance(seed, Generator) else np.random.default_rng(seed)


class _Canvas:
    """The arrays that are painted on, and where their voxels lie."""

    def __init__(self, grid: Grid):
        if not is_upright(grid):
            raise GeometryError("a phantom is drawn on an upright grid (D feet, H back, W left): see Grid.canonical")
        self.hu = np.full(grid.shape, AIR_HU, np.float32)
        self.labels = np.zeros(grid.shape, np.uint8)
        self.lung = np.zeros(grid.shape, np.float32)
        self.depth = np.full(grid.shape, 1e3, np.float32)
        first = grid.affine[:3, 3]
        sd, sh, sw = grid.spacing_mm
        self.zs = first[2] - sd * np.arange(grid.shape[0])
        self.origin, self.step = np.array([first[0], first[1]]), np.array([sw, sh])
        self.edge = float(np.cbrt(sd * sh * sw))
        self.voxel_ml = sd * sh * sw / 1000

    def paint(self, scene: Scene) -> None:
        shapes, starts, tissue = scene.arrays()
        paint(
            self.hu, self.lung, self.labels, self.zs, self.origin, self.step, shapes, starts, tissue, self.edge
        )  # fmt: skip


def _table(person: Anatomy) -> Scene:
    """A curved plate under the back, filled with foam."""
    scene, rings = Scene(), person.trunk(np.linspace(-150, 100, 20))
    back = float((rings[:, 1] + rings[:, 2] + rings[:, 4]).max()) + 4
    cut = (0, -1, 0, 28 - back)
    for axes, hu in (((420, 168), -250), ((418, 165.5), -930), ((402, 152.5), -250), ((400, 150), AIR_HU)):
        label = LABELS["air"] if hu == AIR_HU else LABELS["table"]
        scene.group([cylinder([0, back - 150, 0], (*axes, 2000), None, cut)], hu, label)
    return scene


def _limbs(person: Anatomy, rng: Generator) -> tuple[Scene, Scene]:
    """What lies beside the trunk, and what lies over its fat."""
    under, over = Scene(), Scene()
    skin, muscle = organs.limbs(person, rng)
    under.group(skin, person.fat_hu, LABELS["fat"])
    head = ellipsoid([0, float(person.spine(260.0)[1]) - 26, person.apex_z + 215], (76, 96, 108))
    over.group(muscle, person.muscle_hu, LABELS["muscle"])
    over.group([head], 40, LABELS["head"])
    over.group(shrunk([head], 5), person.cortex_hu + 200, LABELS["bone"])
    over.group(shrunk([head], 12), 35, LABELS["head"])
    return under, over


def _chest(person: Anatomy) -> tuple[Scene, dict]:
    """Mediastinum, heart, vessels and airways; the small vessels come later."""
    scene = Scene()
    fat, wall, chambers, middle = organs.heart(person)
    aorta, veins, hila, carina = organs.great_vessels(person, middle)
    scene.group(organs.mediastinum(person, middle, carina), person.fat_hu + 40, LABELS["mediastinum"])
    scene.group(shrunk(aorta + veins, -2), person.fat_hu + 60, LABELS["mediastinum"])
    scene.group(fat, person.fat_hu + 30, LABELS["mediastinum"], IN_BODY)
    scene.group(wall, 60 + 0.25 * person.blood_hu, LABELS["heart"], IN_BODY)
    scene.group(chambers, person.blood_hu, LABELS["heart"], IN_BODY)
    scene.group(veins, 0.85 * person.blood_hu, LABELS["vessels"])
    scene.group(aorta, person.blood_hu, LABELS["vessels"])
    air = organs.airways(person, hila, carina)
    scene.group(shrunk(air, -1.5), 20, LABELS["mediastinum"])
    scene.group(air, AIR_HU, LABELS["airway"])
    return scene, hila


def _abdomen(person: Anatomy, rng: Generator) -> Scene:
    scene, parts = Scene(), organs.abdomen(person, rng)
    scene.group(organs.erector_muscles(person), person.muscle_hu, LABELS["muscle"])
    scene.group(parts["bowel"], 28, LABELS["bowel"], IN_BODY)
    scene.group(parts["bubbles"], -850, LABELS["gas"], IN_BODY)
    scene.group(parts["kidneys"], person.liver_hu + (60 if person.contrast else -20), LABELS["kidneys"])
    scene.group(parts["stomach"], 30, LABELS["stomach"])
    scene.group(parts["gas"], AIR_HU + 20, LABELS["gas"])
    scene.group(parts["spleen"], person.liver_hu - 6, LABELS["spleen"])
    return scene


def _skeleton(person: Anatomy) -> Scene:
    scene = Scene()
    bodies, arches, discs = bones.spine(person)
    ribs, cartilage = bones.ribs(person)
    breast_bone, girdle, pelvis = bones.sternum(person), bones.shoulder_bones(person), bones.pelvis_and_head(person)
    cortex, marrow = person.cortex_hu, person.marrow_hu
    scene.group(cartilage, 105, LABELS["cartilage"])
    scene.group(discs, 85, LABELS["discs"])
    scene.group(bodies, 0.62 * cortex, LABELS["vertebrae"])
    scene.group(shrunk(bodies, 1.6), marrow, LABELS["vertebrae"])
    scene.group(arches, 0.62 * cortex, LABELS["vertebrae"])
    scene.group(shrunk(arches, 1.4), marrow + 60, LABELS["vertebrae"])
    scene.group(breast_bone, 0.5 * cortex, LABELS["bone"])
    scene.group(shrunk(breast_bone, 1.3), 0.6 * marrow, LABELS["bone"])
    for shapes, wall in ((ribs, 1.3), (girdle, 2.2), (pelvis, 2.0)):
        scene.group(shapes, cortex, LABELS["bone"])
        scene.group(shrunk(shapes, wall), 0.8 * marrow, LABELS["bone"])
    return scene


def _lung_vessels(person: Anatomy, hila: dict) -> Scene:
    rng, scene = np.random.default_rng(person.seed), Scene()
    for side in (-1, 1):
        for shift, radius in ((0, 4.8), (9, 4.0)):  # arteries, veins
            root = moved(hila[side], side * 4, shift * 0.6, -shift)
            tree = organs.vessel_tree(
                rng, root, side, radius=radius, density=person.vessel_density, person=person
            )  # fmt: skip
            scene.group(tree, 35, LABELS["vessels"], IN_LUNG)
    return scene


def _cavity(canvas: _Canvas, person: Anatomy) -> None:
    wide, deep, centre = person.cage(canvas.zs)
    power = np.full_like(wide, person.shape_power)
    rings = np.stack([wide, deep, centre, power, power], -1)
    w, d, c = (float(v) for v in person.cage(person.dome_right_z, 0.4))
    domes = np.array(
        [
            [z, side * 0.46 * w, c - 0.15 * d, 0.62 * w, 1.15 * d, person.dome_depth, 1.15]
            for side, z in ((-1, person.dome_right_z), (1, person.dome_left_z))
        ]
    )
    organ = np.array(
        [
            person.fat_hu + 12, person.liver_hu, person.lung_hu, person.lung_gradient,
            person.dome_right_z - 150 * person.stature, 0.28, 20.0, 2.0, 3.5,
        ]
    )  # fmt: skip
    args = canvas.zs, canvas.origin, canvas.step, rings, domes, organ, canvas.edge
    paint_cavity(canvas.hu, canvas.lung, canvas.labels, canvas.depth, *args)


def _body(canvas: _Canvas, person: Anatomy, rng: Generator) -> dict:
    """Paint everything but what lies inside the lungs; where the hila are."""
    under, over = _limbs(person, rng)
    if person.table:
        canvas.paint(_table(person))
    canvas.paint(under)
    rings = np.ascontiguousarray(person.trunk(canvas.zs))
    args = canvas.origin, canvas.step, rings, person.fat_hu, person.muscle_hu, canvas.edge
    paint_trunk(canvas.hu, canvas.labels, *args)
    canvas.paint(over)
    _cavity(canvas, person)
    canvas.paint(_abdomen(person, rng))
    chest, hila = _chest(person)
    canvas.paint(chest)
    canvas.paint(_skeleton(person))
    return hila


POSTURES = ("supine", "upright", "right-down", "left-down")


def _rise(canvas: _Canvas, posture: str, inside) -> np.ndarray:
    """How high voxels lie in a patient who is in `posture`, mm."""
    if posture == "upright":
        return canvas.zs[inside[0]]
    if posture == "supine":
        return -(canvas.origin[1] + canvas.step[1] * inside[1])
    if posture not in POSTURES:
        raise unknown_name("posture", posture, POSTURES)
    left = canvas.origin[0] + canvas.step[0] * inside[2]
    return left if posture == "right-down" else -left


def _carve_air(canvas: _Canvas, person: Anatomy, ml: float, side: str, posture: str) -> None:
    """Turn `ml` of one lung into air at its outer border, widest where air collects; the rest becomes denser."""
    code = LABELS[f"lung_{side}"]
    inside = np.nonzero((canvas.lung > 0) & ((canvas.labels == code) | (canvas.lung < 0.5)))
    x = canvas.origin[0] + canvas.step[0] * inside[2]
    keep = (x > 2.0) if side == "left" else (x <= 2.0)
    inside = tuple(i[keep] for i in inside)
    share = canvas.lung[inside].astype(np.float64)
    whole = share.sum() * canvas.voxel_ml
    if not 0 < ml <= 0.8 * whole:
        raise BadInput(
            f"a pneumothorax of {ml:.0f} ml does not fit into a {side} lung of {whole:.0f} ml (at most 80 %)"
        )
    field = canvas.depth[inside] + 0.35 * _rise(canvas, posture, inside)  # ours
    low, high = float(field.min()) - canvas.edge, float(field.max()) + canvas.edge
    for _ in range(60):
        middle = (low + high) / 2
        air = share * np.clip(0.5 + (field - middle) / canvas.edge, 0, 1)
        low, high = (middle, high) if air.sum() * canvas.voxel_ml > ml else (low, middle)
    part = (air / np.maximum(share, 1e-6)).astype(np.float32)
    depth = canvas.origin[1] + canvas.step[1] * inside[1] - person.cage(canvas.zs)[2][inside[0]]
    was = person.lung_hu + person.lung_gradient * depth  # as `paint_cavity` drew it
    canvas.hu[inside] += (air * (AIR_HU - was)).astype(np.float32)
    canvas.lung[inside] *= 1 - part
    denser = np.sqrt(whole / (whole - ml)) - 1  # ours: a collapsed lung keeps part of its blood
    canvas.hu[inside] += (canvas.lung[inside] * denser * (person.lung_hu - AIR_HU)).astype(np.float32)
    fullest = np.argsort(-air, kind="stable")[: round(ml / canvas.voxel_ml)]  # so that the label has the volume too
    gone = tuple(i[fullest] for i in inside)
    canvas.labels[gone] = LABELS["pneumothorax"]


def torso(
    seed: int | Generator,
    *,
    grid: Grid | None = None,
    pneumothorax_ml: float | Mapping[str, float] = 0.0,
    pneumothorax_side: str = "right",
    posture: str | None = None,
    noise_hu: float = 0.0,
    **fixed,
) -> Phantom:
    """A torso drawn by lot on `grid` (400 x 400 x 560 mm at 2.5 mm unless given); `fixed` fixes fields of `Anatomy`.

    The same seed gives the same bytes, and on another grid the same person. `pneumothorax_ml` may give a volume for
    each of 'right' and 'left'; its air collects where `posture` has it (`POSTURES`; else as the gas in the bowel).
    """
    rng = _generator(seed)
    person = draw(rng, **fixed)
    posture = posture or ("upright" if person.upright else "supine")
    volumes = pneumothorax_ml if isinstance(pneumothorax_ml, Mapping) else {pneumothorax_side: pneumothorax_ml}
    volumes = {side: float(ml) for side, ml in volumes.items() if ml}
    canvas = _Canvas(grid or DEFAULT_GRID)
    hila = _body(canvas, person, rng)
    for side, ml in volumes.items():
        _carve_air(canvas, person, ml, side, posture)
    canvas.paint(_lung_vessels(person, hila))
    amounts = np.array([7.0, 26.0 + 30 * person.emphysema, 45.0])  # ours: HU in soft tissue, lung, bone
    args = canvas.zs, canvas.origin, canvas.step, amounts, person.seed
    add_texture(canvas.hu, canvas.lung, canvas.labels, *args)
    if noise_hu:
        canvas.hu += noise_hu * rng.standard_normal(canvas.hu.shape, dtype=np.float32)
    hu = np.round(canvas.hu).clip(-1024, 3071).astype(np.int16)
    truth = asdict(person) | _truth(canvas) | {"pneumothorax_ml": float(sum(volumes.values()))}
    if volumes:
        truth |= {"pneumothorax_side": " and ".join(volumes), "posture": posture}
        truth |= {f"pneumothorax_{side}_ml": volumes.get(side, 0.0) for side in ("right", "left")}
    return Phantom(volume=Volume(hu=hu, grid=grid or DEFAULT_GRID, source="phantom"), labels=canvas.labels, truth=truth)


def _truth(canvas: _Canvas) -> dict:
    """Volumes (ml) of the lungs, soft borders included, within the grid."""
    middle = int(np.searchsorted(canvas.origin[0] + canvas.step[0] * np.arange(canvas.lung.shape[2]), 2.0))
    sums = canvas.lung.sum((0, 1), dtype=np.float64) * canvas.voxel_ml
    return {"lung_right_ml": float(sums[:middle].sum()), "lung_left_ml": float(sums[middle:].sum())}
