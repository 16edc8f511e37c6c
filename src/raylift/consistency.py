"""Data consistency: the volume nearest to an estimate that the X-rays do not contradict; and SART, without a network.

The truth lies in {x : A x = b}, x >= 0. With weights W (a positive diagonal), the step for one view

    x <- x + W A^T (b - A x) / (A W A^T 1)

never takes x further from any point of that set in the norm sum((x - x*)^2 / W): A W A^T has no negative entry, so
its row sums, A W A^T 1, bound it from above. Neither does clipping at 0, since the truth is not negative. That holds
over the whole support, so the support must hold everything that the rays cross: it is wider than the cube that a net
predicts, and the cube is cut out at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from raylift.errors import BadInput
from raylift.geometry import support as support_of
from raylift.physics import MU_WATER
from raylift.projector import backproject, project
from raylift.projector.shadows import lifted
from raylift.types import Beam, Grid

ROUNDS = 12  # ours: fifty rounds gain no more than 0.01 dB (bench/consistency.py)
REFINE_ROUNDS = 4  # ours
START = 0.25 * MU_WATER  # ours: SART begins with a faint body
START_VOXELS = 4  # ours: its outline is so many voxels coarse
FLOOR = 0.001 * MU_WATER  # ours: what is air in an estimate may still turn into something


def _shortest(norm: Tensor) -> Tensor:
    """1 / norm where a ray meets any weight, 0 where it misses."""
    return torch.where(norm > 1e-6 * norm.amax(), 1 / norm.clamp_min(1e-20), torch.zeros_like(norm))


def step(
    mu: Float[Tensor, "*b D H W"],
    xray: Float[Tensor, "*b 1 rows cols"],
    weights: Float[Tensor, "*b D H W"],
    grid: Grid,
    beam: Beam,
    *,
    seen: Float[Tensor, "D H W"] | None = None,
) -> Float[Tensor, "*b D H W"]:
    """`mu` (1/mm) moved towards agreement with one view's line integrals, by the weighted SART step, at least 0.

    `seen` is the beam's A^T 1, for who takes many steps.
    """
    seen = everywhere(grid, beam, like=xray) if seen is None else seen
    norm = project(weights * seen, grid, [beam])
    missing = (xray - project(mu, grid, [beam])) * _shortest(norm)
    return (mu + weights * backproject(missing, grid, [beam])).clamp_min(0)


def everywhere(grid: Grid, beam: Beam, *, like: Tensor) -> Float[Tensor, "D H W"]:
    """A^T 1 of one beam: how much each voxel is seen, mm."""
    return backproject(like.new_ones((1, *beam.pixels)), grid, [beam])


def rounds_of(
    mu: Float[Tensor, "*b D H W"],
    xrays: Float[Tensor, "*b V rows cols"],
    grid: Grid,
    beams: Sequence[Beam],
    *,
    rounds: int,
    weights: Float[Tensor, "*b D H W"] | None = None,
    noise: float = 0.0,
) -> Float[Tensor, "*b D H W"]:
    """`mu` after so many rounds over the views in turn; differentiable in `mu`, `xrays` and `weights`.

    Without `weights` each step is weighted by the estimate of the moment, so that what is missing goes where there
    is something. With `noise` (SD of the line integrals) the rounds end once the residual is no larger.
    """
    seen = [everywhere(grid, beam, like=mu) for beam in beams] if rounds else []
    for _ in range(rounds):
        if noise and float((project(mu.detach(), grid, beams) - xrays).square().mean().sqrt()) <= noise:
            break
        for index, beam in enumerate(beams):
            now = mu + FLOOR if weights is None else weights
            mu = step(mu, xrays[..., index : index + 1, :, :], now, grid, beam, seen=seen[index])
    return mu


def sart(
    xrays: Float[Tensor, "*b V rows cols"],
    beams: Sequence[Beam],
    grid: Grid,
    *,
    rounds: int = ROUNDS,
    noise: float = 0.0,
) -> Float[Tensor, "*b D H W"]:
    """The volume (mu, 1/mm, on `grid`) that the line integrals alone suggest: rounds of SART from a faint body."""
    flat = xrays.reshape(-1, *xrays.shape[-3:])
    start = torch.stack([faint_body(each, beams, grid) for each in flat]).reshape(*xrays.shape[:-3], *grid.shape)
    return rounds_of(start, xrays, grid, beams, rounds=rounds, noise=noise)


def faint_body(xrays: Float[Tensor, "V rows cols"], beams: Sequence[Beam], grid: Grid) -> Float[Tensor, "D H W"]:
    """Where a body must be, by its X-rays: the product of the pictures laid back along their rays, each divided by its
    largest value; beyond a panel its border goes on. A ray's mass so stays out of the empty space beside the patient.
    """
    shape = tuple(max(1, n // START_VOXELS) for n in grid.shape)
    spacing = tuple(n * s / k for n, s, k in zip(grid.shape, grid.spacing_mm, shape, strict=True))
    coarse = Grid.canonical(shape, spacing, tuple(grid.centre_mm))
    share = xrays / xrays.amax((-2, -1), keepdim=True).clamp_min(1e-6)
    outline = lifted(share.clamp_min(0), beams, coarse, beyond="border").prod(0)
    fine = F.interpolate(outline[None, None], size=grid.shape, mode="trilinear", align_corners=False)
    return START * fine[0, 0]


def offset_in(cube: Grid, whole: Grid) -> tuple[int, int, int]:
    """Where the cube's first voxel lies in the support; both share their spacing and directions."""
    place = whole.index(cube.world((0, 0, 0)))
    first = tuple(round(float(k)) for k in place)
    if abs(place - first).max() > 1e-3:
        raise BadInput("the cube's voxels are not among the support's")
    return first


def cut(mu: Float[Tensor, "*b D H W"], whole: Grid, cube: Grid) -> Float[Tensor, "*b d h w"]:
    """The cube's part of a volume on the support."""
    d, h, w = offset_in(cube, whole)
    nd, nh, nw = cube.shape
    return mu[..., d : d + nd, h : h + nh, w : w + nw]


def put(inside: Float[Tensor, "*b d h w"], around: Float[Tensor, "*b D H W"], whole: Grid, cube: Grid):
    """`around` with the cube's part replaced by `inside`; differentiable in both."""
    first = offset_in(cube, whole)
    pad = []
    for axis in (2, 1, 0):
        pad += [first[axis], whole.shape[axis] - first[axis] - cube.shape[axis]]
    hole = F.pad(torch.ones_like(inside), pad) > 0
    return torch.where(hole, F.pad(inside, pad), around)


@dataclass(frozen=True, kw_only=True)
class Refined:
    """What `refine` gives back: the cube, the whole support, and how well the X-rays were met (relative L2 a view)."""

    mu: Tensor  # on the cube, 1/mm
    support_mu: Tensor
    support: Grid
    before: tuple[float, ...]
    after: tuple[float, ...]
    gains: tuple[float, ...]  # fitted; 1 where the X-ray's scale is known
    offsets: tuple[float, ...]


def mismatch(mu: Tensor, xrays: Tensor, grid: Grid, beams: Sequence[Beam]) -> tuple[float, ...]:
    """|A x - b| / |b| of each view."""
    rest = project(mu, grid, beams) - xrays
    return tuple((rest.flatten(-2).norm(dim=-1) / xrays.flatten(-2).norm(dim=-1).clamp_min(1e-9)).tolist())


def fit_scale(mu: Tensor, xrays: Tensor, grid: Grid, beams: Sequence[Beam]) -> tuple[Tensor, list, list]:
    """`xrays` of unknown scale as line integrals: each view's gain and offset that fit the estimate best."""
    guess = project(mu, grid, beams)
    gains, offsets, fitted = [], [], []
    for seen, wanted in zip(xrays, guess, strict=True):
        spread = seen - seen.mean()
        gain = (spread * (wanted - wanted.mean())).sum() / spread.square().sum().clamp_min(1e-9)
        gain = gain.clamp_min(0)
        gains.append(float(gain))
        offsets.append(float(wanted.mean() - gain * seen.mean()))
        fitted.append((gain * seen + offsets[-1]).clamp_min(0))
    return torch.stack(fitted), gains, offsets


@torch.no_grad()
def refine(
    estimate: Float[Tensor, "d h w"],
    xrays: Float[Tensor, "V rows cols"],
    beams: Sequence[Beam],
    cube: Grid,
    *,
    rounds: int = REFINE_ROUNDS,
    noise: float = 0.0,
    unknown_scale: bool = False,
    around: Float[Tensor, "D H W"] | None = None,
) -> Refined:
    """An estimate (mu, 1/mm, on the cube) brought into agreement with its X-rays' line integrals.

    Beams and cube share a frame. Around the cube stands what SART makes of the X-rays, so that arms, table and a wide
    patient keep their share of each ray; `around` is that, on the support, for who has it. With `unknown_scale`, a gain
    and an offset a view are fitted first.
    """
    whole = support_of(cube, beams, spacing_mm=cube.spacing_mm[0])
    gains, offsets = [1.0] * len(beams), [0.0] * len(beams)
    if unknown_scale:
        body = put(estimate, estimate.new_zeros(whole.shape), whole, cube)
        xrays, gains, offsets = fit_scale(body, xrays, whole, beams)
    if around is None:
        around = sart(xrays, beams, whole, rounds=max(rounds, 1))
    mu = put(estimate.clamp_min(0), around, whole, cube)
    before = mismatch(mu, xrays, whole, beams)
    mu = rounds_of(mu, xrays, whole, beams, rounds=rounds, noise=noise)
    after = mismatch(mu, xrays, whole, beams)
    return Refined(
        mu=cut(mu, whole, cube),
        support_mu=mu,
        support=whole,
        before=before,
        after=after,
        gains=tuple(gains),
        offsets=tuple(offsets),
    )
