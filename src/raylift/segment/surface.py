"""From a mask to a smooth closed surface in mm that keeps its volume, and how far one surface is from another.

The mask is blurred by less than a voxel and cut by marching cubes (anti-aliasing), the triangles are smoothed by
Taubin's filter (1995), which does not shrink, and the rest of the change in volume is taken back along the normals.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, sparse
from skimage.measure import marching_cubes

from raylift.errors import BadInput
from raylift.io.mesh import Mesh
from raylift.metrics.surface import signed_distances
from raylift.types import Grid

SOFT_VOXELS = 0.7  # SD of the blur before the cut  # ours
TAUBIN = (0.5, -0.53)  # Taubin 1995, table 1: a step in, a longer one out
ROUNDS = 10  # of both  # ours
KEPT = 0.002  # how near, as a part, the volume is brought to the mask's  # ours


def surface(mask: Bool[np.ndarray, "D H W"], grid: Grid, *, smooth: bool = True, name: str = "mask") -> Mesh:
    """The closed surface around `mask`, LPS mm, its volume within 1 % of the mask's where that is some voxels thick.

    `smooth` False leaves out the blur and the filter: the surface then runs half-way between voxel centres.
    """
    voxels = int(mask.sum())
    if not voxels:
        raise BadInput(f"{name}: empty; it has no surface")
    field = np.pad(mask, 3).astype(np.float32)
    level = 0.5
    if smooth:
        spacing = np.array(grid.spacing_mm)  # where slices are thick, their stairs ask for more blur within them too
        field = ndimage.gaussian_filter(field, SOFT_VOXELS * np.sqrt(spacing.max() / spacing))
        inside = np.sort(field.ravel())[::-1]
        level = float(np.clip(inside[voxels], 0.2, 0.5))  # as many voxels lie above it as were in the mask
    points, faces, _, _ = marching_cubes(field, level, allow_degenerate=False)
    points = grid.world(points.astype(np.float64) - 3)
    if _volume(points, faces) < 0:
        faces = faces[:, ::-1]
    faces = faces.astype(np.int64)
    if smooth:
        wanted = voxels * float(np.prod(grid.spacing_mm))
        points = _filled_to(wanted, _taubin(points, faces), faces)
    return Mesh(vertices_mm=points, faces=faces)


def _volume(points, faces) -> float:
    return Mesh(vertices_mm=points, faces=faces).volume_mm3


def _neighbours(count: int, faces) -> sparse.csr_matrix:
    """Rows whose product with the points is the mean of each point's neighbours."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    ones = np.ones(len(edges))
    linked = sparse.csr_matrix((ones, (edges[:, 0], edges[:, 1])), shape=(count, count))
    linked.data[:] = 1.0
    return sparse.diags(1 / np.maximum(np.asarray(linked.sum(1)).ravel(), 1)) @ linked


def _taubin(points, faces) -> np.ndarray:
    mean = _neighbours(len(points), faces)
    for _ in range(ROUNDS):
        for step in TAUBIN:
            points = points + step * (mean @ points - points)
    return points


def _filled_to(volume: float, points, faces) -> np.ndarray:
    """The points moved along their normals until the surface encloses `volume` (mm³)."""
    for _ in range(6):
        lacking = volume - _volume(points, faces)
        if abs(lacking) < KEPT * volume:
            break
        normals, area = normals_of(points, faces)
        points = points + lacking / max(area, 1e-9) * normals
    return points


def normals_of(points, faces) -> tuple[np.ndarray, float]:
    """Unit normals at the vertices, outwards, and the surface's area (mm²)."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for k in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(faces[:, k], across[:, axis], len(points))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.maximum(length, 1e-30), float(np.linalg.norm(across, axis=1).sum() / 2)


def distances_to(mesh: Mesh, mask: Bool[np.ndarray, "D H W"], grid: Grid) -> Float[np.ndarray, "n"]:
    """How far each vertex is from the surface of `mask` on `grid`, mm: negative where the mesh lies inside it."""
    spacing = grid.spacing_mm
    return signed_distances(grid.index(mesh.vertices_mm) * np.array(spacing), mask, spacing)
