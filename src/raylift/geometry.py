"""Where the source, the panel and the patient stand: presets of beams, and a volume's way into the canonical frame.

LPS millimetres. A beam made here is centred on the isocentre, LPS 0 unless said otherwise.
"""

from dataclasses import replace
from math import cos, radians, sin

import numpy as np

from raylift.errors import GeometryError, unknown_name
from raylift.types import Beam, ConeBeam, Grid, ParallelBeam, Vector, View, Volume

UP = np.array([0.0, 0.0, 1.0])

# where the panel stands, seen from the isocentre, and where the picture's columns grow
POSES: dict[View, tuple[Vector, Vector]] = {
    View.PA: ((0, -1, 0), (1, 0, 0)),
    View.AP: ((0, 1, 0), (1, 0, 0)),
    View.LAT: ((1, 0, 0), (0, 1, 0)),
    View.RLAT: ((-1, 0, 0), (0, 1, 0)),
}


def _turn(axis, degrees: float) -> np.ndarray:
    """The matrix that turns by `degrees` about `axis`, counter-clockwise seen from its tip (Rodrigues)."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = radians(degrees)
    return np.eye(3) + sin(angle) * cross + (1 - cos(angle)) * cross @ cross


def _frame(view: View, primary_deg: float, secondary_deg: float):
    """Unit vectors to the panel, along the columns and along the rows of `view`, turned by the two angles."""
    to_panel, columns = (np.array(v, float) for v in POSES[View(view)])
    tilt = _turn(np.cross(to_panel, UP), secondary_deg)
    rotation = _turn(UP, primary_deg) @ tilt
    return (np.round(rotation @ v, 15) + 0.0 for v in (to_panel, columns, -UP))


def cone_beam(
    view: View,
    *,
    source_to_detector_mm: float,
    source_to_axis_mm: float,
    detector_mm: float | tuple[float, float],
    pixels: int | tuple[int, int],
    primary_deg: float = 0.0,
    secondary_deg: float = 0.0,
    detector_offset_mm: tuple[float, float] = (0.0, 0.0),
    isocentre_mm: Vector = (0.0, 0.0, 0.0),
) -> ConeBeam:
    """The beam of a named pose about the isocentre.

    `primary_deg` turns the panel from the front to the patient's left (DICOM's LAO), `secondary_deg` to the head
    (CRA); `detector_offset_mm` shifts the panel along its rows and columns, the source stays.

    >>> cone_beam(View.PA, source_to_detector_mm=1800, source_to_axis_mm=1500, detector_mm=430, pixels=256).source_mm
    (0.0, 1500.0, 0.0)
    """
    if not 0 < source_to_axis_mm <= source_to_detector_mm:
        raise GeometryError(
            f"the axis must lie between source and detector: {source_to_axis_mm} of {source_to_detector_mm} mm"
        )
    to_panel, columns, rows = _frame(view, primary_deg, secondary_deg)
    size, count = np.broadcast_to(detector_mm, 2), np.broadcast_to(pixels, 2)
    centre = (source_to_detector_mm - source_to_axis_mm) * to_panel
    centre = centre + detector_offset_mm[0] * rows + detector_offset_mm[1] * columns
    return ConeBeam(
        source_mm=tuple(isocentre_mm - source_to_axis_mm * to_panel),
        detector_centre_mm=tuple(isocentre_mm + centre),
        column_dir=tuple(columns),
        row_dir=tuple(rows),
        pixels=tuple(count.tolist()),
        pixel_mm=tuple((size / count).tolist()),
    )


def parallel_beam(
    view: View,
    *,
    detector_mm: float | tuple[float, float],
    pixels: int | tuple[int, int],
    axis_to_detector_mm: float = 1000.0,
    primary_deg: float = 0.0,
    secondary_deg: float = 0.0,
    isocentre_mm: Vector = (0.0, 0.0, 0.0),
) -> ParallelBeam:
    """Parallel rays of a named pose about the isocentre."""
    to_panel, columns, rows = _frame(view, primary_deg, secondary_deg)
    size, count = np.broadcast_to(detector_mm, 2), np.broadcast_to(pixels, 2)
    return ParallelBeam(
        ray_dir=tuple(to_panel),
        detector_centre_mm=tuple(isocentre_mm + axis_to_detector_mm * to_panel),
        column_dir=tuple(columns),
        row_dir=tuple(rows),
        pixels=tuple(count.tolist()),
        pixel_mm=tuple((size / count).tolist()),
    )


# source to detector, source to axis, side of the panel (all mm), pixels of the panel
CONE_PRESETS: dict[str, tuple[float, float, float, int]] = {
    "chest": (1800.0, 1500.0, 430.0, 256),  # ours: a chest stand
    "chest-224": (1800.0, 1500.0, 500.0, 448),  # ours: the same for a 358 mm cube
    "x2ct": (949.0, 541.0, 500.0, 320),  # X2CT-GAN, original code
    "xctnet-paper": (400.0, 200.0, 409.6, 512),  # XctNet 3.1: 400 mm, 0.8 mm pixels; 200 mm to the axis
    "xctnet-code": (500.0, 250.0, 1280.0, 512),  # XctNet's DRR tool: 500 mm, 2.5 mm pixels
    "ear": (1020.0, 530.0, 297.984, 384),  # EAR states no distances: DeepDRR's mobile C-arm, 4 x 4 pixels as one
}


def preset_beam(view: View, preset: str = "chest", *, pixels: int | None = None, **turns) -> ConeBeam:
    """The beam of `view` in a named geometry; `pixels` bins the panel, `turns` are those of `cone_beam`."""
    if preset not in CONE_PRESETS:
        raise unknown_name("geometry preset", preset, CONE_PRESETS)
    to_detector, to_axis, side, count = CONE_PRESETS[preset]
    return cone_beam(
        view,
        source_to_detector_mm=to_detector,
        source_to_axis_mm=to_axis,
        detector_mm=side,
        pixels=pixels or count,
        **turns,
    )


def chest_view(view: View, *, pixels: int = 256, **turns) -> ConeBeam:
    """The chest geometry: 1800 mm to the panel, 1500 mm to the axis, a panel of 430 mm."""
    return preset_beam(view, "chest", pixels=pixels, **turns)


def canonical(volume: Volume) -> Volume:
    """`volume` with its axes turned and flipped to come nearest to D feet, H back, W left; no voxel is resampled.

    What remains of an oblique grid stays in the affine.
    """
    directions = volume.grid.affine[:3, :3] / volume.grid.spacing_mm  # LPS rows; columns are the array's axes
    wanted = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], float)  # columns: feet, back, left
    score = wanted.T @ directions  # canonical axis x array axis
    order, flips = [0, 0, 0], [False] * 3
    rest = np.abs(score)
    for _ in range(3):
        axis, source = np.unravel_index(np.argmax(rest), (3, 3))
        order[axis], flips[axis] = int(source), bool(score[axis, source] < 0)
        rest[axis, :] = rest[:, source] = -1
    hu = volume.hu.transpose(order)
    affine = np.eye(4)
    affine[:3, :3] = volume.grid.affine[:3, order]
    affine[:3, 3] = volume.grid.affine[:3, 3]
    for axis in range(3):
        if flips[axis]:
            affine[:3, 3] += affine[:3, axis] * (hu.shape[axis] - 1)
            affine[:3, axis] *= -1
    hu = np.flip(hu, [axis for axis in range(3) if flips[axis]])
    return replace(volume, hu=np.ascontiguousarray(hu), grid=Grid(hu.shape, affine))


def is_upright(grid: Grid, tolerance_deg: float = 0.05) -> bool:
    """True where the grid's axes run to the feet, the back and the patient's left."""
    directions = grid.affine[:3, :3] / grid.spacing_mm
    along = (directions * np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])).sum(0)
    return bool((along > cos(radians(tolerance_deg))).all())


def depth_along(beam: Beam, points_mm) -> np.ndarray | float:
    """How far before the panel's plane the points (..., 3) lie, mm; negative behind it."""
    normal = np.cross(beam.column_dir, beam.row_dir)
    towards = (
        np.subtract(beam.source_mm, beam.detector_centre_mm)
        if isinstance(beam, ConeBeam)
        else -np.asarray(beam.ray_dir)
    )
    normal = normal * np.sign(np.dot(normal, towards))
    return (np.asarray(points_mm, float) - beam.detector_centre_mm) @ normal


def shadow(beam: Beam, points_mm) -> np.ndarray:
    """Where points (..., 3) appear on the panel: fractional (row, column) of the pixel grid, (..., 2)."""
    points = np.asarray(points_mm, float)
    normal = np.cross(beam.column_dir, beam.row_dir)
    if isinstance(beam, ConeBeam):
        ray = points - beam.source_mm
        start = np.asarray(beam.source_mm)
    else:
        ray, start = np.broadcast_to(beam.ray_dir, points.shape), points
    reach = np.dot(np.asarray(beam.detector_centre_mm) - start, normal) / (ray @ normal)
    hit = start + ray * np.expand_dims(reach, -1) - beam.detector_centre_mm
    row = hit @ np.asarray(beam.row_dir) / beam.pixel_mm[0] + (beam.pixels[0] - 1) / 2
    column = hit @ np.asarray(beam.column_dir) / beam.pixel_mm[1] + (beam.pixels[1] - 1) / 2
    return np.stack([row, column], -1)


def support(cube: Grid, beams, *, spacing_mm: float, body_mm=(560.0, 400.0)) -> Grid:
    """An upright grid that holds the cube and all that the beams' rays can cross of a body.

    `body_mm` is the largest body reckoned with, left to right and front to back; along the body's axis the grid
    reaches as far as the rays do. The cube's own voxel centres are among its centres where `spacing_mm` is the
    cube's spacing. Rays that leave it hit air.
    """
    centre, half = cube.centre_mm, np.array([body_mm[0], body_mm[1], 0.0]) / 2
    reach_z = 0.0
    for beam in beams:
        panel = beam.pixel_centres_mm()[[0, 0, -1, -1], [0, -1, 0, -1]]
        if isinstance(beam, ConeBeam):
            source = np.asarray(beam.source_mm)
            for corner in panel:  # where the outermost rays leave the body's box, seen from above
                along = corner - source
                steps = [(np.sign(along[k]) * half[k] + centre[k] - source[k]) / along[k] for k in (0, 1) if along[k]]
                far = min(1.0, max(min(steps), 0.0)) if steps else 1.0
                reach_z = max(reach_z, abs(source[2] + far * along[2] - centre[2]))
        else:
            reach_z = max(reach_z, np.abs(panel[:, 2] - centre[2]).max())
    half[2] = reach_z
    edge = np.abs(cube.corners_mm - centre).max(0)  # x, y, z
    need = np.maximum(half, edge)[[2, 1, 0]]  # d, h, w
    count = np.array(cube.shape) * np.array(cube.spacing_mm) / spacing_mm
    extra = np.ceil((2 * need / spacing_mm - count) / 2).clip(0)
    return Grid.canonical(tuple((np.round(count) + 2 * extra).astype(int)), spacing_mm, tuple(centre))
