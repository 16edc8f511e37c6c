"""Laws of values: each conversion and its way back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raylift import physics

WINDOW = (-1024.0, 1476.0)


@given(st.floats(-1000, 4000))
def test_hu_and_attenuation_undo_each_other_from_air_up(hu):
    assert physics.mu_to_hu(physics.hu_to_mu(np.float64(hu))) == pytest.approx(hu, abs=1e-6)


def test_nothing_is_emptier_than_vacuum():
    assert physics.hu_to_mu(np.array([-3000.0, -1000.0])).tolist() == [0.0, 0.0]


@given(st.floats(0, 12))
def test_intensity_and_line_integral_undo_each_other(integral):
    there = physics.line_integral_to_intensity(np.float64(integral), air=60000.0)
    assert physics.intensity_to_line_integral(there, air=60000.0) == pytest.approx(integral, abs=1e-9)


def test_ten_centimetres_of_water_let_through_what_60_kev_photons_do():
    assert physics.line_integral_to_intensity(np.float64(100 * physics.MU_WATER)) == pytest.approx(0.1276, abs=1e-4)


@given(st.floats(-1024, 1476))
def test_hu_and_unit_undo_each_other_inside_the_window(hu):
    assert physics.unit_to_hu(physics.hu_to_unit(np.float64(hu), WINDOW), WINDOW) == pytest.approx(hu, abs=1e-6)


def test_targets_undo_themselves_and_clip_as_they_say():
    hu = torch.tensor([-1000.0, 0.0, 700.0])
    for target in (physics.Unit(WINDOW), physics.ZScore(mean=-300.0, sd=420.0)):
        assert torch.allclose(target.decode(target.encode(hu)), hu, atol=1e-3)
    assert physics.Unit(WINDOW).encode(torch.tensor([-5000.0, 5000.0])).tolist() == [0.0, 1.0]
    assert physics.Unit(WINDOW).decode(torch.tensor([-1.0, 2.0])).tolist() == [-1024.0, 1476.0]


@given(st.floats(0.1, 50), st.floats(-5, 5))
def test_a_nets_input_does_not_depend_on_gain_or_offset(gain, offset):
    picture = torch.linspace(0, 4, 40 * 30, dtype=torch.float64).reshape(1, 1, 40, 30).sqrt()
    plain, scaled = physics.xray_to_input(picture), physics.xray_to_input(picture * gain + offset)
    assert torch.allclose(plain, scaled, atol=1e-4)
    assert plain.min() == 0 and plain.max() == 1


def test_each_picture_is_scaled_by_itself_and_a_constant_one_becomes_0():
    pair = torch.stack([torch.arange(100.0).reshape(10, 10), torch.full((10, 10), 3.0)])[None]
    first, second = physics.xray_to_input(pair)[0]
    assert first.max() == 1 and second.abs().max() == 0
