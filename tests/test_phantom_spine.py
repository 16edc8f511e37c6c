"""Phantoms of vertebrae and spines: what is stated is what is drawn, and what is drawn can be measured."""

import numpy as np
import pytest

from raylift.data.phantom import KINDS, VERTEBRAE, save_phantoms, spine, vertebra
from raylift.errors import BadInput, GeometryError
from raylift.io import read_ct
from raylift.segment.measure import angles, measure_all
from raylift.segment.vertebrae import VERSE, Vertebrae
from raylift.types import Grid

SMALL = Grid.canonical((64, 64, 64), 2.0)
LONG = Grid.canonical((300, 120, 132), 2.0)


def of(phantom) -> Vertebrae:
    return Vertebrae(labels=phantom.labels, grid=phantom.volume.grid, how="phantom")


@pytest.mark.parametrize("angle", [0.0, 25.0, 60.0])
def test_the_endplates_make_the_stated_angles(angle):
    truth = spine(3, grid=LONG, cobb_deg=angle, upper="T6", lower="L1", kyphosis_deg=40.0, lordosis_deg=45.0).truth
    assert truth["cobb_deg"] == pytest.approx(angle, abs=1e-9)
    assert truth["angles"]["cobb"]["cobb_deg"] == pytest.approx(angle, abs=1e-9)  # no other pair is further apart
    if angle:
        assert (truth["angles"]["cobb"]["upper"], truth["angles"]["cobb"]["lower"]) == ("T6", "L1")


def test_kyphosis_and_lordosis_are_the_stated_ones_without_compressed_levels():
    truth = spine(3, grid=LONG, kyphosis_deg=38.0, lordosis_deg=47.0, wedges={}).truth["angles"]
    assert truth["kyphosis"]["deg"] == pytest.approx(38.0, abs=1e-9)
    assert truth["lordosis"]["deg"] == pytest.approx(47.0, abs=1e-9)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_curve_bulges_to_the_stated_side(side):
    truth = spine(1, grid=LONG, cobb_deg=45.0, upper="T5", lower="T12", convex=side).truth
    x = {level: body["centre_mm"][0] for level, body in truth["bodies"].items()}
    bulge = x["T8"] - (x["T4"] + x["L1"]) / 2
    assert (bulge > 8) if side == "left" else (bulge < -8)
    assert truth["angles"]["cobb"]["convex"] == side


def test_the_same_seed_gives_the_same_bytes_and_another_grid_the_same_spine():
    first, again, other = spine(5, grid=LONG), spine(5, grid=LONG), spine(6, grid=LONG)
    assert first.volume.hu.tobytes() == again.volume.hu.tobytes() and first.labels.tobytes() == again.labels.tobytes()
    assert first.truth == again.truth and first.volume.hu.tobytes() != other.volume.hu.tobytes()
    coarse = spine(5, grid=Grid.canonical((200, 80, 88), 3.0)).truth
    assert coarse["bodies"]["T8"]["anterior_mm"] == first.truth["bodies"]["T8"]["anterior_mm"]


def test_labels_are_the_levels_from_the_head_down():
    phantom = spine(2, grid=LONG)
    found = of(phantom)
    assert tuple(found.levels) == VERTEBRAE
    heights = [found.centroid_mm(level)[2] for level in VERTEBRAE]
    assert heights == sorted(heights, reverse=True)
    for level in ("T1", "T8", "L3"):  # the body's centre is in its own bone
        d, h, w = np.round(phantom.volume.grid.index(phantom.truth["bodies"][level]["centre_mm"])).astype(int)
        assert phantom.labels[d, h, w] == VERSE[level]
        assert phantom.volume.hu[d, h, w] > 60


def test_a_spine_is_measured_as_it_was_drawn():
    phantom = spine(0, cobb_deg=40.0)
    bodies, failed = measure_all(of(phantom))
    assert not failed and len(bodies) == 17
    found, true = angles(bodies), phantom.truth["angles"]
    assert found["cobb"]["cobb_deg"] == pytest.approx(40.0, abs=1.0)
    assert found["kyphosis"]["deg"] == pytest.approx(true["kyphosis"]["deg"], abs=3.0)
    assert found["lordosis"]["deg"] == pytest.approx(true["lordosis"]["deg"], abs=3.0)
    for level, body in bodies.items():
        truth = phantom.truth["bodies"][level]
        assert np.linalg.norm(np.subtract(body.centre_mm, truth["centre_mm"])) < 1.5
        for name in ("anterior_mm", "middle_mm", "posterior_mm"):
            assert getattr(body, name) == pytest.approx(truth[name], abs=1.5), (level, name)  # a voxel


def test_seventeen_classes_grow_from_the_neck_to_the_loins():
    widths = [
        vertebra(1, level=level, grid=SMALL).truth["bodies"][level]["width_mm"] for level in ("T4", "T9", "L1", "L5")
    ]
    assert widths == sorted(widths)
    for level in VERTEBRAE[::4]:
        phantom = vertebra(2, level=level, grid=SMALL)
        assert set(np.unique(phantom.labels)) == {0, VERSE[level]}
        mask = phantom.labels == VERSE[level]
        low, high = (phantom.volume.grid.world(np.argwhere(mask)[k]) for k in (0, -1))
        centre = np.array(phantom.truth["bodies"][level]["centre_mm"])
        behind = phantom.volume.grid.world(np.argwhere(mask))[:, 1].max() - centre[1]
        assert behind > 25 and low[2] > high[2]  # a spinous process; D runs to the feet


def test_a_stated_wedge_is_the_difference_of_front_and_back():
    for wedge in (-8.0, 0.0, 15.0):
        body = vertebra(4, level="L2", wedge_deg=wedge, grid=SMALL).truth["bodies"]["L2"]
        assert body["wedge_deg"] == pytest.approx(wedge, abs=0.3)
        drop = body["posterior_mm"] - body["anterior_mm"]
        assert drop == pytest.approx(2 * np.tan(np.radians(wedge / 2)) * body["depth_mm"], abs=0.6)


def test_a_dish_lowers_the_middle_alone():
    flat, hollow = (vertebra(4, level="L2", grid=SMALL, dish_mm=d).truth["bodies"]["L2"] for d in (0.0, 2.0))
    assert hollow["middle_mm"] == pytest.approx(flat["middle_mm"] - 4.0)
    assert hollow["anterior_mm"] == flat["anterior_mm"]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(BadInput, match="room"):
        spine(0, grid=SMALL)
    with pytest.raises(BadInput, match="at most 90"):
        spine(0, grid=LONG, cobb_deg=120.0)
    with pytest.raises(BadInput, match="does not run down"):
        spine(0, grid=LONG, upper="L1", lower="T5")
    with pytest.raises(LookupError, match="did you mean"):
        vertebra(0, level="L9")
    with pytest.raises(BadInput, match="at most 25"):
        vertebra(0, wedge_deg=40.0)
    with pytest.raises(GeometryError, match="upright"):
        vertebra(0, grid=Grid((64, 64, 64), np.eye(4)))


def test_every_kind_is_saved_with_its_labels_and_truth(tmp_path):
    for kind in ("vertebra", "torso"):
        (folder,) = save_phantoms(1, tmp_path, kind=kind, spacing=2.0 if kind == "vertebra" else 5.0)
        assert folder.name == f"{kind}-0000"
        labels = read_ct(folder / "labels.nii.gz")
        assert (
            labels.hu.shape
            == read_ct(folder / "ct.nii.gz").hu.shape
            == KINDS[kind].grid(2.0 if kind == "vertebra" else 5.0).shape
        )
        assert (folder / "truth.json").is_file()
    with pytest.raises(LookupError, match="did you mean 'spine'"):
        save_phantoms(1, tmp_path, kind="spin")
    with pytest.raises(BadInput, match="side of"):
        save_phantoms(1, tmp_path, kind="vertebra", spacing=0.0)
