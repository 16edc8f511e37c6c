"""Phantoms: what is stated is what is drawn."""

import numpy as np
import pytest

from raylift.data.phantom import LABELS, torso
from raylift.errors import BadInput, GeometryError
from raylift.types import Grid

COARSE = Grid.canonical((80, 80, 112), 5.0)


@pytest.fixture(scope="module")
def phantoms():
    return [torso(seed, grid=COARSE) for seed in range(6)]


def centre_of(phantom, *names):
    """Centre of mass (LPS mm) of labels."""
    mask = np.isin(phantom.labels, [LABELS[name] for name in names])
    return phantom.volume.grid.world(np.argwhere(mask).mean(0))


def test_same_seed_same_bytes(phantoms):
    again = torso(0, grid=COARSE)
    assert again.volume.hu.tobytes() == phantoms[0].volume.hu.tobytes()
    assert again.labels.tobytes() == phantoms[0].labels.tobytes()
    assert again.truth == phantoms[0].truth
    assert again.volume.hu.tobytes() != phantoms[1].volume.hu.tobytes()


def test_labels_agree_with_the_stated_lungs(phantoms):
    for phantom in phantoms:
        for side in ("right", "left"):
            counted = (phantom.labels == LABELS[f"lung_{side}"]).sum() * 0.125
            assert counted == pytest.approx(phantom.truth[f"lung_{side}_ml"], rel=0.05)
        assert 2000 < phantom.truth["lung_right_ml"] + phantom.truth["lung_left_ml"] < 8000


def test_left_is_left_and_back_is_back(phantoms):
    for phantom in phantoms:
        spine, heart = centre_of(phantom, "vertebrae"), centre_of(phantom, "heart")
        assert heart[0] > 5 and centre_of(phantom, "stomach", "gas")[0] > 10 > centre_of(phantom, "liver")[0]
        assert spine[1] > heart[1] + 30 and abs(spine[0]) < 15
        assert centre_of(phantom, "lung_left")[0] > 30 and centre_of(phantom, "lung_right")[0] < -30
        assert centre_of(phantom, "airway")[2] > heart[2] > centre_of(phantom, "liver")[2]


def test_hounsfield_units_are_those_of_tissue(phantoms):
    for phantom in phantoms:
        hu, labels = phantom.volume.hu, phantom.labels
        assert hu.min() >= -1024 and hu.max() <= 1500
        assert (hu[labels == 0] < -100).mean() > 0.95 and hu[0, 0, 0] == -1000
        for name, low, high in (("lung_left", -950, -650), ("liver", 20, 140), ("vertebrae", 80, 600)):
            assert low < np.median(hu[labels == LABELS[name]]) < high, name


def test_a_coarse_phantom_is_the_mean_of_a_fine_one():
    coarse = torso(3, grid=COARSE).volume.hu
    fine = torso(3, grid=Grid.canonical((160, 160, 224), 2.5)).volume.hu.astype(np.float32)
    mean = fine.reshape(80, 2, 80, 2, 112, 2).mean((1, 3, 5))
    assert np.abs(coarse - mean).mean() < 20
    assert abs(coarse.mean() - mean.mean()) < 3
    line = 0.005 * np.clip(1000 + np.stack([coarse, mean]), 0, None).sum(2)  # frontal, mm of water / 1000
    assert np.abs(line[0] - line[1]).mean() < 5


@pytest.mark.parametrize(("side", "upright"), [("right", True), ("left", False)])
def test_a_pneumothorax_has_the_stated_volume_and_place(side, upright):
    whole = torso(5, grid=COARSE, upright=upright)
    leaky = torso(5, grid=COARSE, upright=upright, pneumothorax_ml=400.0, pneumothorax_side=side)
    lost = whole.truth[f"lung_{side}_ml"] - leaky.truth[f"lung_{side}_ml"]
    assert lost == pytest.approx(400, rel=0.01)
    counted = (leaky.labels == LABELS["pneumothorax"]).sum() * 0.125
    assert counted == pytest.approx(400, rel=0.05)
    air, lung = centre_of(leaky, "pneumothorax"), centre_of(whole, f"lung_{side}")
    assert (air[2] > lung[2] + 20) if upright else (air[1] < lung[1] - 20)
    assert (air[0] > 0) == (side == "left")


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(BadInput, match="does not fit"):
        torso(0, grid=COARSE, pneumothorax_ml=1e5)
    with pytest.raises(GeometryError, match="upright"):
        torso(0, grid=Grid((8, 8, 8), np.eye(4)))


def test_a_torso_is_drawn_in_a_second_of_work():
    from time import process_time

    grid = Grid.canonical((128, 128, 128), 2.5)
    torso(0, grid=grid)  # compiles
    began = process_time()
    for seed in (1, 2, 3):
        torso(seed, grid=grid)
    assert (process_time() - began) / 3 < 2.0  # about 0.45 alone; others may be on the machine


def test_people_differ(phantoms):
    names = ("lung_right_ml", "lung_left_ml", "chest_wide", "stature", "heart_mm", "fat_mm", "kyphosis_mm")
    for name in names:
        values = np.array([phantom.truth[name] for phantom in phantoms])
        assert values.std() > 0.02 * np.abs(values.mean()), name
    hu = [phantom.volume.hu.astype(float) for phantom in phantoms]
    assert min(np.abs(a - b).mean() for k, a in enumerate(hu) for b in hu[:k]) > 30
