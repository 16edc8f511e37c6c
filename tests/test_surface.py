"""Surface distances: balls and slabs whose distances are known, agreement with DeepMind's package, bad input."""

import numpy as np
import pytest
from surface_distance import compute_average_surface_distance, compute_robust_hausdorff, compute_surface_distances

from raylift.errors import BadInput
from raylift.metrics import assd, hd95, signed_distances, signed_surface_distance

SPACING = (2.0, 1.0, 1.5)


def ball(radius_mm: float, shape=(24, 44, 32), spacing=SPACING) -> np.ndarray:
    place = np.stack(np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij"), -1)
    centre = (np.array(shape) - 1) * spacing / 2
    return np.linalg.norm(place - centre, axis=-1) < radius_mm


def test_balls_in_one_another_are_apart_by_the_difference_of_their_radii():
    small, large = ball(12), ball(16)
    assert assd(small, large, SPACING) == pytest.approx(4, abs=0.7)  # corners of voxels of 2 mm
    assert hd95(small, large, SPACING) == pytest.approx(4, abs=1.0)
    assert signed_surface_distance(small, large, SPACING) == pytest.approx(-4, abs=0.4)
    assert signed_surface_distance(large, small, SPACING) == pytest.approx(4, abs=0.4)


def test_a_mask_is_at_no_distance_from_itself_and_order_does_not_matter():
    a, b = ball(12), ball(14)
    assert assd(a, a, SPACING) == hd95(a, a, SPACING) == 0
    assert signed_surface_distance(a, a, SPACING) == pytest.approx(0, abs=1e-6)
    assert assd(a, b, SPACING) == assd(b, a, SPACING) and hd95(a, b, SPACING) == hd95(b, a, SPACING)


def test_points_have_the_distance_to_the_ball_with_its_sign():
    centre = np.array([23.0, 21.5, 23.25])
    rng = np.random.default_rng(0)
    towards = rng.normal(size=(50, 3))
    towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
    reach = rng.uniform(2, 20, 50)
    found = signed_distances(centre + towards * reach[:, None], ball(14), SPACING)
    assert np.abs(found - (reach - 14)).max() < 1.0  # half the coarsest voxel
    assert abs((found - (reach - 14)).mean()) < 0.3


def test_points_beyond_a_flat_side_have_exact_distances():
    slab = np.zeros((10, 12, 8), bool)
    slab[:, :6] = True
    points = np.array([[9.0, 3.5, 5.0], [9.0, 5.5, 5.0], [9.0, 8.25, 5.0]])
    assert signed_distances(points, slab, SPACING) == pytest.approx([-2.0, 0.0, 2.75], abs=1e-6)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_it_is_what_deepmind_measures(shift):
    a, b = ball(11), np.roll(ball(13), shift, 1)
    theirs = compute_surface_distances(a, b, SPACING)
    assert assd(a, b, SPACING) == pytest.approx(sum_weighted(theirs), rel=0.01)
    assert hd95(a, b, SPACING) == pytest.approx(compute_robust_hausdorff(theirs, 95), abs=0.01)


def sum_weighted(found) -> float:
    """Their two directed averages as one, each side weighed by its area."""
    areas = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
    return float(np.average(compute_average_surface_distance(found), weights=areas))


def test_a_mask_that_reaches_the_edge_is_closed_there():
    full = np.ones((4, 4, 4), bool)
    assert signed_distances(np.array([[1.5, 1.5, 1.5]]), full, (1.0, 1.0, 1.0)) == pytest.approx([-2.0])
    assert assd(full, full, (1.0, 1.0, 1.0)) == 0


def test_empty_masks_and_unequal_shapes_are_errors():
    empty, a = np.zeros((4, 4, 4), bool), ball(12)
    with pytest.raises(BadInput, match="no surface"):
        assd(a, np.zeros_like(a), SPACING)
    with pytest.raises(BadInput, match="no surface"):
        signed_distances(np.zeros((1, 3)), empty, SPACING)
    with pytest.raises(BadInput, match="unequal shapes"):
        hd95(a, a[1:], SPACING)
