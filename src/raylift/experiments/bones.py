"""Figures of bones in three dimensions: renderings, surface errors, stitched spines, edges, angles between views."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from scipy import ndimage

from raylift.data.phantom.anatomy import VERTEBRAE
from raylift.evaluate import BODY_HU, EVERY
from raylift.experiments.context import Context
from raylift.experiments.figures import SHOWN_HU
from raylift.io.mesh import Mesh
from raylift.metrics import assd, hd95, signed_surface_distance
from raylift.report.experiment import Picture
from raylift.report.plots import Tile, lines, panels
from raylift.report.render3d import Part, render
from raylift.segment.stitch import largest
from raylift.segment.surface import distances_to, surface
from raylift.types import Grid

IVORY = np.array([0.93, 0.89, 0.80])
LEAST = 27  # voxels; ours: a cube of three
PITCH_MM = 30.0  # ours: from one level to the next in a picture of all
ENDS_MM = 6.0  # EAR Figs. 7 and 8: about -6 to 4 mm
VIEWS = ("front", "left", "oblique")


def bone(hu: np.ndarray) -> np.ndarray:
    """The largest connected part above BODY_HU, bool, all False where there is none: these cubes hold bone and air."""
    mask = hu > BODY_HU
    return largest(mask) if mask.any() else mask


def parts_of(hu: np.ndarray) -> np.ndarray:
    """What is above BODY_HU without crumbs of fewer than LEAST voxels, bool."""
    labels, _ = ndimage.label(hu > BODY_HU)
    sizes = np.bincount(labels.ravel())
    kept = sizes >= LEAST
    kept[0] = False
    return kept[labels]


def _picture(mesh: Mesh, colour: np.ndarray, view: str, box_mm) -> Tile:
    pixels = render([Part(mesh=mesh, colour=colour)], view, box_mm=box_mm)
    return Tile(pixels=pixels)


def _box(grid: Grid, share: float = 1.0) -> np.ndarray:
    """The cube's two corners, or those of its middle part."""
    centre, half = grid.centre_mm, np.array(grid.spacing_mm) * np.array(grid.shape) / 2 * share
    return np.stack([centre - half[::-1], centre + half[::-1]])


def renderings(context: Context) -> list[Picture]:
    """Surfaces of the truth and each row from three sides, an enlarged part, and the three planes (3DSRNet 6 to 8)."""
    case, grid, n = context.cases()[0], context.grid(), context.size.voxels // 2
    rows: dict[str, list[Tile | None]] = {}
    for label in ["truth", *context.labels()]:
        hu = context.hu(label, case)
        flat = [Tile(pixels=p, limits=SHOWN_HU) for p in (hu[n], hu[:, n], hu[:, :, n])]
        mask = parts_of(hu)
        solid: list[Tile | None] = [None] * (len(VIEWS) + 1)
        if mask.sum() > 8:
            mesh = surface(mask, grid)
            solid = [_picture(mesh, IVORY, view, _box(grid)) for view in VIEWS]
            solid.append(_picture(mesh, IVORY, "oblique", _box(grid, 0.4)))
        rows[label if mask.any() else f"{label}\n(no bone)"] = [*solid, *flat]
    columns = [*VIEWS, "enlarged", "axial", "coronal", "sagittal"]
    return [Picture(title=f"Bone above {BODY_HU:g} HU, {case}", png=panels(rows, columns))]


def heat(values_mm: np.ndarray) -> np.ndarray:
    """Colours (n, 3) of signed distances, blue outside the truth, red inside, as EAR has them."""
    return colormaps["RdYlBu"](0.5 + values_mm / (2 * ENDS_MM))[:, :3]


def surface_errors(context: Context) -> list[Picture]:
    """Each row's surface, coloured by its signed distance to the true one (EAR Figs. 7 and 8), and the mean numbers."""
    grid, rows = context.grid(), {}
    chosen = context.cases()[:3]
    for label in context.labels():
        tiles: list[Tile | None] = []
        for case in chosen:
            mask, true = bone(context.volume(label, case)), bone(context.truth(case))
            if mask.sum() <= 8 or not true.any():
                tiles += [None, None]
                continue
            mesh = surface(mask, grid)
            colours = heat(distances_to(mesh, true, grid))
            tiles += [_picture(mesh, colours, view, _box(grid)) for view in ("front", "oblique")]
        rows[f"{label}\n{_distances(context, label)}"] = tiles
    columns = [f"{case}, {view}" for case in chosen for view in ("front", "oblique")]
    title = (
        f"Signed surface distance: red inside the truth, blue outside, ends ± {ENDS_MM:g} mm; bone above {BODY_HU:g} HU"
    )
    return [Picture(title=title, png=panels(rows, columns))]


def _distances(context: Context, label: str) -> str:
    """Means over the cases of ASSD, HD95 and the signed distance, mm; cases without bone are counted."""
    found = [surface_numbers(context.volume(label, c), context.truth(c), context.grid()) for c in context.cases()]
    known = np.array([numbers for numbers in found if numbers is not None])
    if not len(known):
        return "no bone in any case"
    lacking = f", {len(found) - len(known)} without bone" if len(known) < len(found) else ""
    mean, far, signed = known.mean(0)
    return f"ASSD {mean:.2f}, HD95 {far:.2f}, signed {signed:+.2f} mm{lacking}"


def surface_numbers(hu: np.ndarray, truth: np.ndarray, grid: Grid) -> tuple[float, float, float] | None:
    """ASSD, HD95 and mean signed distance of the bones' surfaces, mm; None where either has no bone."""
    a, b = bone(hu), bone(truth)
    if not a.any() or not b.any():
        return None
    spacing = tuple(float(s) for s in grid.spacing_mm)
    return assd(a, b, spacing), hd95(a, b, spacing), signed_surface_distance(a, b, spacing)


def stitched(context: Context) -> list[Picture]:
    """Single-vertebra results of one row after the other put on top of one another, T10 to L5, coloured by level, and
    T11, L2 and L5 apart (EAR Figs. 5 and 6); phantoms of different bodies, so the column is not one person's.
    """
    grid, levels = context.grid(), [level for level in VERTEBRAE if VERTEBRAE.index(level) >= VERTEBRAE.index("T10")]
    cases = {level: _case_of(context, level) for level in levels}
    present = [level for level in levels if cases[level] is not None]
    title = f"Stitched spine of {', '.join(present)}, then single vertebrae"
    if not present:
        return [Picture(title=title, note="no case of T10 to L5 is among those judged")]
    rows, apart = {}, [level for level in ("T11", "L2", "L5") if cases[level] is not None]
    for label in ["truth", *context.labels()]:
        parts, singles = _column(context, label, cases, present), []
        for level in apart:
            mask = bone(context.hu(label, cases[level]))
            singles.append(_picture(surface(mask, grid), IVORY, "oblique", _box(grid)) if mask.sum() > 8 else None)
        spines = [Tile(pixels=render(parts, view)) for view in ("front", "left")] if parts else [None, None]
        rows[label] = [*spines, *singles]
    return [Picture(title=title, png=panels(rows, ["front", "left", *apart]))]


def _case_of(context: Context, level: str) -> str | None:
    """The first judged case of a level: they are drawn from L5 upwards, in turn."""
    for number, case in enumerate(context.cases()):
        if VERTEBRAE[-1 - number % len(VERTEBRAE)] == level:
            return case
    return None


def _column(context: Context, label: str, cases: Mapping[str, str | None], levels: Sequence[str]) -> list[Part]:
    """Each level's surface, coloured, hung below the one above it."""
    parts, z = [], 0.0
    for k, level in enumerate(levels):
        mask = bone(context.hu(label, cases[level]))
        if mask.sum() <= 8:
            continue
        mesh = surface(mask, context.grid())
        moved = Mesh(vertices_mm=mesh.vertices_mm + np.array([0.0, 0.0, z]), faces=mesh.faces)
        parts.append(Part(mesh=moved, colour=np.array(colormaps["tab10"](k % 10)[:3])))
        z -= PITCH_MM
    return parts


def edge_maps(context: Context) -> list[Picture]:
    """The edge attention map in three planes, three cases, of each row that has one (EAR Fig. 9)."""
    n, rows = context.size.voxels // 2, {}
    for label in context.labels():
        for case in context.cases()[:3]:
            found = context.outputs(label, case).get("edge_map")
            if found is None:
                break
            edges = found[0, 0].float().numpy()
            ends = (float(edges.min()), float(max(edges.max(), edges.min() + 1e-6)))
            cuts = (edges[n], edges[:, n], edges[:, :, n])
            truth = context.truth(case)
            tiles = [Tile(pixels=truth[n], limits=SHOWN_HU)]
            rows[f"{label}, {case}"] = [*tiles, *(Tile(pixels=p, limits=ends, colours="jet") for p in cuts)]
    title = "Edge attention maps, each on its own scale"
    if not rows:
        return [Picture(title=title, note="no row has an edge attention module")]
    return [Picture(title=title, png=panels(rows, ["truth, axial", "axial", "coronal", "sagittal"]))]


def without(label: str, other: str) -> Callable[[Context], list[Picture]]:
    """What a module changes: `label`'s result minus `other`'s, and how much nearer it is to the truth (EAR Fig. 10)."""

    def draw(context: Context) -> list[Picture]:
        title = f"{label} minus {other}"
        if not {label, other} <= set(context.labels()):
            return [Picture(title=title, note=f"{label} or {other} failed; see the table")]
        n, rows = context.size.voxels // 2, {}
        for case in context.cases()[:3]:
            a, b, truth = context.volume(label, case), context.volume(other, case), context.truth(case)
            ends = (-300.0, 300.0)  # HU, ours
            tiles = [Tile(pixels=x[n], limits=SHOWN_HU) for x in (truth, b, a)]
            tiles.append(Tile(pixels=(a - b)[n], limits=ends, colours="RdBu_r"))
            tiles.append(Tile(pixels=(np.abs(b - truth) - np.abs(a - truth))[n], limits=ends, colours="RdBu_r"))
            rows[case] = tiles
        columns = ["truth", other, label, "difference", "error that is gone"]
        return [Picture(title=title, png=panels(rows, columns, scale="HU; red: more, or nearer to the truth"))]

    return draw


def over_angles(context: Context) -> list[Picture]:
    """Metrics and surface distance against the angle between the views, one training each (EAR Fig. 11)."""
    found = []
    for row in context.comparison.rows:
        if row.label in context.parts and row.scores is not None and not row.refined:
            found.append((angle_of(row.label), row.mean("psnr"), row.mean("ssim"), mean_assd(context, row.label)))
    title = "Angle between the views, a training for each"
    if len(found) < 2:
        return [Picture(title=title, note="fewer than two angles were trained")]
    degrees, *values = zip(*sorted(found), strict=True)
    names = (EVERY["psnr"][0], EVERY["ssim"][0], "ASSD (mm)")
    series = {name: {"ear": value} for name, value in zip(names, values, strict=True)}
    return [Picture(title=title, png=lines(degrees, series, along="degrees between the views"))]


def angle_of(label: str) -> float:
    """The angle in a row's name.

    >>> angle_of("ear at 60")
    60.0
    """
    return float(label.rsplit(" ", 1)[1])


def mean_assd(context: Context, label: str) -> float | None:
    """The row's mean ASSD over the cases that have bone, mm; None where none has."""
    own = context.parts[label]
    found = [surface_numbers(own.volume(label, case), own.truth(case), own.grid()) for case in own.cases()]
    known = [numbers[0] for numbers in found if numbers is not None]
    return float(np.mean(known)) if known else None
