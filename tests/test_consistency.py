"""Laws of data consistency: it never leads away from the truth, it meets the X-rays, it minds what lies outside."""

from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from raylift.consistency import cut, fit_scale, mismatch, put, refine, rounds_of, sart, step
from raylift.geometry import chest_view, support
from raylift.physics import MU_WATER
from raylift.projector import project
from raylift.types import Grid, View

CUBE = Grid.canonical((16,) * 3, 20.0)
SHOTS = tuple(chest_view(view, pixels=16) for view in (View.PA, View.LAT))
WHOLE = support(CUBE, SHOTS, spacing_mm=20.0)


def body(whole=WHOLE, half=(150.0, 110.0)) -> torch.Tensor:
    """An elliptic cylinder of water with two lungs of a third of its density, mu in 1/mm."""
    d, h, w = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in whole.shape)
    h, w = h[:, None] * whole.spacing_mm[1], w[None, :] * whole.spacing_mm[2]
    slab = ((w / half[0]) ** 2 + (h / half[1]) ** 2 < 1).double() * MU_WATER
    lungs = (((w.abs() - 65) / 45) ** 2 + (h / 70) ** 2 < 1).double() * MU_WATER * 2 / 3
    inside = (d.abs() * whole.spacing_mm[0] < 150)[:, None, None]
    return (slab - torch.minimum(lungs, slab)) * inside


def test_with_fixed_weights_no_step_ever_leads_away_from_the_truth(generator):
    truth = torch.rand(WHOLE.shape, generator=generator, dtype=torch.float64) * MU_WATER
    weights = torch.rand(WHOLE.shape, generator=generator, dtype=torch.float64) + 0.01
    mu = torch.rand(WHOLE.shape, generator=generator, dtype=torch.float64) * MU_WATER
    xrays = project(truth, WHOLE, SHOTS)

    def distance(mu):
        return float(((mu - truth).square() / weights).sum().sqrt())

    distances = [distance(mu)]
    for _ in range(4):
        for index, beam in enumerate(SHOTS):
            mu = step(mu, xrays[index : index + 1], weights, WHOLE, beam)
            distances.append(distance(mu))
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(distances))
    assert distances[-1] < distances[0]


def test_sart_meets_the_x_rays_better_with_every_few_rounds_and_never_goes_below_zero():
    xrays = project(body(), WHOLE, SHOTS)
    rests = [max(mismatch(sart(xrays, SHOTS, WHOLE, rounds=n), xrays, WHOLE, SHOTS)) for n in (0, 2, 6, 18)]
    assert rests == sorted(rests, reverse=True) and rests[-1] < 0.03
    assert sart(xrays, SHOTS, WHOLE, rounds=3).min() >= 0


def test_sart_puts_nothing_into_the_empty_space_beside_the_patient():
    xrays = project(body(), WHOLE, SHOTS)
    mu = sart(xrays, SHOTS, WHOLE)
    beside = WHOLE.shape[2] // 2 - 9  # 180 mm from the middle: the frontal X-ray sees no further
    assert (mu[..., :beside].sum() + mu[..., -beside:].sum()) < 0.02 * mu.sum()


def test_refining_brings_a_blurred_estimate_nearer_to_the_truth():
    truth = body()
    xrays = project(truth, WHOLE, SHOTS)
    blurred = torch.nn.functional.avg_pool3d(truth[None], 5, stride=1, padding=2)[0]
    result = refine(cut(blurred, WHOLE, CUBE), xrays, SHOTS, CUBE)
    wanted = cut(truth, WHOLE, CUBE)
    assert (result.mu - wanted).norm() < (cut(blurred, WHOLE, CUBE) - wanted).norm()
    assert max(result.after) < max(result.before)


def test_a_body_wider_than_the_cube_comes_back_without_a_bright_rim():
    wide = body(half=(260.0, 150.0))
    xrays = project(wide, WHOLE, SHOTS)
    mu = cut(sart(xrays, SHOTS, WHOLE), WHOLE, CUBE)
    narrow = sart(xrays, SHOTS, CUBE)  # the mistake: all that the rays met is pressed into the cube
    middle, rim = slice(6, 10), [0, 15]
    truth = cut(wide, WHOLE, CUBE)
    assert mu[middle, middle][..., rim].mean() < 1.15 * truth[middle, middle][..., rim].mean()
    assert narrow[middle, middle].mean() > 1.15 * truth[middle, middle].mean()


def test_the_cube_is_put_back_where_it_was_cut_out(generator):
    around = torch.rand(WHOLE.shape, generator=generator)
    assert_close(put(cut(around, WHOLE, CUBE), around, WHOLE, CUBE), around)
    zero = put(torch.zeros(CUBE.shape), around, WHOLE, CUBE)
    assert cut(zero, WHOLE, CUBE).abs().max() == 0 and zero.sum() > 0


def test_an_unknown_gain_and_offset_are_found():
    truth = body()
    xrays = project(truth, WHOLE, SHOTS)
    gains, offsets = torch.tensor([3.0, 0.5])[:, None, None], torch.tensor([0.7, -0.2])[:, None, None]
    fitted, found, shifts = fit_scale(truth, xrays * gains + offsets, WHOLE, SHOTS)
    assert_close(fitted, xrays, atol=1e-6, rtol=1e-6)
    assert found == pytest.approx([1 / 3, 2.0], rel=1e-4) and shifts == pytest.approx([-0.7 / 3, 0.4], abs=1e-4)


def test_rounds_end_once_the_residual_is_noise(generator):
    clean = project(body(), WHOLE, SHOTS)
    noisy = clean + 0.05 * torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
    start = torch.full(WHOLE.shape, 0.25 * MU_WATER, dtype=torch.float64)

    def residual(noise):
        mu = rounds_of(start, noisy, WHOLE, SHOTS, rounds=60, noise=noise)
        return float((project(mu, WHOLE, SHOTS) - noisy).square().mean().sqrt())

    assert residual(0.0) < residual(0.2) <= 0.2


def test_a_step_is_differentiable_in_the_estimate_the_x_ray_and_the_weights(generator):
    grid = Grid.canonical((4, 4, 4), 60.0)
    beam = chest_view(View.PA, pixels=4)
    draw = lambda *shape: torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5  # noqa: E731
    inputs = [t.requires_grad_() for t in (draw(4, 4, 4), 60 * draw(1, 4, 4), draw(4, 4, 4))]
    assert torch.autograd.gradcheck(lambda mu, xray, weights: step(mu, xray, weights, grid, beam), inputs)
