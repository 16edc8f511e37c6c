"""Laws of the projector: linear, its adjoint exact, slabs and ellipsoids attenuate as geometry says, backends agree."""

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import pi
from types import SimpleNamespace

import numba
import numpy as np
import pytest
import torch

from raylift.errors import BadInput, GeometryError
from raylift.geometry import chest_view, cone_beam, parallel_beam, shadow
from raylift.projector import LineIntegral, backproject, compiled, cpu, project, vectors
from raylift.projector.rays import RECTIFIED, rays_through
from raylift.projector.reference import project_pose
from raylift.types import ConeBeam, Grid, View

NEAR = {"source_to_detector_mm": 1020, "source_to_axis_mm": 700, "detector_mm": (300, 340), "pixels": (13, 17)}
PLAIN = Grid.canonical((15, 12, 18), (11, 15, 9), (4, -3, 7))


def _oblique() -> Grid:
    """An anisotropic grid turned about all axes, with a little shear (a tilted gantry)."""
    turned = np.linalg.qr(np.array([[0.2, 0.1, 1.0], [0.3, 1.0, -0.1], [-1.0, 0.25, 0.2]]))[0]
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.array([[12, 0.4, 0], [0, 14, 0], [0, 0, 10]])
    affine[:3, 3] = -affine[:3, :3] @ np.array([6.5, 7, 8])
    return Grid((14, 15, 17), affine)


def _cones(**turns) -> tuple[ConeBeam, ...]:
    return tuple(cone_beam(view, **NEAR, **turns) for view in View)


SCENES = {
    "rectified": (PLAIN, _cones() + _cones(primary_deg=33)),
    "halfway": (PLAIN, _cones(primary_deg=45)),  # the main axis changes inside the picture
    "tilted": (PLAIN, _cones(secondary_deg=20) + _cones(primary_deg=40, secondary_deg=60)),
    "from above": (PLAIN, (cone_beam(View.PA, **NEAR, secondary_deg=89.9),)),
    "parallel": (PLAIN, (parallel_beam(View.PA, detector_mm=300, pixels=(13, 17)),)),
    "parallel tilted": (PLAIN, (parallel_beam(View.LAT, detector_mm=300, pixels=9, primary_deg=5, secondary_deg=30),)),
    "oblique": (_oblique(), _cones(primary_deg=10)),
    "one voxel thin": (Grid.canonical((1, 12, 1), (60, 15, 100)), _cones() + _cones(secondary_deg=20)),
    "mixed": (PLAIN, (cone_beam(View.PA, **NEAR), cone_beam(View.LAT, **NEAR, secondary_deg=15))),
}
scenes = pytest.mark.parametrize("scene", SCENES)
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
backends = pytest.mark.parametrize("backend", ["cpu", "reference"])


def _random(generator, *shape, dtype=torch.float64):
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def _error(found, truth) -> float:
    """Relative L2 distance."""
    found, truth = (torch.as_tensor(a, dtype=torch.float64) for a in (found, truth))
    return float((found - truth).norm() / truth.norm())


NO_CACHE = """
from numba.core import caching
caching.CacheImpl._locator_classes = []  # as where neither the package's nor the user's folder can be written
from raylift.projector import compiled
assert compiled.FAST["cache"] is False
"""


def test_an_installation_that_cannot_be_written_compiles_without_a_cache():
    subprocess.run([sys.executable, "-c", NO_CACHE], check=True)


# ---- laws


@scenes
@dtypes
@backends
def test_backproject_is_the_adjoint(scene, dtype, backend, generator):
    grid, beams = SCENES[scene]
    A = LineIntegral(grid, beams, backend)
    x = _random(generator, *grid.shape, dtype=dtype)
    y = _random(generator, len(beams), *beams[0].pixels, dtype=dtype)
    forward, back = A(x).double(), A.adjoint(y).double()
    gap = (forward * y).sum() - (x * back).sum()
    assert abs(gap) <= TOLERANCE[dtype] * forward.norm() * y.double().norm()
    assert forward.norm() > 0


@scenes
@dtypes
def test_the_compiled_loops_equal_the_reference(scene, dtype, generator):
    grid, beams = SCENES[scene]
    x = _random(generator, *grid.shape, dtype=dtype)
    y = _random(generator, len(beams), *beams[0].pixels, dtype=dtype)
    fast, plain = LineIntegral(grid, beams, "cpu"), LineIntegral(grid, beams, "reference")
    assert _error(fast(x), plain(x)) < 3 * TOLERANCE[dtype]
    assert _error(fast.adjoint(y), plain.adjoint(y)) < 3 * TOLERANCE[dtype]


OTHER_PROCESSOR = """
import torch
from numba import types
from raylift.geometry import cone_beam
from raylift.projector import LineIntegral
from raylift.projector.vectors import permutes
from raylift.types import Grid, View

assert not permutes(types.float32)
torch.manual_seed(0)
grid = Grid.canonical((40, 12, 18), (5, 15, 9), (4, -3, 7))
near = dict(source_to_detector_mm=1020, source_to_axis_mm=700, detector_mm=(300, 340), pixels=(39, 17))
for secondary in (0, 20):
    beams = [cone_beam(View.PA, **near, secondary_deg=secondary)]
    fast, plain = (LineIntegral(grid, beams, backend) for backend in ("cpu", "reference"))
    mu, xrays = torch.randn(grid.shape), torch.randn(1, 39, 17)
    for found, truth in ((fast(mu), plain(mu)), (fast.adjoint(xrays), plain.adjoint(xrays))):
        assert (found - truth).norm() < 3e-6 * truth.norm()
"""


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["generic", "x86-64-v3"])
def test_the_compiled_loops_need_no_avx512(processor, tmp_path):
    """numba compiles for another processor than this one, without what it has: the loops equal the reference still."""
    if processor != "generic" and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("not an x86 processor")
    features = {"generic": "", "x86-64-v3": "+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,-avx512f"}[processor]
    told = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESSOR], env=os.environ | told, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "triple, features, expected",
    [
        ("x86_64-unknown-linux-gnu", "+avx2,+avx512f", True),
        ("x86_64-unknown-linux-gnu", "+avx2,-avx512f", False),
        ("x86_64-unknown-linux-gnu", "", False),
        ("aarch64-unknown-linux-gnu", "+neon,+avx512f", False),
    ],
)
def test_only_avx512_permutes(triple, features, expected, monkeypatch):
    codegen = SimpleNamespace(magic_tuple=lambda: (triple, "any", features))
    monkeypatch.setattr(vectors, "cpu_target", SimpleNamespace(target_context=SimpleNamespace(codegen=lambda: codegen)))
    assert vectors.permutes(numba.types.float32) is expected
    assert not vectors.permutes(numba.types.float64)


@pytest.mark.parametrize("wide", [24, 130])
def test_long_columns_agree_with_the_reference(wide, generator):
    """Columns and lines of many lanes, where whole lanes are taken at a time: tilted, rolled, leaving the volume."""
    grid = Grid.canonical((70, 20, wide), (5, 15, 336 / wide), (4, -3, 7))
    near = NEAR | {"pixels": (75, 17), "detector_mm": (600, 500)}
    beams = [cone_beam(View.PA, **near, primary_deg=p, secondary_deg=s) for p, s in ((0, 20), (50, 35), (0, -50))]
    turn = np.array([beams[0].column_dir, beams[0].row_dir])
    across, down = np.array([[0.9, 0.435889894], [-0.435889894, 0.9]]) @ turn
    beams.append(replace(beams[0], column_dir=tuple(across), row_dir=tuple(down)))
    x = _random(generator, *grid.shape, dtype=torch.float32)
    fast, plain = (project(x, grid, beams, backend=backend) for backend in ("cpu", "reference"))
    for view in range(len(beams)):  # positions up to 70 in float32: half a step there is 4e-6
        assert _error(fast[view], plain[view]) < 1e-5


@pytest.mark.parametrize("secondary", [2, 20, -40])
@pytest.mark.parametrize("primary", [0, 10, 40, 180])
@pytest.mark.parametrize("pixels", [(30, 9), (75, 17), (240, 5)])  # from two voxels a pixel to five pixels a voxel
def test_sixteen_at_a_time_agrees_with_the_reference(primary, secondary, pixels, generator):
    """Each view alone, forward and adjoint, on a volume that the rays enter, leave and miss."""
    grid = Grid.canonical((70, 20, 24), (5, 15, 14), (4, -3, 7))
    beam = cone_beam(View.PA, **NEAR | {"pixels": pixels, "detector_mm": (600, 500)}, **_turns(primary, secondary))
    x = _random(generator, *grid.shape, dtype=torch.float32)
    y = _random(generator, 1, *pixels, dtype=torch.float32)
    fast, plain = LineIntegral(grid, (beam,), "cpu"), LineIntegral(grid, (beam,), "reference")
    assert _error(fast(x), plain(x)) < 1e-5
    assert _error(fast.adjoint(y), plain.adjoint(y)) < 1e-5


def _turns(primary: float, secondary: float) -> dict[str, float]:
    return {"primary_deg": primary, "secondary_deg": secondary}


def test_rectified_and_general_loops_agree(generator, monkeypatch):
    grid, beams = SCENES["rectified"]
    x = _random(generator, *grid.shape)
    y = _random(generator, len(beams), *beams[0].pixels)
    A = LineIntegral(grid, beams)
    assert (A.rays.table[:, RECTIFIED] == 1).all()
    fast, fast_back = A(x), A.adjoint(y)
    table = A.rays.table.clone()
    table[:, RECTIFIED] = 0
    A.rays = replace(A.rays, table=table)
    assert _error(A(x), fast) < 1e-12
    assert _error(A.adjoint(y), fast_back) < 1e-12


@backends
def test_projecting_is_linear(backend, generator):
    grid, beams = SCENES["mixed"]
    a, b = _random(generator, *grid.shape), _random(generator, *grid.shape)
    A = LineIntegral(grid, beams, backend)
    assert _error(A(2 * a - 3 * b), 2 * A(a) - 3 * A(b)) < 1e-12


@backends
def test_a_batch_is_a_loop_over_volumes_and_over_poses(backend, generator):
    grid, beams = SCENES["mixed"]
    x = _random(generator, 2, 3, *grid.shape, dtype=torch.float32)
    together = project(x, grid, beams, backend=backend)
    assert together.shape == (2, 3, 2, 13, 17)
    for i, j, v in np.ndindex(2, 3, 2):
        torch.testing.assert_close(project(x[i, j], grid, beams[v : v + 1], backend=backend)[0], together[i, j, v])
    back = backproject(together, grid, beams, backend=backend)
    torch.testing.assert_close(back[1, 2], backproject(together[1, 2], grid, beams, backend=backend))


def test_any_number_of_threads_gives_the_same_bits(generator):
    grid, beams = SCENES["mixed"]
    mu = _random(generator, *grid.shape, dtype=torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((project(mu, grid, beams), backproject(torch.ones(2, 13, 17), grid, beams)))
    finally:
        torch.set_num_threads(before)
    for forward, back in results[1:]:
        assert torch.equal(forward, results[0][0])
        assert torch.equal(back, results[0][1])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_task_is_done_once_and_a_failure_is_told(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    done = []
    cpu.in_threads(lambda first, last: done.extend(range(first, last)), 37)
    assert sorted(done) == list(range(37))

    def failing(first, last):
        if first <= 36 < last:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        cpu.in_threads(failing, 37)


def test_many_threads_may_project_at_the_same_time(generator):
    grid, beams = SCENES["mixed"]
    volumes = _random(generator, 8, *grid.shape)
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda mu: project(mu, grid, beams), volumes))
    torch.testing.assert_close(torch.stack(pictures), project(volumes, grid, beams))


@pytest.mark.parametrize("secondary", [0, 25])
def test_a_slab_of_water_attenuates_by_its_thickness(secondary):
    """A slab wider than the beam: each ray's way through it is thickness / cos(angle)."""
    grid = Grid.canonical((160, 20, 160), (5, 5, 5))
    mu = torch.full(grid.shape, 0.02059, dtype=torch.float64)
    beam = cone_beam(View.PA, **NEAR, primary_deg=15, secondary_deg=secondary)
    ray = beam.pixel_centres_mm() - np.asarray(beam.source_mm)
    way = 100 * np.linalg.norm(ray, axis=-1) / abs(ray[..., 1])
    assert _error(project(mu, grid, [beam])[0], 0.02059 * way) < 1e-12


@pytest.mark.parametrize("primary, secondary", [(0, 0), (70, 0), (20, 35)])
@pytest.mark.parametrize("view", View)
def test_a_marker_falls_where_geometry_says(view, primary, secondary):
    grid = Grid.canonical((41, 37, 45), (4, 5, 3.5), (10, 5, -8))
    mu = torch.zeros(grid.shape, dtype=torch.float64)
    mu[7, 11, 33] = 1.0
    beam = cone_beam(view, **NEAR | {"pixels": (160, 150)}, primary_deg=primary, secondary_deg=secondary)
    picture = project(mu, grid, [beam])[0].numpy()
    found = [np.average(index, weights=picture) for index in np.indices(picture.shape)]
    np.testing.assert_allclose(found, shadow(beam, grid.world((7, 11, 33))), atol=0.05)


# ---- analytic phantoms: (centre, semi-axes or sigmas in mm, turn about z in degrees, mu in 1/mm)

TORSO = [
    ((0, 0, 0), (160, 105, 150), 0, 0.020),
    ((-70, 0, 10), (55, 75, 110), 8, -0.015),
    ((70, 0, 10), (55, 75, 110), -8, -0.015),
    ((0, 70, 0), (18, 18, 145), 0, 0.020),
    ((20, -30, -20), (45, 40, 50), 20, 0.0155),
    ((-90, -60, 60), (10, 12, 9), 0, 0.03),
    ((95, -40, -50), (9, 10, 14), 30, 0.03),
]
BLOBS = [
    ((0, 0, 0), (32, 26, 30), 0, 0.02),
    ((-50, 10, 20), (14, 18, 20), 30, 0.015),
    ((60, -20, -30), (12, 12, 16), 0, 0.02),
    ((0, 45, 0), (10, 10, 28), 0, 0.025),
]


def _whitener(axes, turn_deg):
    c, s = np.cos(turn_deg * pi / 180), np.sin(turn_deg * pi / 180)
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) / np.array(axes)[:, None]


def _voxels(parts, grid: Grid, smooth: bool) -> torch.Tensor:
    """The phantom's mean in each voxel: 4³ points where an edge runs through it (blobs: the centre's value)."""
    total = np.zeros(grid.shape)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 3)
    points = grid.world(index).astype(np.float32)
    shifts = (np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3) - 1.5) / 4
    for centre, axes, turn, mu in parts:
        turn = _whitener(axes, turn).astype(np.float32)
        radius = np.linalg.norm((points - np.float32(centre)) @ turn.T, axis=-1)
        if smooth:
            total += (mu * np.exp(-0.5 * radius**2)).reshape(grid.shape)
            continue
        share = (radius < 1).astype(np.float64)
        edge = np.flatnonzero(abs(radius - 1) < np.linalg.norm(grid.spacing_mm) / 2 / min(axes))
        inner = [np.linalg.norm((grid.world(index[edge] + s) - centre) @ turn.T, axis=-1) < 1 for s in shifts]
        share[edge] = np.mean(inner, axis=0)
        total += mu * share.reshape(grid.shape)
    return torch.as_tensor(total, dtype=torch.float32)


def _exact(parts, beam: ConeBeam, smooth: bool) -> np.ndarray:
    """The phantom's line integrals, in closed form."""
    total = np.zeros(beam.pixels)
    ray = beam.pixel_centres_mm() - np.asarray(beam.source_mm)
    length = np.linalg.norm(ray, axis=-1)
    for centre, axes, turn, mu in parts:
        turn = _whitener(axes, turn)
        start, way = turn @ (np.asarray(beam.source_mm) - centre), ray @ turn.T
        a, b, c = (way**2).sum(-1), way @ start, start @ start
        nearest = c - b**2 / a  # squared distance of the ray from the centre
        if smooth:
            total += mu * length * np.sqrt(2 * pi / a) * np.exp(-0.5 * nearest)
        else:
            total += mu * length * 2 * np.sqrt(np.maximum(1 - nearest, 0) / a)
    return total


def _phantom_error(size: int, parts, smooth: bool, *, centre=(0, 0, 0), **turns) -> float:
    grid = Grid.canonical((size,) * 3, 360 / size, centre)
    pose = {"source_to_detector_mm": 1020, "source_to_axis_mm": 700, "detector_mm": 512, "pixels": size}
    beams = [cone_beam(View.PA, **pose, primary_deg=a, **turns) for a in (10, 55, 100)]
    exact = np.stack([_exact(parts, beam, smooth) for beam in beams])
    return _error(project(_voxels(parts, grid, smooth), grid, beams), exact)


@pytest.mark.parametrize("secondary", [0, 20])
def test_ellipsoids_come_nearer_to_their_exact_shadows_as_the_grid_is_refined(secondary):
    coarse, fine = (_phantom_error(size, TORSO, False, secondary_deg=secondary) for size in (64, 128))
    assert fine < 0.016
    assert fine < 0.65 * coarse


@pytest.mark.parametrize("secondary", [0, 20])
def test_smooth_blobs_come_nearer_to_their_exact_shadows_as_the_grid_is_refined(secondary):
    coarse, fine = (_phantom_error(size, BLOBS, True, secondary_deg=secondary) for size in (32, 64))
    assert fine < 0.008
    assert fine < 0.3 * coarse  # second order


@pytest.mark.slow
@pytest.mark.parametrize("secondary", [0, 20])
def test_phantoms_at_256(secondary):
    assert _phantom_error(256, TORSO, False, secondary_deg=secondary) < 0.008
    assert _phantom_error(256, BLOBS, True, secondary_deg=secondary) < 0.002


def test_a_box_at_an_angle_attenuates_by_its_chord():
    """An off-centre box of whole voxels on an oblique grid, against slab clipping in the grid's own frame."""
    grid = Grid.canonical((60, 60, 60), 4.0)
    turned = np.linalg.qr(np.array([[0.3, 0.1, 1.0], [0.2, 1.0, -0.1], [-1.0, 0.25, 0.2]]))[0] * 4.0
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned, -turned @ np.full(3, 29.5)
    grid = Grid((60, 60, 60), affine)
    mu = torch.zeros(grid.shape, dtype=torch.float64)
    low, high = np.array([12, 20, 25]), np.array([40, 35, 50])
    mu[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 0.02
    beam = cone_beam(View.PA, **NEAR | {"pixels": (90, 100)}, primary_deg=25)
    start = grid.index(beam.source_mm)
    way = grid.index(beam.pixel_centres_mm()) - start
    cuts = np.sort(np.stack([(low - 0.5 - start) / way, (high - 0.5 - start) / way]), axis=0)
    share = np.maximum(cuts[1].min(-1) - cuts[0].max(-1), 0)
    exact = 0.02 * share * np.linalg.norm(beam.pixel_centres_mm() - np.asarray(beam.source_mm), axis=-1)
    assert _error(project(mu, grid, [beam])[0], exact) < 0.03  # 15 to 28 voxels across: the edges are one voxel soft


# ---- gradients


@backends
@pytest.mark.parametrize("scene", ["mixed", "parallel tilted"])
def test_gradients_of_volume_and_xrays(scene, backend, generator):
    _, beams = SCENES[scene]
    beams = [beam.resized(3, 4) for beam in beams]
    A = LineIntegral(Grid.canonical((4, 3, 5), (40, 50, 30)), beams, backend)
    mu = _random(generator, 4, 3, 5).requires_grad_()
    xrays = _random(generator, len(beams), 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(A, mu)
    assert torch.autograd.gradcheck(A.adjoint, xrays)
    assert torch.autograd.gradgradcheck(lambda m: A(m).sin(), mu)


def test_gradient_of_the_pose(generator):
    grid = Grid.canonical((6, 5, 7), (30, 35, 25))
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in grid.shape), indexing="ij")
    mu = torch.exp(-(z**2) - (y + 0.2) ** 2 - (x - 0.1) ** 2)
    beam = cone_beam(View.PA, **NEAR | {"pixels": (3, 4)}, primary_deg=7, secondary_deg=4)
    pose = [
        torch.tensor(np.array(v)[None]).requires_grad_()
        for v in (
            beam.source_mm,
            beam.pixel_centres_mm()[0, 0],
            np.multiply(beam.column_dir, beam.pixel_mm[1]),
            np.multiply(beam.row_dir, beam.pixel_mm[0]),
        )
    ]

    def run(source, corner, column_step, row_step):
        return project_pose(
            mu, grid, source=source, corner=corner, column_step=column_step, row_step=row_step, pixels=(3, 4)
        )

    assert _error(run(*pose).detach(), project(mu, grid, [beam])) < 1e-12
    assert torch.autograd.gradcheck(run, pose, atol=1e-5)


def test_torch_compile_sees_one_operator(generator):
    grid, beams = SCENES["mixed"]
    rays = rays_through(grid, beams)
    mu = _random(generator, 1, *grid.shape, dtype=torch.float32)
    arguments = rays.table, rays.affine, 13, 17, "cpu"

    def loss(m):
        return (torch.ops.raylift.project(m, *arguments) ** 2).sum()

    torch.library.opcheck(torch.ops.raylift.project, (mu.requires_grad_(), *arguments))
    (found,) = torch.autograd.grad(torch.compile(loss, backend="aot_eager", fullgraph=True)(mu), mu)
    torch.testing.assert_close(found, torch.autograd.grad(loss(mu), mu)[0])


# ---- edges


@backends
def test_rays_that_miss_give_zero(backend):
    grid = Grid.canonical((4, 4, 4), 5.0, (0, 0, 600))
    assert not project(torch.ones(4, 4, 4), grid, SCENES["mixed"][1], backend=backend).any()


@backends
@pytest.mark.parametrize("secondary", [0, 10])
def test_only_what_lies_between_source_and_panel_counts(backend, secondary):
    beam = cone_beam(View.PA, **NEAR, secondary_deg=secondary)
    depth = abs(beam.source_mm[1])
    grid = Grid.canonical((40, 60, 40), 10.0, (0, depth, 0))  # the source is inside the box
    picture = project(torch.full(grid.shape, 0.01), grid, [beam], backend=backend)
    assert float(picture[0, 6, 8]) == pytest.approx(0.01 * 300, rel=0.06)
    behind = Grid.canonical((40, 60, 40), 10.0, (0, depth + 500, 0))
    assert not project(torch.ones(behind.shape), behind, [beam], backend=backend).any()


def test_a_volume_that_crosses_the_panel_is_refused():
    grid = Grid.canonical((8, 70, 8), 10.0)
    with pytest.raises(GeometryError, match=r"reaches the panel and 50\.0 mm beyond"):
        project(torch.ones(8, 70, 8), grid, [chest_view(View.PA, pixels=4)])


def test_beams_must_fit_together():
    grid = Grid.canonical((4, 4, 4), 5.0)
    with pytest.raises(BadInput, match="no beam"):
        project(torch.ones(4, 4, 4), grid, [])
    with pytest.raises(GeometryError, match="equal pixels"):
        project(torch.ones(4, 4, 4), grid, [chest_view(View.PA, pixels=4), chest_view(View.LAT, pixels=5)])


@backends
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(backend, poison):
    grid, beams = SCENES["mixed"]
    mu = torch.zeros(grid.shape)
    mu[3, 2, 1] = poison
    with pytest.raises(BadInput, match="NaN or infinite"):
        project(mu, grid, beams, backend=backend)
    xrays = torch.zeros(2, 13, 17)
    xrays[1, 2, 3] = poison
    with pytest.raises(BadInput, match="NaN or infinite"):
        backproject(xrays, grid, beams, backend=backend)


def test_shapes_and_types_must_fit():
    grid, beams = SCENES["mixed"]
    with pytest.raises(BadInput, match="does not fit a grid"):
        project(torch.ones(3, 3, 3), grid, beams)
    with pytest.raises(BadInput, match="do not fit beams"):
        backproject(torch.ones(2, 3, 3), grid, beams)
    with pytest.raises(BadInput, match="no projector backend 'gpuu'"):
        project(torch.ones(grid.shape), grid, beams, backend="gpuu")


def test_no_volume_at_all_is_no_xray():
    grid, beams = SCENES["mixed"]
    assert project(torch.ones(0, *grid.shape), grid, beams).shape == (0, 2, 13, 17)
    assert backproject(torch.ones(0, 2, 13, 17), grid, beams).shape == (0, *grid.shape)


@scenes
def test_no_ray_has_a_main_axis_that_its_view_is_said_not_to_have(scene):
    """Four corners speak for a whole picture; in some scenes they leave axes out, or nothing would be saved."""
    grid, beams = SCENES[scene]
    rays = rays_through(grid, beams)
    table, affine, spacing = rays.table.numpy(), rays.affine.numpy(), np.array(grid.spacing_mm)
    rows, columns = rays.pixels
    left_out = 0
    for axis in range(3):
        steps = np.zeros((len(table), columns, rows))
        compiled.steps(0, len(table) * columns, table, affine, spacing, axis, steps)
        others = steps[~cpu._has_rays(table, (columns, rows), spacing)[:, axis]]
        assert not others.any()
        left_out += len(others)
    assert left_out or scene == "halfway"


def test_rays_know_which_views_are_rectified():
    grid, beams = SCENES["mixed"]
    assert rays_through(grid, beams).table[:, RECTIFIED].tolist() == [1, 0]
