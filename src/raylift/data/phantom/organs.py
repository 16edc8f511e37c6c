"""The soft parts of a torso as shapes: limbs, heart and vessels, airways, abdomen, the lungs' vessel trees."""

import numpy as np
from numpy.random import Generator

from raylift.data.phantom.anatomy import Anatomy
from raylift.data.phantom.bones import girdle
from raylift.data.phantom.shapes import capsule, capsules, ellipsoid, moved, shrunk, tube, turn


def limbs(person: Anatomy, rng: Generator):
    """Skin-deep outlines of shoulders, arms, breasts and head (fat), and of their muscles."""
    skin, muscle = [], []
    layer = 0.35 * person.fat_mm
    for side in (-1, 1):
        spots = girdle(person, side)
        shoulder, elbow = spots["shoulder"], spots["elbow"]
        root = np.array([side * 60, shoulder[1] - 5, person.apex_z + 12])
        thick = person.muscle_mm / 22
        parts = [
            capsule(root, shoulder, 40 * thick, 36 * thick),
            capsule(shoulder, elbow, 37 * thick, 30 * thick),
            capsule(elbow, spots["hand"], 31 * thick, 22 * thick),
        ]
        flank = np.array([side * 0.8 * person.chest_wide, shoulder[1] + 6, person.apex_z - 105 * person.stature])
        parts.append(capsule(moved(shoulder, -side * 16, 0, -12), flank, 32 * thick, 18))
        muscle += parts
        skin += shrunk(parts, -layer - 2)
    if person.female:
        _, deep, centre = person.cage(-10.0, 0.4)
        size = rng.uniform(22, 44) + 0.4 * person.fat_mm
        for side in (-1, 1):
            spot = [side * rng.uniform(70, 85), centre - deep - 12, rng.uniform(-35, 5)]
            skin.append(ellipsoid(spot, (1.35 * size, 0.62 * size, 1.2 * size)))
    return skin, muscle


def heart(person: Anatomy):
    """Fat around the heart, its muscle, and its chambers."""
    a = person.heart_mm
    _, deep, centre = person.cage(person.dome_left_z + 40, 0.4)
    middle = np.array([person.heart_x, centre - 0.30 * deep, person.dome_left_z + 0.50 * a])
    frame = turn(0, person.heart_turn_deg * 0.7, 0) @ turn(0, 0, -0.6 * person.heart_turn_deg)
    right = moved(middle, -0.42 * a, 4, 0.1 * a)
    wall = [
        ellipsoid(middle, (a, 0.70 * a, 0.66 * a), frame),
        ellipsoid(right, (0.55 * a, 0.58 * a, 0.70 * a)),
        ellipsoid(moved(middle, 0, 22, 0.25 * a), (0.62 * a, 0.45 * a, 0.5 * a)),
    ]
    chambers = [
        ellipsoid(moved(middle + 0.25 * a * frame[0], 0, 6, 0), (0.55 * a, 0.33 * a, 0.36 * a), frame),
        ellipsoid(moved(right, 0, -4, 0), (0.42 * a, 0.46 * a, 0.58 * a)),
        ellipsoid(moved(middle, 2, 24, 0.27 * a), (0.5 * a, 0.34 * a, 0.38 * a)),
    ]
    return shrunk(wall, -4.0), wall, chambers, middle


def great_vessels(person: Anatomy, middle):
    """Blood of aorta, caval veins and the pulmonary trunk with its main branches; and each hilum's position."""
    r, top, s = person.aorta_mm, person.apex_z, person.stature
    arch_z = top - 62 * s
    carina = arch_z - 38 * s
    zs = np.linspace(arch_z - 12, person.base_z - 120, 9)
    x, y = person.spine(zs)
    left = np.interp(zs, [-160, 0], [5, 24])
    down = np.stack([x + left, y - 14 - np.interp(zs, [-160, 0], [10, 0]), zs], -1)
    start = moved(middle, -12, 2, 0.45 * person.heart_mm)
    front = [start, [-16, start[1] - 10, carina + 8], [-8, start[1] - 2, arch_z - 4]]
    arch = [[6, 0.6 * start[1] + 0.4 * y[0], arch_z + 8], [18, 0.25 * start[1] + 0.75 * y[0], arch_z + 4], *down]
    aorta = tube([*front, *arch], np.linspace(1.12 * r, 0.72 * r, 5 + len(down)))
    _, neck_y = person.spine(top + 30)
    branches = tube([[-4, start[1] + 12, arch_z + 4], [-20, neck_y - 40, top - 6], [-30, neck_y - 34, top + 60]], 6.5)
    branches += tube([[10, start[1] + 24, arch_z + 4], [24, neck_y - 36, top - 4], [28, neck_y - 32, top + 60]], 5.5)
    cava = tube([[-26, neck_y - 42, top - 20], [-27, start[1] + 4, arch_z - 10], moved(middle, -32, 4, 6)], 9.5)
    cava += tube([[-22, middle[1] + 22, middle[2]], [-26, y[4], zs[4]], [-24, y[-1] - 22, zs[-1]]], 11)
    spots = {side: np.array([side * 38 + 3, y[0] - 38, carina - (10 if side < 0 else 2)]) for side in (-1, 1)}
    trunk = tube(
        [moved(middle, 10, -16, 0.4 * person.heart_mm), [14, start[1] + 2, carina - 12], spots[1]], [14, 13, 9]
    )
    trunk += tube([[12, start[1] + 8, carina - 14], spots[-1]], [12, 9])
    return aorta, branches + cava + trunk, spots, carina


def airways(person: Anatomy, hila, carina: float):
    """Air of the trachea and the main bronchi."""
    z = np.array([person.apex_z + 110, person.apex_z, carina])
    y = person.spine(z)[1] - np.array([34, 28, 30])
    points = np.stack([[0, 0, 3], y, z], -1)
    shapes = tube(points, 8.4 * person.stature)
    for side in (-1, 1):
        low = moved(hila[side], side * 22, 8, -38)
        shapes += tube([points[-1], moved(hila[side], 0, 8, -8), low], [7.0, 5.6, 3.2])
        shapes += tube([moved(hila[side], 0, 8, -8), moved(hila[side], side * 24, -4, 14)], [4.4, 2.6])
    return shapes


def mediastinum(person: Anatomy, middle, carina: float):
    """The fat between the lungs: around vessels, before and beside the spine."""
    top = person.apex_z
    z = np.linspace(top + 30, person.base_z - 10, 9)
    x, y = person.spine(z)
    shapes = tube(np.stack([x, y - 20, z], -1), 19) + tube(np.stack([x, y + 2, z], -1), 22)
    shapes += tube([[-4, y[0] - 40, top + 10], [-4, middle[1] + 12, carina + 10], middle], [27, 29, 30])
    front = person.cage(carina, 0.4)
    edge = front[2] - front[1]
    shapes += tube([[0, edge + 2, carina + 20], [4, edge + 6, middle[2]]], [9, 11])
    return shapes


def vessel_tree(rng: Generator, root, side: int, *, radius: float, density: float, person: Anatomy) -> np.ndarray:
    """Tubes that branch from a hilum towards the lung's surface; what leaves the lung is not painted."""
    ways = np.array([[0.3, 0.4, -1.0], [1.0, -0.4, -0.5], [0.7, 0.5, 0.5], [0.5, -0.2, 1.0], [1.0, 0.7, -0.2]])
    ways[:, 0] *= side
    start = np.repeat(np.asarray(root, float)[None], len(ways), 0)
    way = ways / np.linalg.norm(ways, axis=1, keepdims=True)
    r, length, tubes = radius * np.array([1.0, 0.9, 0.8, 0.8, 0.85]), np.full(len(ways), 27.0), []
    while len(r):  # a generation at a time
        end = start + way * (length * rng.uniform(0.7, 1.3, len(r)))[:, None]
        tubes.append(capsules(start, end, r, 0.82 * r))
        x, z = end[:, 0], end[:, 2]
        inside = (person.base_z + 30 < z) & (z < person.apex_z) & (side * x > 8)
        on = (r >= 0.6) & inside & (np.abs(x) < 1.05 * person.chest_wide)
        end, way, r = end[on], way[on], r[on]
        shares = np.stack([np.full(len(r), 0.88), rng.uniform(0.5, 0.72, len(r))])
        turned = way + rng.normal(0, 1, (2, len(r), 3)) * np.array([0.42, 0.8])[:, None, None]
        way = (turned / np.linalg.norm(turned, axis=2, keepdims=True)).reshape(-1, 3)
        start, length = np.tile(end, (2, 1)), np.tile(np.maximum(length[on] * 0.82, 8 / density), 2)
        r = (shares * r).ravel()
    return np.concatenate(tubes)


def abdomen(person: Anatomy, rng: Generator):
    """Groups (shapes, what they are) of the abdomen: bowel, stomach and its gas, spleen, kidneys, liver's vessels."""
    wide, deep, centre = person.cage(person.dome_left_z - 50)
    dome = person.dome_left_z
    spine_y = float(person.spine(dome - 60)[1])
    level = rng.uniform(0.1, 0.55)
    size = rng.uniform(30, 46)
    spot = np.array([0.50 * wide, centre - 0.22 * deep, dome - size - 6])
    axes, frame = (1.15 * size, 1.1 * size, 1.05 * size), turn(0, 25, 0)
    inner = tuple(a - 4 for a in axes)
    cut = (0, 0, -1, -(spot[2] + level * size)) if person.upright else (0, 1, 0, spot[1] - level * size)
    groups = {"stomach": [ellipsoid(spot, axes, frame)], "gas": [ellipsoid(spot, inner, frame, cut)]}
    groups["spleen"] = [
        ellipsoid([0.74 * wide, centre + 0.42 * deep, dome - 52], (24, 40, rng.uniform(42, 60)), turn(20, 12, -25))
    ]
    groups["kidneys"] = [
        ellipsoid([side * 56, spine_y - 4, dome - (118 if side > 0 else 130)], (26, 23, 54), turn(-12, side * 12, 0))
        for side in (-1, 1)
    ]
    bowel, bubbles = [], []
    for _ in range(46):
        z = dome - rng.uniform(70, 330)
        w, d, c = person.cage(z)
        angle, share = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.8) ** 0.5
        point = np.array([0.85 * share * w * np.cos(angle), c - 0.2 * d + 0.6 * share * d * np.sin(angle), z])
        radius = rng.uniform(14, 26)
        bowel.append(ellipsoid(point, (1.3 * radius, radius, radius), turn(*rng.uniform(0, 180, 3))))
        if rng.random() < 0.18:
            rise = [0, 0, 0.3 * radius] if person.upright else [0, -0.3 * radius, 0]
            bubbles.append(ellipsoid(point + rise, rng.uniform(0.35, 0.65, 3) * radius))
    groups |= {"bowel": bowel, "bubbles": bubbles}
    return groups


def erector_muscles(person: Anatomy):
    """The muscles beside the spine, and the psoas, that bulge into the cavity's fat."""
    z = np.linspace(-110, -380, 5)
    x, y = person.spine(z)
    return [
        s
        for side in (-1, 1)
        for s in tube(np.stack([x + side * np.linspace(26, 52, 5), y, z], -1), [9, 15, 20, 22, 24])
    ]
