"""The skeleton of a torso as shapes: spine, ribs, sternum, shoulder girdle, arms, pelvis, head."""

import numpy as np

from raylift.data.phantom.anatomy import VERTEBRAE, Anatomy
from raylift.data.phantom.shapes import capsule, cylinder, ellipsoid, moved, shrunk, tube

# per vertebra T1..L5, in parts of T8: pitch along the spine, half width, half depth of the body, spinous process'
# length and slope, transverse process' half span (ours, after the proportions of anatomical atlases)
PITCH = np.array([0.83, 0.84, 0.86, 0.89, 0.92, 0.95, 0.98, 1.0, 1.04, 1.1, 1.17, 1.25, 1.36, 1.42, 1.46, 1.48, 1.46])
WIDTH = np.array([0.96, 0.9, 0.86, 0.86, 0.88, 0.92, 0.96, 1.0, 1.05, 1.12, 1.2, 1.28, 1.34, 1.4, 1.46, 1.52, 1.58])
DEPTH = np.array([0.62, 0.68, 0.74, 0.8, 0.86, 0.9, 0.95, 1.0, 1.03, 1.05, 1.06, 1.06, 1.08, 1.1, 1.12, 1.12, 1.12])
SPINOUS_MM = np.array([32, 32, 32, 33, 34, 34, 34, 33, 31, 29, 27, 26, 29, 30, 31, 30, 26])
SPINOUS_DOWN = np.array([0.3, 0.4, 0.6, 0.8, 1, 1.1, 1.1, 1, 0.8, 0.6, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.15])
TRANSVERSE_MM = np.array([36, 34, 32, 31, 31, 31, 30, 30, 28, 26, 22, 20, 34, 38, 42, 40, 40])
T8_PITCH_MM = 23.5  # ours


def frame_along(tangent) -> np.ndarray:
    """Rows: left, back, up of a vertebra whose spine runs along `tangent`."""
    up = np.asarray(tangent, float) / np.linalg.norm(tangent)
    left = np.array([1.0, 0, 0]) - up[0] * up
    left /= np.linalg.norm(left)
    return np.stack([left, np.cross(up, left), up])


def vertebra_parts(level: int, centre, frame, half_mm: float, pitch_mm: float):
    """Body, and arch with processes, of vertebra number `level` (0 is T1) as shapes; `half_mm` is T8's half width."""
    wide, deep = half_mm * WIDTH[level], 0.82 * half_mm * DEPTH[level] * 1.02
    scale = half_mm / 17

    def at(left, back, up):
        return np.asarray(centre) + np.array([left, back, up]) @ frame

    body = [cylinder(centre, (wide, deep, 0.40 * pitch_mm), frame)]
    canal = deep + 16 * scale
    length, down = SPINOUS_MM[level] * scale, SPINOUS_DOWN[level] * 20 * scale
    base, tip = at(0, canal, -3), at(0, canal + 0.75 * length, -4 - down)
    arch = [capsule(base, tip, 3.6 * scale, 3.2 * scale, tall=1.5)]
    for side in (-1, 1):
        root, corner = at(side * 0.62 * wide, 0.7 * deep, 3), at(side * 11.5 * scale, deep + 9 * scale, 2)
        span = TRANSVERSE_MM[level] * scale
        arch += [
            capsule(root, corner, 3.6 * scale, tall=1.4),  # pedicle
            capsule(corner, base, 3.2 * scale, tall=1.7),  # lamina
            capsule(corner, at(side * span, deep + 14 * scale, 4), 4.0 * scale, 3.4 * scale),  # transverse process
            capsule(corner + 8 * frame[2], corner - 12 * frame[2], 4.0 * scale, 3.4 * scale),  # joint processes
        ]
    return body, arch


def spine_levels(person: Anatomy) -> list[tuple[str, np.ndarray, np.ndarray, float]]:
    """Name, centre (LPS mm), frame and pitch (mm) of each vertebra from T1 down to L5."""
    pitch = PITCH * T8_PITCH_MM * person.stature
    z = person.apex_z + 4 - np.concatenate([[0], np.cumsum((pitch[1:] + pitch[:-1]) / 2)])
    levels = []
    for k, name in enumerate(VERTEBRAE):
        (x0, x1), (y0, y1) = (np.asarray(v) for v in person.spine(np.array([z[k] - 5, z[k] + 5])))
        frame = frame_along((x1 - x0, y1 - y0, 10.0))
        levels.append((name, np.array([(x0 + x1) / 2, (y0 + y1) / 2, z[k]]), frame, float(pitch[k])))
    return levels


def spine(person: Anatomy):
    """Discs, bodies and arches of the spine from the neck to L5; the neck's vertebrae are plain."""
    levels = spine_levels(person)
    bodies, arches, discs = [], [], []
    for k, (_, centre, frame, pitch) in enumerate(levels):
        body, arch = vertebra_parts(k, centre, frame, person.vertebra_mm, pitch)
        bodies, arches = bodies + body, arches + arch
    points = np.array([centre for _, centre, _, _ in levels])
    half = person.vertebra_mm * DEPTH * 0.78
    discs += tube(points, half)
    top = points[0][2]
    for k in range(1, 8):
        z = top + 18.5 * k
        x, y = (float(v) for v in person.spine(z))
        centre = np.array([x, y, z])
        bodies.append(cylinder(centre, (13, 8.5, 7.5)))
        arches += [capsule(moved(centre, s * 12, 6, 0), moved(centre, 0, 28, -3), 3.4, tall=1.5) for s in (-1, 1)]
        arches += [capsule(moved(centre, s * 10, 2, 0), moved(centre, s * 24, 4, 0), 4.5) for s in (-1, 1)]
        discs.append(capsule(moved(centre, 0, 0, -10), moved(centre, 0, 0, 9), 9.0))
    return bodies, arches, discs


def rib_path(person: Anatomy, number: int, side: int, levels) -> tuple[np.ndarray, int]:
    """Points (n, 3) along rib `number` (1 to 12) from the spine to the front, and how many of them are bone."""
    start = levels[number - 1][1]
    end = np.interp(number, [1, 2, 7, 8, 10, 11, 12], [2.75, 2.85, 2.8, 2.55, 2.2, 1.5, 1.0])
    bony = np.interp(number, [1, 3, 5, 7, 8, 10, 11, 12], [2.45, 2.45, 2.3, 2.05, 1.95, 1.75, 1.5, 1.0])
    angles = np.linspace(0.32, end, 18)
    drop = np.interp(number, [1, 2, 6, 9, 12], [42, 58, 105, 110, 70]) * person.rib_drop * person.stature
    fall = drop * (1 - np.cos(np.minimum(angles, 2.3) / 2.3 * np.pi)) / 2
    rise = 26 * max(0, number - 4) * np.clip((angles - bony) / max(end - bony, 1e-6), 0, 1) ** 2 * (number < 11)
    z = start[2] + 6 - fall + 0.6 * rise
    wide, deep, centre = person.cage(z, 0.42)
    root = 2 / (person.shape_power)
    sine, cosine = np.sin(angles), np.cos(angles)
    x = side * (wide + 5) * sine**root
    y = centre + (deep + 5) * np.sign(cosine) * np.abs(cosine) ** root
    head = [[start[0] + side * 17, start[1] + 10, start[2] + 9], [start[0] + side * 30, start[1] + 23, start[2] + 7]]
    points = np.concatenate([head, np.stack([x, y, z], -1)])
    return points, 2 + int(np.searchsorted(angles, bony))


def ribs(person: Anatomy):
    """Ribs and their cartilages."""
    levels, bone, cartilage = spine_levels(person), [], []
    for number in range(1, 13):
        radius = np.interp(number, [1, 4, 10, 12], [4.4, 5.0, 4.8, 4.0]) * person.stature
        for side in (-1, 1):
            points, count = rib_path(person, number, side, levels)
            bone += tube(points[: count + 1], radius, tall=1.35)
            if number <= 10 and count + 1 < len(points):
                cartilage += tube(points[count:], radius * 1.05, tall=1.3)
    return bone, cartilage


def sternum(person: Anatomy) -> list[np.ndarray]:
    """Manubrium and body of the sternum."""
    z = person.apex_z - np.array([28, 62, 90, 128, 165]) * person.stature
    _wide, deep, centre = person.cage(z, 0.42)
    y = centre - deep - 4
    shapes = []
    for k, half in enumerate((25, 17, 16, 18)):
        middle = [0, (y[k] + y[k + 1]) / 2, (z[k] + z[k + 1]) / 2]
        frame = frame_along((0, y[k] - y[k + 1], z[k] - z[k + 1]))
        shapes.append(cylinder(middle, (half, 6.0, 0.5 * (z[k] - z[k + 1]) + 1), frame))
    return shapes


def girdle(person: Anatomy, side: int) -> dict[str, np.ndarray]:
    """Where the shoulder's landmarks of one side are: head of the humerus, elbow, end of the clavicle."""
    top, wide = person.apex_z, person.shoulder_wide
    y = float(person.spine(top)[1]) - 18
    lift = 22 if person.arms_up else 0
    shoulder = np.array([side * (wide - lift), y, top - 12 + 1.2 * lift])
    elbow = shoulder + ([side * 50, -60, 275] if person.arms_up else [side * (52 + person.fat_mm * 0.8), 18, -305])
    hand = elbow + ([-side * 90, 40, 190] if person.arms_up else [side * 5, -60, -230])
    return {"shoulder": shoulder, "elbow": elbow, "hand": hand}


def shoulder_bones(person: Anatomy) -> list[np.ndarray]:
    """Clavicles, scapulae and the arms' long bones."""
    shapes = []
    top = person.apex_z
    _, deep, centre = person.cage(top - 28 * person.stature, 0.42)
    for side in (-1, 1):
        spots = girdle(person, side)
        shoulder, elbow = spots["shoulder"], spots["elbow"]
        inner = np.array([side * 24, centre - deep - 4, top - 26 * person.stature])
        tip = moved(shoulder, -side * 14, 4, 26)
        middle = moved(0.55 * inner + 0.45 * tip, 0, -8, 6)
        shapes += tube([inner, middle, tip], [6.5, 5.0, 6.0])
        cage_wide, cage_deep, cage_centre = person.cage(top - 70, 0.42)
        blade = np.array([side * 0.78 * cage_wide, cage_centre + 0.80 * cage_deep + 8, top - 62 * person.stature])
        corners = [
            moved(shoulder, -side * 24, 14, -6),
            moved(blade, -side * 22, 10, 42),
            moved(blade, -side * 6, 10, -78),
        ]
        shapes += tube([*corners, corners[0]], 4.2)
        for t in np.linspace(0.15, 0.85, 6):  # the thin blade between its borders
            shapes.append(capsule(corners[1] * (1 - t) + corners[2] * t, corners[0] * (1 - t) + corners[2] * t, 2.2))
        shapes.append(capsule(moved(corners[1], 0, 8, -12), tip, 4.5))
        shapes.append(ellipsoid(shoulder, (23, 23, 24)))
        shapes.append(capsule(shoulder, elbow, 12.0, 11.0))
        shapes.append(capsule(elbow, spots["hand"], 12.0, 9.0))
    return shapes


def pelvis_and_head(person: Anatomy) -> list[np.ndarray]:
    """Iliac wings, sacrum and skull, for grids that reach so far."""
    _, lowest, frame, pitch = spine_levels(person)[-1]
    shapes = [ellipsoid(moved(lowest, 0, 22, -1.7 * pitch), (42, 18, 55), frame)]
    for side in (-1, 1):
        shapes += tube(
            [moved(lowest, side * 45, 30, -40), moved(lowest, side * 105, -5, 5), moved(lowest, side * 120, -60, -45)],
            7,
        )
        for t in (0.3, 0.6, 0.9):
            end = moved(lowest, side * (105 + 15 * t), -5 - 55 * t, 5 - 50 * t)
            shapes.append(capsule(end, moved(lowest, side * 75, 0, -120), 5.0))
    return shapes


def marrow(shapes, cortex_mm: float) -> list[np.ndarray]:
    """What lies inside a cortex of the given thickness."""
    return shrunk(shapes, cortex_mm)
