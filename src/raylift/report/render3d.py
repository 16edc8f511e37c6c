"""Surfaces as pictures without a graphics library: triangles into a depth buffer, one light beside the viewer's head.

Views are orthographic, so a millimetre is as long everywhere; `front` and `left` look as a PA and a lateral X-ray hang.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import no_type_check  # the tests' checker must not wrap what numba compiles

import numba
import numpy as np
from jaxtyping import Float, UInt8

from raylift.errors import BadInput, unknown_name
from raylift.io.mesh import Mesh
from raylift.segment.surface import normals_of

# where the viewer stands, seen from the patient (LPS), and where the picture's columns grow; rows grow to the feet
VIEWS = {
    "front": ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0)),
    "back": ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)),
    "left": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "right": ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)),
    "top": ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0)),  # the front is down
    "oblique": ((0.5, 0.75, 0.433), (-0.832, 0.555, 0.0)),  # from behind, left and above
}
PAPER = (255, 255, 255)
FINER = 2  # pixels drawn for each shown one and side  # ours
LIGHT = (0.35, 0.45, 0.8)  # right, up, to the viewer  # ours
AMBIENT, DIFFUSE, GLOSS = 0.34, 0.62, 0.10  # ours
LARGEST = 40_000_000  # drawn pixels; ours


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A surface and its colour: one for all (3 numbers, [0, 1]) or one a vertex (n, 3)."""

    mesh: Mesh
    colour: Float[np.ndarray, "*n 3"]


def frame_of(view: str) -> Float[np.ndarray, "3 3"]:
    """Rows: where the picture's columns grow, where its top is, where the viewer stands."""
    if view not in VIEWS:
        raise unknown_name("view", view, VIEWS)
    towards, right = (np.array(v) / np.linalg.norm(v) for v in VIEWS[view])
    return np.stack([right, np.cross(towards, right), towards])


def render(
    parts: Sequence[Part], view: str, *, pixel_mm: float = 1.0, margin_mm: float = 5.0, box_mm=None, paper=PAPER
) -> UInt8[np.ndarray, "rows cols 3"]:
    """The picture of `parts`; it holds them all, or the box (two LPS corners) `box_mm`, so that two pictures agree."""
    if not parts:
        raise BadInput("no surface to draw")
    frame = frame_of(view)
    ends = np.concatenate([p.mesh.vertices_mm for p in parts]) if box_mm is None else _corners(box_mm)
    seen = ends @ frame.T
    low, high = seen.min(0) - margin_mm, seen.max(0) + margin_mm
    step = pixel_mm / FINER
    columns, rows = (FINER * int(np.ceil((high[k] - low[k]) / pixel_mm)) for k in (0, 1))
    if rows * columns > LARGEST:
        raise BadInput(f"a picture of {rows} x {columns} pixels is too large; raise pixel_mm above {pixel_mm:g}")
    depth = np.full((rows, columns), -np.inf, np.float32)
    picture = np.empty((rows, columns, 3), np.float32)
    picture[:] = np.array(paper, np.float32) / 255
    for part in parts:
        points = part.mesh.vertices_mm @ frame.T
        place = np.stack([(points[:, 0] - low[0]) / step, (high[1] - points[:, 1]) / step, points[:, 2]], -1)
        normals = normals_of(part.mesh.vertices_mm, part.mesh.faces)[0] @ frame.T
        lit = _lit(normals, np.broadcast_to(part.colour, points.shape))
        _draw(depth, picture, place, lit.astype(np.float32), part.mesh.faces)
    picture = _edges_darkened(picture, depth, step)
    small = picture.reshape(rows // FINER, FINER, columns // FINER, FINER, 3).mean((1, 3))
    return np.round(255 * small.clip(0, 1)).astype(np.uint8)


def _corners(box_mm) -> np.ndarray:
    low, high = np.asarray(box_mm, float)
    return np.array([[(low, high)[k >> axis & 1][axis] for axis in range(3)] for k in range(8)])


def _lit(normals, colour) -> np.ndarray:
    """The colour of each vertex under the light; surfaces that face away are lit as their other side would be."""
    light = np.array(LIGHT) / np.linalg.norm(LIGHT)
    facing = np.clip(normals @ light, 0, 1)
    half = light + (0, 0, 1)
    gloss = np.clip(normals @ (half / np.linalg.norm(half)), 0, 1) ** 30
    return colour * (AMBIENT + DIFFUSE * facing)[:, None] + GLOSS * gloss[:, None]


def _edges_darkened(picture, depth, step: float) -> np.ndarray:
    """Pixels behind a near edge are drawn darker, so that bones before one another can be told apart."""
    filled = np.where(np.isfinite(depth), depth, -1e4)
    nearest = filled.copy()
    reach = 2
    for axis in (0, 1):
        for by in (-reach, reach):
            nearest = np.maximum(nearest, np.roll(filled, by, axis))
    hidden = np.clip((nearest - filled) / 12.0, 0, 1) * np.isfinite(depth)  # ours: 12 mm behind is as dark as it gets
    return picture * (1 - 0.45 * hidden[..., None])


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _draw(depth, picture, place, lit, faces):
    """Fill triangles that are nearer than what was there; place: column, row, depth (larger is nearer)."""
    rows, columns = depth.shape
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0, x1, y1, x2, y2 = place[i, 0], place[i, 1], place[j, 0], place[j, 1], place[k, 0], place[k, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-12:
            continue
        first, last = max(0, int(np.floor(min(y0, y1, y2) - 0.5))), min(rows - 1, int(np.ceil(max(y0, y1, y2))))
        left, right = max(0, int(np.floor(min(x0, x1, x2) - 0.5))), min(columns - 1, int(np.ceil(max(x0, x1, x2))))
        for r in range(first, last + 1):
            y = r + 0.5
            for c in range(left, right + 1):
                x = c + 0.5
                a = ((x1 - x) * (y2 - y) - (x2 - x) * (y1 - y)) / area
                b = ((x2 - x) * (y0 - y) - (x0 - x) * (y2 - y)) / area
                e = 1 - a - b
                if a < -1e-6 or b < -1e-6 or e < -1e-6:
                    continue
                z = a * place[i, 2] + b * place[j, 2] + e * place[k, 2]
                if z > depth[r, c]:
                    depth[r, c] = z
                    for n in range(3):
                        picture[r, c, n] = a * lit[i, n] + b * lit[j, n] + e * lit[k, n]
