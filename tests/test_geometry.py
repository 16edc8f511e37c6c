"""Laws of beams and grids: what is where in the picture, and how large."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylift.errors import GeometryError
from raylift.geometry import (
    canonical,
    chest_view,
    cone_beam,
    depth_along,
    is_upright,
    parallel_beam,
    preset_beam,
    shadow,
    support,
)
from raylift.types import ConeBeam, Grid, ParallelBeam, View, Volume

RIGHT_FRONT_TOP = (-50.0, -60.0, 70.0)  # LPS
CENTRE = 127.5


def beams(view):
    parallel = parallel_beam(view, detector_mm=430, pixels=256)
    return [chest_view(view), preset_beam(view, "x2ct", pixels=256), parallel]


@pytest.mark.parametrize("view", list(View))
def test_a_marker_at_the_right_front_top_is_top_left_in_every_view(view):
    for beam in beams(view):
        row, column = shadow(beam, RIGHT_FRONT_TOP)
        assert row < CENTRE and column < CENTRE


@pytest.mark.parametrize("view", list(View))
def test_magnification_is_source_to_detector_over_source_to_object(view):
    beam = chest_view(view)
    a, b = shadow(beam, (0, 0, 0)), shadow(beam, (0, 0, -10))
    assert np.isclose((b - a)[0] * beam.pixel_mm[0], 10 * 1800 / 1500)
    assert np.isclose(beam.magnification(), 1800 / 1500)


@pytest.mark.parametrize("view", list(View))
def test_the_isocentre_falls_on_the_panels_centre_and_an_offset_moves_the_panel(view):
    assert np.allclose(shadow(chest_view(view), (0, 0, 0)), CENTRE)
    moved = chest_view(view, detector_offset_mm=(16.8, -8.4))
    assert np.allclose((shadow(moved, (0, 0, 0)) - CENTRE) * 430 / 256, (-16.8, 8.4))


def test_ninety_degrees_of_primary_angle_turn_pa_into_a_left_lateral():
    turned, lateral = chest_view(View.PA, primary_deg=90), chest_view(View.LAT)
    for name in ("source_mm", "detector_centre_mm", "column_dir", "row_dir"):
        assert np.allclose(getattr(turned, name), getattr(lateral, name), atol=1e-9)


@pytest.mark.parametrize("view", list(View))
def test_a_positive_secondary_angle_moves_the_panel_to_the_head(view):
    assert chest_view(view, secondary_deg=20).detector_centre_mm[2] > 50


@given(st.sampled_from(list(View)), st.floats(-180, 180), st.floats(-60, 60), st.tuples(*[st.floats(-300, 300)] * 3))
def test_the_repr_of_a_beam_makes_it_again(view, primary, secondary, isocentre):
    beam = chest_view(view, primary_deg=primary, secondary_deg=secondary, isocentre_mm=isocentre)
    assert eval(repr(beam), {"ConeBeam": ConeBeam}) == beam
    flat = parallel_beam(view, detector_mm=400, pixels=64, primary_deg=primary, isocentre_mm=isocentre)
    assert eval(repr(flat), {"ParallelBeam": ParallelBeam}) == flat


def test_moving_a_beam_moves_its_shadows_not_at_all():
    beam = chest_view(View.LAT, primary_deg=7)
    moved = beam.moved((3, -40, 12))
    assert np.allclose(shadow(moved, np.add(RIGHT_FRONT_TOP, (3, -40, 12))), shadow(beam, RIGHT_FRONT_TOP))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source_mm": (0, -300, 0)}, "detector's plane"),
        ({"source_mm": (0, float("nan"), 0)}, "finite"),
        ({"column_dir": (0, 0, 1)}, "right angles"),
        ({"row_dir": (0, 0, 0)}, "no length"),
        ({"pixels": (0, 5)}, "positive counts"),
        ({"pixel_mm": (1, -1)}, "positive numbers"),
    ],
)
def test_a_beam_that_cannot_be_is_refused(change, words):
    good = dict(
        source_mm=(0, 1500, 0),
        detector_centre_mm=(0, -300, 0),
        column_dir=(1, 0, 0),
        row_dir=(0, 0, -1),
        pixels=(8, 8),
        pixel_mm=(1, 1),
    )
    with pytest.raises(GeometryError, match=words):
        ConeBeam(**{**good, **change})


def test_an_axis_beyond_the_detector_is_refused():
    with pytest.raises(GeometryError, match="between source and detector"):
        cone_beam(View.PA, source_to_detector_mm=1000, source_to_axis_mm=1200, detector_mm=400, pixels=64)


def test_depth_is_measured_from_the_panel_to_the_source():
    for view in View:
        beam = chest_view(view)
        assert np.isclose(depth_along(beam, (0, 0, 0)), 300)
        assert np.isclose(depth_along(beam, beam.source_mm), 1800)


def test_world_and_index_undo_each_other():
    grid = Grid.canonical((5, 7, 9), (2.5, 1.5, 0.5), (10, 20, 30))
    points = np.array([[0, 0, 0], [1.5, 2, 7.25]])
    assert np.allclose(grid.index(grid.world(points)), points)
    assert np.allclose(grid.centre_mm, (10, 20, 30))
    assert is_upright(grid)


AXES = [(order, flips) for order in [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)] for flips in np.ndindex(2, 2, 2)]


@pytest.mark.parametrize(("order", "flips"), AXES)
def test_any_order_of_axes_comes_back_upright_with_every_voxel_in_its_place(lopsided, order, flips):
    hu, affine = lopsided.hu.transpose(order), lopsided.grid.affine.copy()
    affine[:3, :3] = lopsided.grid.affine[:3, order]
    for axis in np.flatnonzero(flips):
        affine[:3, 3] += affine[:3, axis] * (hu.shape[axis] - 1)
        affine[:3, axis] *= -1
    hu = np.flip(hu, np.flatnonzero(flips))
    back = canonical(Volume(hu=hu, grid=Grid(hu.shape, affine)))
    assert np.array_equal(back.hu, lopsided.hu)
    assert np.allclose(back.grid.affine, lopsided.grid.affine)


def test_an_oblique_volume_keeps_its_tilt_in_the_affine(lopsided):
    turn = np.eye(4)
    c, s = np.cos(np.radians(12)), np.sin(np.radians(12))
    turn[:2, :2] = [[c, -s], [s, c]]
    tilted = Volume(hu=lopsided.hu, grid=Grid(lopsided.hu.shape, turn @ lopsided.grid.affine))
    back = canonical(tilted)
    assert np.array_equal(back.hu, lopsided.hu) and not is_upright(back.grid)


def test_the_support_holds_the_cube_voxel_by_voxel_and_all_that_the_rays_cross():
    cube = Grid.canonical((64,) * 3, 5.0, (7, 8, 9))
    shots = [chest_view(v, isocentre_mm=(7, 8, 9)) for v in (View.PA, View.LAT)]
    whole = support(cube, shots, spacing_mm=5.0)
    place = whole.index(cube.world((0, 0, 0)))
    assert np.allclose(place, np.round(place))
    low, high = whole.corners_mm.min(0), whole.corners_mm.max(0)
    for beam in shots:
        for corner in beam.pixel_centres_mm()[[0, 0, -1, -1], [0, -1, 0, -1]]:
            for t in np.linspace(0, 1, 200):
                point = np.array(beam.source_mm) * (1 - t) + corner * t
                body = np.abs(point[:2] - (7, 8)) <= (280, 200)
                if body.all():
                    assert (point >= low - 1e-6).all() and (point <= high + 1e-6).all()
