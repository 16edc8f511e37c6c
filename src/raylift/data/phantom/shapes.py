"""A list of shapes on its way into a volume: what `paint.py` needs, written in the words of anatomy."""

from dataclasses import dataclass, field

import numpy as np

from raylift.data.phantom.paint import CAPSULE, COLUMNS, CYLINDER, ELLIPSOID, OVER

NO_CUT = (0.0, 0.0, 0.0, 1e9)  # a plane's normal and offset: kept is where normal · point < offset


@dataclass
class Scene:
    """Groups of shapes in the order in which they are painted; a group has one HU and one label."""

    rows: list = field(default_factory=list)
    starts: list = field(default_factory=lambda: [0])
    tissue: list = field(default_factory=list)

    def group(self, shapes, hu: float, label: int, mode: int = OVER) -> None:
        """Add the shapes of one tissue."""
        self.rows.extend(shapes)
        self.starts.append(len(self.rows))
        self.tissue.append((float(hu), float(label), float(mode)))

    def arrays(self):
        """Shapes, where each group starts, and the groups' HU, label and mode."""
        rows = np.array(self.rows, np.float64).reshape(-1, COLUMNS)
        return rows, np.array(self.starts, np.int64), np.array(self.tissue, np.float64).reshape(-1, 3)


def moved(point, left: float, back: float, up: float) -> np.ndarray:
    """`point` (LPS mm) moved to the patient's left, back and head."""
    return np.add(point, (left, back, up))


def capsule(start, end, r0: float, r1: float | None = None, tall: float = 1.0) -> np.ndarray:
    """A tube with round ends from `start` (radius r0) to `end` (r1); `tall` stretches its section along z."""
    row = np.zeros(COLUMNS)
    r1 = r0 if r1 is None else r1
    row[3:6], row[6:9] = start, end
    row[15:18] = r0, r1, tall
    r = max(r0, r1) * max(tall, 1.0)
    row[0], row[1], row[2] = CAPSULE, min(start[2], end[2]) - r, max(start[2], end[2]) + r
    return row


def capsules(starts: np.ndarray, ends: np.ndarray, r0: np.ndarray, r1: np.ndarray) -> np.ndarray:
    """Many tubes at once, as rows: `starts` and `ends` are (n, 3), the radii (n,)."""
    rows, r = np.zeros((len(starts), COLUMNS)), np.maximum(r0, r1)
    rows[:, 0], rows[:, 3:6], rows[:, 6:9] = CAPSULE, starts, ends
    rows[:, 15], rows[:, 16], rows[:, 17] = r0, r1, 1.0
    rows[:, 1] = np.minimum(starts[:, 2], ends[:, 2]) - r
    rows[:, 2] = np.maximum(starts[:, 2], ends[:, 2]) + r
    return rows


def tube(points, radii, tall: float = 1.0) -> list[np.ndarray]:
    """Tubes through `points` (n, 3) with a radius for all or for each."""
    points = np.asarray(points, float)
    radii = np.broadcast_to(np.asarray(radii, float), len(points))
    return [capsule(points[k], points[k + 1], radii[k], radii[k + 1], tall) for k in range(len(points) - 1)]


def shrunk(shapes, by_mm: float) -> list[np.ndarray]:
    """The same shapes with their surface `by_mm` further in; what vanishes is left out."""
    inner = []
    for row in shapes:
        row = row.copy()
        count = 2 if row[0] == CAPSULE else 3
        row[15 : 15 + count] -= by_mm
        if row[15 : 15 + count].min() > 0.3:  # ours: thinner than that is no marrow
            inner.append(row)
    return inner


def _solid(kind: int, centre, axes, rotation, cut) -> np.ndarray:
    row = np.zeros(COLUMNS)
    rotation = np.eye(3) if rotation is None else np.asarray(rotation, float)
    row[3:6], row[6:15], row[15:18], row[18:22] = centre, rotation.ravel(), axes, cut
    reach = np.abs(rotation[:, 2]) @ axes
    row[0], row[1], row[2] = kind, centre[2] - reach, centre[2] + reach
    return row


def ellipsoid(centre, axes, rotation=None, cut=NO_CUT) -> np.ndarray:
    """An ellipsoid with half `axes` along the rows of `rotation`."""
    return _solid(ELLIPSOID, centre, axes, rotation, cut)


def cylinder(centre, axes, rotation=None, cut=NO_CUT) -> np.ndarray:
    """An elliptic cylinder; the last of `axes` is half its height, along the last row of `rotation`."""
    return _solid(CYLINDER, centre, axes, rotation, cut)


def turn(x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0) -> np.ndarray:
    """Rows are the axes of a frame that was turned about x, then y, then z."""
    matrix = np.eye(3)
    for axis, degrees in enumerate((x_deg, y_deg, z_deg)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        step = np.eye(3)
        step[i, i] = step[j, j] = c
        step[i, j], step[j, i] = -s, s
        matrix = step @ matrix
    return matrix.T
