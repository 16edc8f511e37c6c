"""Paired augmentation: the whole CT is moved, bent and varied, and cube and X-rays are made anew of the result.

So every pair is one that an X-ray tube could have seen. It samples the source at 2.5 mm or finer (whole fractions of
the cube's voxel), which is coarser than the stored X-rays' 1.5 mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, cos, radians, sin
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import avg_pool3d, grid_sample

from raylift.geometry import support
from raylift.physics import MU_WATER, VACUUM_HU, mu_to_hu
from raylift.projector import project
from raylift.types import Beam, Grid, Vector

FINEST_MM = 2.5  # ours: what the source is sampled at, or the cube's spacing where that is finer
LATTICE = 7  # control points a side of the elastic deformation  # ours
SMOOTH = 0.42  # SD of the Gaussian that stands for a voxel's width, as in preparation  # ours
BONE = 1.15  # times water: what the bone gain stretches from (150 HU)  # ours


@dataclass(frozen=True, kw_only=True)
class Movement:
    """How a patient is moved about the cube's centre: flipped, scaled, turned, shifted, bent; and varied in density."""

    turn_deg: Vector = (0.0, 0.0, 0.0)  # about x, y, z, counter-clockwise seen from the axis's tip
    scale: float = 1.0  # larger is a larger patient
    shift_mm: Vector = (0.0, 0.0, 0.0)  # LPS
    flip: bool = False  # left for right
    bend_mm: Float[Tensor, "3 n n n"] | None = None  # displacements x, y, z of a lattice over the support (d, h, w)
    density: float = 1.0  # of everything, relative
    bone: float = 1.0  # of what is denser than 150 HU, relative to that


def draw(generator: torch.Generator, strength: float = 1.0) -> Movement:
    """A random movement; at strength 1 turns have an SD of 5 degrees about z and 2 about x and y, scale 6 %, shifts
    8 mm, bends 4 mm, density 2 % and bone 10 % (all ours); at 0 nothing but the flip is left out too.
    """
    n = torch.randn(9, generator=generator, dtype=torch.float64).clamp(-2, 2).mul(strength).tolist()
    flip = float(torch.rand((), generator=generator)) < 0.5
    bend = torch.randn((3, LATTICE, LATTICE, LATTICE), generator=generator) * (4.0 * strength)
    return Movement(
        turn_deg=(2 * n[0], 2 * n[1], 5 * n[2]),
        scale=1.06 ** n[3],
        shift_mm=(8 * n[4], 8 * n[5], 8 * n[6]),
        flip=flip and strength > 0,
        bend_mm=bend if strength > 0 else None,
        density=1.02 ** n[7],
        bone=1.1 ** n[8],
    )


def moved(
    source_hu: Shaped[Tensor, "d h w"],
    source_grid: Grid,
    *,
    cube: Grid,
    beams: Sequence[Beam],
    generator: torch.Generator,
    strength: float = 1.0,
    rays: Literal["whole", "cube"] = "whole",
) -> tuple[Float[Tensor, "D H W"], Float[Tensor, "V rows cols"]]:
    """The cube (HU) and the X-rays (line integrals) of a randomly moved patient; see `apply`."""
    movement = draw(generator, strength)
    return apply(movement, source_hu, source_grid, cube=cube, beams=beams, rays=rays)


def apply(
    movement: Movement,
    source_hu: Shaped[Tensor, "d h w"],
    source_grid: Grid,
    *,
    cube: Grid,
    beams: Sequence[Beam],
    rays: Literal["whole", "cube"] = "whole",
    floor_hu: float = VACUUM_HU,
) -> tuple[Float[Tensor, "D H W"], Float[Tensor, "V rows cols"]]:
    """The cube (HU) and the X-rays (line integrals) of the patient in `source_hu` after `movement`.

    Grids and beams are in one LPS frame; beyond the source is air. `rays` 'cube' projects what lies in the cube only;
    what lies below `floor_hu` adds nothing, see `physics.hu_to_mu`.
    """
    split = max(1, ceil(cube.spacing_mm[0] / FINEST_MM - 1e-6))
    fine, corner = _fine_grid(movement, source_grid, cube, beams, split, rays)
    dense = _softened(source_hu, source_grid.spacing_mm, fine.spacing_mm)
    dense = _sampled(dense, _where(movement, source_grid, fine, cube, dense.device)) * movement.density
    dense = dense + (movement.bone - 1) * (dense - BONE).clamp_min(0)
    seen = dense if floor_hu <= VACUUM_HU else (dense - (floor_hu - VACUUM_HU) / 1000).clamp_min(0)
    xrays = project(seen * MU_WATER, fine, list(beams))
    side = [n * split for n in cube.shape]
    inner = dense[tuple(slice(c, c + n) for c, n in zip(corner, side, strict=True))]
    return mu_to_hu(avg_pool3d(inner[None], split)[0] * MU_WATER), xrays


def _matrix(movement: Movement) -> np.ndarray:
    """What the movement does to a point about the cube's centre, without shift and bend."""
    turn = np.eye(3)
    for axis, degrees in enumerate(movement.turn_deg):
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        one = np.eye(3)
        one[i, i] = one[j, j] = cos(radians(degrees))
        one[j, i] = sin(radians(degrees))
        one[i, j] = -one[j, i]
        turn = one @ turn
    return movement.scale * turn @ np.diag([-1.0 if movement.flip else 1.0, 1, 1])


def _fine_grid(
    movement: Movement, source: Grid, cube: Grid, beams: Sequence[Beam], split: int, rays: str
) -> tuple[Grid, tuple[int, ...]]:
    """A grid of `split` voxels to the cube's one that holds the cube and the moved patient as far as rays go, and the
    index in it of the cube's first voxel.
    """
    spacing = cube.spacing_mm[0] / split
    inner = np.array(cube.shape) * split
    if rays == "cube":
        return Grid.canonical(tuple(inner), spacing, tuple(cube.centre_mm)), (0, 0, 0)
    bend = 0.0 if movement.bend_mm is None else float(movement.bend_mm.abs().max()) * movement.scale
    moved_corners = (source.corners_mm - cube.centre_mm) @ _matrix(movement).T + movement.shift_mm
    reach = np.abs(support(cube, beams, spacing_mm=cube.spacing_mm[0]).corners_mm - cube.centre_mm).max(0)
    low = np.maximum(moved_corners.min(0) - bend, -reach)[[2, 1, 0]] * (-1, 1, 1)  # d runs down
    high = np.minimum(moved_corners.max(0) + bend, reach)[[2, 1, 0]] * (-1, 1, 1)
    low, high = np.minimum(low, high), np.maximum(low, high)
    before = np.ceil((-low - inner * spacing / 2) / spacing).clip(0).astype(int)
    after = np.ceil((high - inner * spacing / 2) / spacing).clip(0).astype(int)
    offset = (after - before)[[2, 1, 0]] * (1, 1, -1) * spacing / 2
    return Grid.canonical(tuple(inner + before + after), spacing, tuple(cube.centre_mm + offset)), tuple(
        int(n) for n in before
    )


def _softened(hu: Tensor, spacing, wanted) -> Tensor:
    """Density relative to water (0 in air), smoothed along each axis on which the wanted grid is coarser."""
    dense = hu.to(torch.float32, copy=True).mul_(1e-3).add_(1.0).clamp_(min=0)
    for axis in range(3):
        ratio = wanted[0] / spacing[axis]
        if ratio <= 1.01 or dense.shape[axis] < 3:
            continue
        side = min(SMOOTH**2 * (ratio**2 - 1) / 2, 1 / 3)  # three taps of the Gaussian's variance
        n = dense.shape[axis]
        out = dense * (1 - 2 * side)
        out.narrow(axis, 1, n - 1).add_(dense.narrow(axis, 0, n - 1), alpha=side)
        out.narrow(axis, 0, n - 1).add_(dense.narrow(axis, 1, n - 1), alpha=side)
        dense = out
    return dense


def _where(movement: Movement, source: Grid, fine: Grid, cube: Grid, device) -> Float[Tensor, "D H W 3"]:
    """For each voxel of `fine`, what the movement brings there: a place in the source, w h d, its ends at -1 and 1."""
    scale = 2 / np.maximum(np.array(source.shape) - 1, 1)
    to_place = (np.linalg.inv(source.affine)[:3] * scale[:, None])[::-1].copy()
    to_place[:, 3] -= 1
    back = np.linalg.inv(_matrix(movement))
    turn = to_place[:, :3] @ back
    start = to_place[:, :3] @ (cube.centre_mm - back @ (cube.centre_mm + movement.shift_mm)) + to_place[:, 3]
    step = torch.tensor(turn @ fine.affine[:3, :3], device=device, dtype=torch.float32)
    first = torch.tensor(turn @ fine.affine[:3, 3] + start, device=device, dtype=torch.float32)
    d, h, w = (torch.arange(n, device=device)[:, None] * step[:, k] for k, n in enumerate(fine.shape))
    at = d[:, None, None] + (h[:, None] + w + first)
    if movement.bend_mm is not None:
        places = torch.tensor(to_place[:, :3], dtype=torch.float32) @ movement.bend_mm.flatten(1)
        lattice = places.view(movement.bend_mm.shape).to(device)
        d, h, w = (_spline(n, lattice.shape[1], device) for n in fine.shape)
        bend = torch.einsum("hb,abwk->ahwk", h, torch.einsum("kabc,wc->abwk", lattice, w))
        at = at.flatten(1).addmm_(d, bend.flatten(1)).view_as(at)
    return at


def _spline(n: int, controls: int, device) -> Float[Tensor, "n k"]:
    """Uniform cubic B-spline weights of `controls` points at `n` places along an axis; each row sums to 1."""
    at = torch.linspace(1, controls - 2, n, dtype=torch.float64)[:, None] - torch.arange(controls)
    far = at.abs()
    near = 2 / 3 - far**2 + far**3 / 2
    weights = torch.where(far < 1, near, (2 - far).clamp_min(0) ** 3 / 6)
    return weights.float().to(device)


def _sampled(dense: Float[Tensor, "d h w"], at: Float[Tensor, "D H W 3"]) -> Float[Tensor, "D H W"]:
    """`dense` at places from -1 to 1 (w h d), linear; 0 beyond it."""
    return grid_sample(dense[None, None], at[None], padding_mode="zeros", align_corners=True)[0, 0]
