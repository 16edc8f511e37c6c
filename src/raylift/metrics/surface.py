"""How far two surfaces are apart, mm. A mask's surface is the marching-cubes surface half-way between its voxels.

Points are (d, h, w) in mm: an index times the spacing. Masks without a voxel have no surface, which is an error.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from raylift.errors import BadInput

Points = Float[np.ndarray, "n 3"]
Mask = Bool[np.ndarray, "D H W"]
Other = Bool[np.ndarray, "P Q R"]  # the same shape; another one is told by an error of its own
Spacing = tuple[float, float, float]
NEAREST = 12  # ours: triangles looked at for each point; the nearest is among those with the nearest centres


def signed_distances(points_mm: Points, mask: Mask, spacing_mm: Spacing) -> Float[np.ndarray, "n"]:
    """How far each point lies from the mask's surface, mm; negative inside, positive outside.

    >>> ball = np.zeros((5, 5, 5), bool); ball[2, 2, 2] = True
    >>> signed_distances(np.array([[2.0, 2.0, 4.0]]), ball, (1.0, 1.0, 1.0)).round(3).tolist()
    [1.5]
    """
    points = np.asarray(points_mm, float)
    vertices, faces = surface(mask, spacing_mm)
    corners = vertices[faces]
    count = min(NEAREST, len(faces))
    _, near = cKDTree(corners.mean(1)).query(points, k=count)
    near = near.reshape(len(points), count)
    apart = np.stack([_to_triangle(points, corners[near[:, k]]) for k in range(count)]).min(0)
    place = (points / spacing_mm).T + 1
    share = map_coordinates(np.pad(mask, 1).astype(np.float32), place, order=1, mode="nearest")
    return np.where(share > 0.5, -apart, apart)


def surface(mask: Mask, spacing_mm: Spacing) -> tuple[Points, np.ndarray]:
    """Vertices (mm) and triangles of the mask's surface, closed where the mask meets the array's edge."""
    _check(mask)
    vertices, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5)
    return (vertices.astype(np.float64) - 1) * spacing_mm, faces


def assd(a: Mask, b: Other, spacing_mm: Spacing) -> float:
    """Average symmetric surface distance, mm, 0 or more: over both surfaces, each element weighed by its area."""
    (to_b, area_a), (to_a, area_b) = _both(a, b, spacing_mm)
    return float((to_b @ area_a + to_a @ area_b) / (area_a.sum() + area_b.sum()))


def hd95(a: Mask, b: Other, spacing_mm: Spacing, percent: float = 95.0) -> float:
    """The larger of the two directed 95th percentiles (by area) of the surface distance, mm; 0 or more."""
    return max(_percentile(*side, percent) for side in _both(a, b, spacing_mm))


def signed_surface_distance(a: Mask, b: Other, spacing_mm: Spacing) -> float:
    """Mean over the surface of `a` of its signed distance to that of `b`, mm: negative where `a` is too small."""
    vertices, faces = surface(a, spacing_mm)
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    return float(np.average(signed_distances(corners.mean(1), b, spacing_mm), weights=area))


def _both(a: Mask, b: Other, spacing_mm: Spacing):
    """For each of the two surfaces: its elements' distances to the other, and their areas (mm, mm²).

    An element is a corner where eight voxels meet of which some are in the mask and some are not; its area is that of
    the marching-cubes surface between these eight (as in DeepMind's surface-distance).
    """
    _check(a)
    _check(b)
    if a.shape != b.shape:
        raise BadInput(f"the masks have unequal shapes: {a.shape} and {b.shape}")
    codes = [_codes(mask) for mask in (a, b)]
    edges = [(code != 0) & (code != 255) for code in codes]
    fields = [distance_transform_edt(~edge, sampling=spacing_mm) for edge in edges]
    areas = _areas(tuple(float(s) for s in spacing_mm))
    return tuple((fields[1 - k][edges[k]], areas[codes[k][edges[k]]]) for k in (0, 1))


def _codes(mask: Mask) -> np.ndarray:
    """At each corner between voxels, which of the eight around it are in the mask, as a number of eight bits."""
    padded = np.pad(mask, 1).astype(np.uint8)
    n = [size - 1 for size in padded.shape]
    code = np.zeros(n, np.uint8)
    for bit in range(8):
        d, h, w = bit >> 2 & 1, bit >> 1 & 1, bit & 1
        code |= padded[d : d + n[0], h : h + n[1], w : w + n[2]] << bit
    return code


@lru_cache(maxsize=16)
def _areas(spacing_mm: Spacing) -> np.ndarray:
    """The surface's area (mm²) between the eight voxels of each code."""
    areas = np.zeros(256)
    for code in range(1, 255):
        block = np.array([code >> bit & 1 for bit in range(8)], np.float32).reshape(2, 2, 2)
        vertices, faces, _, _ = marching_cubes(block, 0.5, spacing=spacing_mm)
        corners = vertices[faces].astype(float)
        areas[code] = (
            np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1).sum() / 2
        )
    return areas


def _percentile(distances: np.ndarray, areas: np.ndarray, percent: float) -> float:
    order = np.argsort(distances)
    share = np.cumsum(areas[order]) / areas.sum()
    return float(distances[order][min(np.searchsorted(share, percent / 100), len(order) - 1)])


def _to_triangle(points: Points, corners: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n"]:
    """The distance of each point to its triangle."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    unit = normal / np.maximum(length, 1e-12)
    above = ((points - a) * unit).sum(-1)
    foot = points - above[:, None] * unit
    inside = length[:, 0] > 1e-12
    edges = []
    for start, end in ((a, b), (b, c), (c, a)):
        inside &= (np.cross(end - start, foot - start) * unit).sum(-1) >= 0
        edges.append(_to_segment(points, start, end))
    return np.where(inside, np.abs(above), np.minimum.reduce(edges))


def _to_segment(points: Points, start: Points, end: Points) -> Float[np.ndarray, "n"]:
    along = end - start
    share = ((points - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-24)
    return np.linalg.norm(points - start - share.clip(0, 1)[:, None] * along, axis=-1)


def _check(mask: Mask) -> None:
    if not mask.any():
        raise BadInput("a mask without a voxel has no surface")
