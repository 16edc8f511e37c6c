"""Losses: what each is at a match, that its gradient is finite there, and its formula as a plain loop."""

from itertools import product

import numpy as np
import pytest
import torch

from raylift import losses
from raylift.errors import UnknownName
from raylift.losses import LOSSES, lsgan_discriminator, lsgan_generator
from raylift.projector import project
from raylift.types import Grid

SYMMETRIC = {"mse", "l1", "projection", "mip", "igdl", "ffl", "frequency", "ssim", "cone_projection"}
NOT_ZERO_AT_A_MATCH = {"edge"}
OPTIONS = {"cone_projection": {"pixels": 8, "rotation_deg": 0.0, "shift": 0.0}}
every_loss = pytest.mark.parametrize("name", LOSSES)


def loss(name, a, b, **options):
    return LOSSES[name](a, b, **OPTIONS.get(name, {}), **options)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 2, 1, 8, 8, 8, generator=generator, dtype=torch.float64)
    return a, b


@every_loss
def test_a_match_is_the_least_and_mostly_zero(name, pair):
    a, b = pair
    at_match, apart = loss(name, a, a), loss(name, b, a)
    assert at_match.shape == () and at_match < apart
    if name not in NOT_ZERO_AT_A_MATCH:
        assert at_match.item() == pytest.approx(0, abs=1e-12)


@every_loss
def test_the_gradient_is_finite_at_a_match_and_reaches_the_prediction_elsewhere(name, pair):
    a, b = pair
    for truth in (a, b):
        prediction = a.clone().requires_grad_()
        loss(name, prediction, truth).backward()
        assert torch.isfinite(prediction.grad).all()
    assert prediction.grad.abs().max() > 0


@every_loss
def test_a_constant_volume_is_no_trouble(name):
    prediction = torch.zeros(1, 1, 8, 8, 8, requires_grad=True)
    value = loss(name, prediction, torch.zeros(1, 1, 8, 8, 8))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(prediction.grad).all()


@every_loss
def test_which_losses_are_symmetric(name, pair):
    a, b = pair
    same = torch.isclose(loss(name, a, b), loss(name, b, a), rtol=1e-9)
    assert bool(same) == (name in SYMMETRIC)


@every_loss
def test_what_is_not_valid_does_not_count(name, pair):
    a, b = pair
    valid = torch.ones_like(a, dtype=torch.bool)
    torch.testing.assert_close(loss(name, a, b, valid=valid), loss(name, a, b))
    valid[:, :, :, 5:] = False
    wild_a, wild_b = torch.where(valid, a, 77.0), torch.where(valid, b, torch.nan)
    prediction = wild_a.clone().requires_grad_()
    value = loss(name, prediction, wild_b, valid=valid)
    value.backward()
    torch.testing.assert_close(value, loss(name, a, b, valid=valid))
    assert (prediction.grad[~valid] == 0).all()


@every_loss
def test_half_precision_goes_in_and_float32_comes_out(name, pair):
    a, b = (x.to(torch.bfloat16) for x in pair)
    assert loss(name, a, b).dtype == torch.float32


@every_loss
def test_mixed_precision_ends_where_a_loss_begins(name, pair):
    a, b = (x.float() for x in pair)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(name, a, b)
    torch.testing.assert_close(value, loss(name, a, b))


def test_mse_and_l1_are_means(pair):
    a, b = (x.numpy() for x in pair)
    assert losses.mse(*pair).item() == pytest.approx(((a - b) ** 2).mean())
    assert losses.l1(*pair).item() == pytest.approx(np.abs(a - b).mean())


def test_projections_as_a_plain_loop(pair):
    """Mean |.| (X2CT-GAN) and maximum (EAR) along each ray of each axis."""
    a, b = (x.numpy()[:, 0] - 0.3 for x in pair)
    mean, largest = [], []
    for axis in range(3):
        for n, i, j in product(range(2), range(8), range(8)):
            rays = [np.moveaxis(x[n], axis, -1)[i, j] for x in (a, b)]
            mean.append(abs(np.abs(rays[0]).mean() - np.abs(rays[1]).mean()))
            largest.append(abs(rays[0].max() - rays[1].max()))
    pair = [x - 0.3 for x in pair]
    assert losses.projection(*pair).item() == pytest.approx(np.mean(mean))
    assert losses.mip(*pair).item() == pytest.approx(np.mean(largest))


@pytest.mark.parametrize("power", [1, 2])
def test_igdl_as_a_plain_loop(pair, power):
    a, b = (x.numpy()[:, 0] for x in pair)
    total = 0.0
    for axis in range(3):
        terms = []
        for n, i, j, k in product(range(2), range(8), range(8), range(8)):
            at = [i, j, k]
            if at[axis] == 0:
                continue
            before = list(at)
            before[axis] -= 1
            steps = [abs(x[n][tuple(at)] - x[n][tuple(before)]) for x in (a, b)]
            terms.append(abs(steps[0] - steps[1]) ** power)
        total += np.mean(terms)
    assert losses.igdl(*pair, power=power).item() == pytest.approx(total)


def test_ffl_as_a_plain_loop(pair):
    a, b = (x.numpy()[:, 0] for x in pair)
    total = []
    waves = np.exp(-2j * np.pi * np.outer(np.arange(8), np.arange(8)) / 8) / np.sqrt(8)
    for n in range(2):
        spectrum = np.einsum("ui,vj,wk,ijk->uvw", waves, waves, waves, a[n] - b[n])
        weight = np.abs(spectrum) / np.abs(spectrum).max()
        total.append(weight * np.abs(spectrum) ** 2)
    assert losses.ffl(*pair).item() == pytest.approx(np.mean(total))


def test_frequency_is_the_mean_squared_error_on_a_logarithm(pair):
    mean_square = losses.mse(*pair).item()  # Parseval
    assert losses.frequency(*pair).item() == pytest.approx(np.log10(1 + mean_square / 1e-6))
    assert losses.frequency(*pair, exact=True).item() == pytest.approx(np.log10(mean_square))


def test_edge_as_a_plain_loop(pair):
    a, b = (x.numpy()[:, 0] for x in pair)

    def edges(x):
        padded = np.pad(x, 1, mode="edge")
        out = np.zeros_like(x)
        for i, j, k in product(range(8), repeat=3):
            centre = np.array([i, j, k]) + 1
            slope = [(padded[tuple(centre + e)] - padded[tuple(centre - e)]) / 2 for e in np.eye(3, dtype=int)]
            out[i, j, k] = 1 - np.exp(-np.sqrt(np.square(slope).sum() + 1e-12))
        return out

    terms = []
    for n in range(2):
        drawn, wanted = edges(a[n]), edges(b[n])
        terms.append(-(wanted * np.log(drawn) + (1 - wanted) * np.log(1 - drawn)))
    assert losses.edge(*pair).item() == pytest.approx(np.mean(terms))


def test_ssim_as_a_plain_loop(pair):
    a, b = (x.numpy()[0, 0] for x in pair)
    where = np.arange(8)
    window = np.exp(-((where[:, None] - where[None]) ** 2) / 4.5) * (np.abs(where[:, None] - where[None]) <= 5)
    values = []
    for i, j, k in product(range(8), repeat=3):
        w = np.einsum("a,b,c->abc", window[i], window[j], window[k])
        w = w / w.sum()
        ma, mb = (w * a).sum(), (w * b).sum()
        va, vb, cov = (w * a * a).sum() - ma**2, (w * b * b).sum() - mb**2, (w * a * b).sum() - ma * mb
        like = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
        values.append(like)
    assert losses.ssim(pair[0][:1], pair[1][:1]).item() == pytest.approx(1 - np.mean(values))


def test_the_released_codes_losses_look_at_projections(pair):
    flat = [x.mean((2, 3), keepdim=True).expand_as(x).contiguous() for x in pair]  # nothing changes along D and H
    for name in ("igdl", "ffl"):
        value = LOSSES[name](*pair, on="projections")
        assert value > 0 and LOSSES[name](pair[0], pair[0], on="projections") == 0
        assert torch.isfinite(LOSSES[name](*flat, on="projections"))


def test_lsgan_and_its_half():
    real, fake = torch.tensor([[1.0, 0.5]]), torch.tensor([[0.0, 2.0]])
    assert lsgan_discriminator(real, fake) == pytest.approx(0.125 + 2.0)
    assert lsgan_generator(fake) == pytest.approx(1.0)
    assert lsgan_discriminator(real, fake, half=True) == lsgan_discriminator(real, fake) / 2
    assert lsgan_generator(fake, half=True) == lsgan_generator(fake) / 2
    assert lsgan_discriminator(torch.ones(3), torch.zeros(3)) == 0
    assert lsgan_generator(torch.ones(3)) == 0


def test_cone_projections_grow_with_the_error_and_are_jittered(pair):
    a, b = pair
    steady = {"pixels": 16, "rotation_deg": 0.0, "shift": 0.0}
    once = losses.cone_projection(a, b, **steady)
    torch.testing.assert_close(losses.cone_projection(a, 2 * b - a, **steady), 2 * once)  # twice the difference
    assert losses.cone_projection(a, b, pixels=16) != losses.cone_projection(a, b, pixels=16)
    torch.manual_seed(0)
    first = losses.cone_projection(a, b, pixels=16)
    torch.manual_seed(0)
    assert losses.cone_projection(a, b, pixels=16) == first


def test_a_cone_projection_is_the_length_of_the_ray_in_the_cube():
    """A full cube, 128 a side: the central ray crosses 128 units, at 1.75 a step."""
    beams = losses.cone_beams(65, 0.0, 0.0)
    grid = Grid.canonical((16, 16, 16), 8.0)
    seen = project(torch.ones(16, 16, 16), grid, beams)
    torch.testing.assert_close(seen[:, 32, 32], torch.full((3,), 128.0), atol=0.5, rtol=0)
    where = torch.zeros(16, 16, 16)
    where[1, 2, 4] = 1  # to the head, the front and the right
    axial, sagittal, coronal = project(where, grid, beams)
    for picture, (row, column) in ((axial, (1, 1)), (sagittal, (1, 1)), (coronal, (1, 1))):
        r, c = divmod(int(picture.argmax()), 65)
        assert (r < 32) == row and (c < 32) == column


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'projection'"):
        losses.get("projecton")
