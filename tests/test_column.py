"""The laws of finding vertebrae by their bone: the canal, the discs, and what is doubted."""

import numpy as np
import pytest

from raylift.data.phantom import spine
from raylift.geometry import canonical
from raylift.io import read_ct
from raylift.segment.column import PITCH_MM, _best_sequence, _gains, _sheared, from_bone
from raylift.segment.likely import doubts
from raylift.segment.midline import midline
from raylift.segment.vertebrae import VERSE, from_label_map
from raylift.types import Grid

SHORT = Grid.canonical((300, 120, 132), 2.0)


@pytest.fixture(scope="module")
def phantom():
    return spine(3, grid=SHORT, cobb_deg=20.0, wedges={}, noise_hu=15.0)


def test_the_midline_runs_through_every_body_before_its_canal(phantom):
    line = midline(phantom.volume)
    assert np.allclose(np.linalg.norm(line.up, axis=1), 1)
    for level, body in phantom.truth["bodies"].items():
        away = np.linalg.norm(line.points - body["centre_mm"], axis=1)
        assert away.min() < 8.0, level
    behind = np.einsum("ij,ij->i", line.canal - line.points, line.back)
    assert (behind > 10).all()


def test_a_leaning_sheet_is_level_on_the_plane_that_leans_with_it():
    across = np.meshgrid(np.arange(-9, 10, 3.0), np.arange(-6, 7, 3.0))
    side, back = (x.ravel() for x in across)
    rows = np.arange(60)[:, None]
    columns = np.where(np.abs(rows - (30 - 0.3 * side)) < 1.5, 400.0, 0.0)
    level, leaning = _sheared(columns, 0 * side), _sheared(columns, 0.3 * side)
    assert leaning.argmax() == 30 and leaning.max() > 1.5 * level.max()
    assert not np.allclose(leaning, _sheared(columns, 0.3 * back))


def test_discs_of_a_steady_pitch_are_all_found():
    level = np.full(260, 150.0)
    for at in range(30, 240, 26):
        level[at - 4 : at + 5] = 400.0
        level[at - 1 : at + 2] = 80.0
    found = _best_sequence(_gains(level, (0.0, 0.0)), level, level)
    assert np.abs(np.array(found) - np.arange(30, 240, 26)).max() <= 1
    assert PITCH_MM[0] <= np.diff(found).min()


def test_what_is_no_vertebra_is_doubted_and_why_is_told(phantom):
    class Cut:
        def __init__(self, at):
            self.contrast, self.normal = 1.0, np.array([0.0, 0, 1.0])

    rod = np.zeros((60, 40, 40), np.int32)
    rod[2:58, 10:30, 10:30] = 1
    sure, why = doubts(rod, Grid.canonical(rod.shape, 1.5), [Cut(0), Cut(1)])
    assert sure == [0.0] and why[0]


@pytest.mark.slow
def test_what_is_returned_of_a_phantom_is_right():
    drawn = spine(4, noise_hu=20.0)
    found = from_bone(drawn.volume, lowest="L5")
    assert len(found.levels) >= 15
    for level in found.levels:
        a, b = found.mask(level), drawn.labels == VERSE[level]
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.85, level


@pytest.mark.slow
def test_lumbar_vertebrae_of_a_real_ct_are_found_and_named(real):
    folder = real / "ct" / "totalseg-abdomen"
    found = from_bone(canonical(read_ct(folder / "example_ct.nii.gz")), lowest="L5")
    true = from_label_map(canonical(read_ct(folder / "spine_totalseg_vertebrae.nii.gz")))
    assert found.levels
    for level in found.levels:
        a, b = found.mask(level), true.mask(level)
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.75, level
