"""Laws of our own model: it is told the geometry, and agrees with its X-rays."""

import numpy as np
import pytest
import torch

from raylift.consistency import cut, mismatch
from raylift.geometry import chest_view, shadow, support
from raylift.models.raylift import MODEL, SINGLE, coordinates, trust
from raylift.physics import MU_WATER, hu_to_mu
from raylift.projector import project
from raylift.projector.shadows import lifted
from raylift.types import Grid, View

CUBE = Grid.canonical((16,) * 3, 20.0)
SHOT = tuple(chest_view(view, pixels=16) for view in (View.PA, View.LAT))
WHOLE = support(CUBE, SHOT, spacing_mm=20.0)


@pytest.fixture
def xrays() -> torch.Tensor:
    """Line integrals of a block of water with an airy half."""
    mu = torch.zeros(WHOLE.shape)
    d, h, w = (n // 2 for n in WHOLE.shape)
    mu[d - 6 : d + 6, h - 4 : h + 4, w - 6 : w + 6] = MU_WATER
    mu[d - 4 : d, h - 2 : h + 2, w + 1 : w + 5] = MU_WATER / 4
    return project(mu, WHOLE, SHOT)[None]


def test_a_voxel_is_lifted_the_pixel_its_shadow_falls_on():
    picture = torch.arange(16 * 16, dtype=torch.float64).reshape(1, 16, 16)
    for beam in SHOT:
        volume = lifted(picture, [beam], CUBE)[0]
        for index in [(3, 4, 5), (8, 8, 8), (12, 6, 9)]:
            row, column = shadow(beam, CUBE.world(index))
            assert float(volume[index]) == pytest.approx(16 * row + column, abs=1e-9)


def test_coordinates_are_those_of_the_voxels_in_the_order_of_the_axes():
    place = coordinates(CUBE, torch.zeros(1, dtype=torch.float64))
    x, y, z = CUBE.world((2, 5, 11)) / 160
    assert np.allclose(place[:, 2, 5, 11], (-z, y, x))


def test_its_result_agrees_with_the_x_rays_better_than_without_its_last_step(xrays, generator):
    net = MODEL.build(generator, size=16, spacing=20.0, work=16, width=4, levels=2).eval()
    with torch.no_grad():
        both = MODEL.run(net, xrays, [SHOT])
        plain = net(xrays, [SHOT], refine=False)
    assert torch.equal(both["unrefined"], plain["ct"])
    cube_only = [
        max(mismatch(hu_to_mu(MODEL.target.decode(ct[0, 0])), xrays[0], CUBE, SHOT)) for ct in (both["ct"], plain["ct"])
    ]
    assert cube_only[0] < cube_only[1]


def test_what_the_network_trusts_shifts_a_correction_within_the_cube_but_not_out_of_it(generator):
    mu = torch.rand((6, 6, 6), generator=generator) * MU_WATER
    even = trust(mu, torch.zeros_like(mu))
    weights = trust(mu, 2 * torch.randn(mu.shape, generator=generator))
    assert float(weights.sum()) == pytest.approx(float(even.sum()), rel=1e-5)
    assert float((weights / even).std()) > 0.5


def test_the_support_it_tells_is_the_one_whose_x_rays_it_met(xrays, generator):
    net = MODEL.build(generator, size=32, spacing=10.0, work=16, width=4, levels=2).eval()
    cube, shot = Grid.canonical((32,) * 3, 10.0), tuple(beam.resized(32, 32) for beam in SHOT)
    seen = torch.nn.functional.interpolate(xrays, scale_factor=2, mode="bilinear")
    with torch.no_grad():
        out = net(seen, [shot])
    whole = support(cube, shot, spacing_mm=10.0)
    assert tuple(out["support"][0].shape) == whole.shape
    assert torch.allclose(
        cut(out["support"][0], whole, cube), hu_to_mu(MODEL.target.decode(out["ct"][0, 0])), atol=1e-4
    )
    assert max(mismatch(out["support"][0], seen[0], whole, shot)) < 0.1


def test_a_finer_result_is_the_same_body(xrays, generator):
    coarse = MODEL.build(generator, size=16, spacing=20.0, work=16, width=4, levels=2).eval()
    fine = MODEL.build(size=32, spacing=10.0, work=16, width=4, levels=2).eval()
    fine.load_state_dict(coarse.state_dict())
    shot = tuple(beam.resized(32, 32) for beam in SHOT)
    with torch.no_grad():
        a = coarse(xrays, [SHOT])["ct"]
        b = fine(torch.nn.functional.interpolate(xrays, scale_factor=2, mode="bilinear"), [shot])["ct"]
    assert b.shape == (1, 1, 32, 32, 32)
    assert float((torch.nn.functional.avg_pool3d(b, 2) - a).abs().mean()) < 0.05


def test_one_view_is_enough_for_the_single_view_model(xrays, generator):
    net = SINGLE.build(generator, size=16, spacing=20.0, work=16, width=4, levels=2)
    assert net(xrays[:, :1], [SHOT[:1]])["ct"].shape == (1, 1, 16, 16, 16)
