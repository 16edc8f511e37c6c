"""Faults: what each does to the X-rays, that methods suffer from them, and what table and figure say."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from raylift import DISCLAIMER, models
from raylift.data import store
from raylift.errors import BadInput, GeometryError
from raylift.experiments.material import make
from raylift.experiments.spec import SIZES
from raylift.geometry import preset_beam
from raylift.models import sart
from raylift.projector import project
from raylift.report.stress import along, as_csv, as_markdown, figure_of, rows_of, write_stress
from raylift.stress import FAULTS, _without_air_around, exposed, stress
from raylift.stress.faults import Scene, turned
from raylift.types import View, Volume
from test_evaluate import N, make_dataset, small  # noqa: F401

WINDOW = (-1024.0, 1476.0)


@pytest.fixture(scope="module")
def balls(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("stress") / "balls", 2)


@pytest.fixture
def case(balls):
    return store.open_case(balls / "cases" / "c0")


def shown(case, fault: str, severity: float = 1.0):
    generator = torch.Generator().manual_seed(0)
    return exposed(case, models.get("sart"), FAULTS[fault], severity, generator)[0]


def test_without_a_fault_the_xrays_are_the_stored_ones(case):
    assert torch.allclose(shown(case, "none"), torch.from_numpy(np.array(case.xrays())), rtol=2e-3, atol=2e-3)


def test_a_turned_lateral_is_a_frontal():
    lateral, frontal = (preset_beam(view, pixels=8, isocentre_mm=(10, 20, 30)) for view in (View.LAT, View.AP))
    found = turned(lateral, 90.0, (10.0, 20.0, 30.0))
    np.testing.assert_allclose(found.source_mm, frontal.source_mm, atol=1e-9)
    assert turned(lateral, 0.0, (10.0, 20.0, 30.0)) == lateral
    back = turned(turned(lateral, 20.0, (10.0, 20.0, 30.0)), -20.0, (10.0, 20.0, 30.0))
    np.testing.assert_allclose(back.source_mm, lateral.source_mm, atol=1e-9)


def test_each_fault_does_what_its_name_says(case):
    plain = shown(case, "none")
    assert torch.equal(shown(case, "swapped"), shown(case, "none").flip(0))
    noisy = [float((shown(case, "noise", photons) - plain).square().mean()) for photons in (1e6, 1e4)]
    assert 0 < noisy[0] < noisy[1]
    assert float(shown(case, "metal", 30.0).max()) > float(plain.max()) + 1
    narrow = shown(case, "collimation", 0.5)
    assert (narrow[:, : N // 4] == 0).all() and torch.equal(narrow[:, N // 2, N // 2], plain[:, N // 2, N // 2])
    wide = shown(case, "spacing", 0.3)  # the panel shows more, so the ball is smaller on it
    assert (wide > 0.1).sum() < (plain > 0.1).sum()
    moved = shown(case, "shift", 40.0)
    assert torch.equal(moved[0], plain[0])
    rows = torch.arange(N)[:, None]
    heights = [(x[1] * rows).sum() / x[1].sum() for x in (plain, moved)]
    assert heights[1] > heights[0]  # the patient went down, and so did the shadow


def test_metal_is_all_that_it_changes_of_the_truth(case):
    generator = torch.Generator().manual_seed(0)
    plain, metal = (exposed(case, models.get("sart"), FAULTS[name], 20.0, generator)[2] for name in ("none", "metal"))
    changed = (metal - plain).abs() > 1
    assert 0 < changed.float().mean() < 0.05 and float(metal.max()) > 5000


def test_air_behind_a_turned_panel_is_no_hindrance(case):
    """The cube's corners are empty, and the last beam stands so near that its panel cuts them off."""
    beam = case.beams[-1]
    centre, side = np.array(case.grid.centre_mm), case.grid.shape[0] * case.grid.spacing_mm[0]
    way = beam.detector_centre_mm - centre
    near = replace(beam, detector_centre_mm=tuple(centre + 0.6 * side * way / np.linalg.norm(way)))
    scene = Scene(volume=Volume(hu=case.ct(), grid=case.grid, source="c"), beams=(near,), cube=case.grid)
    turned_scene = FAULTS["angle"].before(scene, 20.0)
    with pytest.raises(GeometryError):
        project(torch.zeros(case.grid.shape), case.grid, turned_scene.beams)
    seen = _without_air_around(scene.volume)
    assert project(torch.ones(seen.hu.shape), seen.grid, turned_scene.beams).max() > 0


def test_noise_is_the_same_for_the_same_seed(case):
    assert torch.equal(shown(case, "noise", 1e4), shown(case, "noise", 1e4))


def test_methods_lose_by_faults_and_the_table_says_how_much(balls, tmp_path):
    found = stress(
        ["sart"], balls, window=WINDOW, faults=("none", "angle", "swapped", "spacing", "noise"), device="cpu"
    )
    means = {(t.fault, t.severity): t.mean("psnr") for t in found.trials}
    assert means["spacing", 0.3] < means["none", 0.0] and means["spacing", -0.3] < means["none", 0.0]
    assert all(len(t.cases) == 2 and not t.failed for t in found.trials)
    titles, rows = rows_of(found)
    assert titles[1] == "sart, refined" and rows[0][0] == "none" and "(" not in rows[0][1] and "(" in rows[-1][1]
    assert "other anatomy" in as_markdown(found) and as_markdown(found).startswith(DISCLAIMER)
    assert len(list(csv.DictReader(as_csv(found).splitlines()))) == 2 * len(found.trials)
    assert [t.label for t in along(found, "sart", True, "spacing")] == ["-0.3", "-0.1", "", "0.1", "0.3"]
    assert [t.severity for t in along(found, "sart", True, "noise")] == [0.0, 1e5, 1e4, 1e3]
    assert figure_of(found)[:4] == b"\x89PNG"
    write_stress(found, tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_a_fault_that_nobody_knows_is_named(balls):
    with pytest.raises(BadInput, match="did you mean 'angle'"):
        stress(["sart"], balls, window=WINDOW, faults=("angel",))


def test_one_view_cannot_be_swapped():
    assert FAULTS["swapped"].least_views == 2 and sart.MODEL.views == (View.PA, View.LAT)


def test_the_metal_is_titanium():
    from raylift.stress.faults import TITANIUM_HU

    assert pytest.approx(15780, rel=0.01) == TITANIUM_HU  # 0.766 cm2/g at 4.51 g/cm3 (NIST)


def test_sart_stands_beside_nets_of_any_profile(tmp_path):
    data = make("vertebra", tmp_path / "vertebrae", replace(SIZES["smoke"], voxels=16))
    found = stress(["sart"], data, window=WINDOW, faults=("none", "swapped"), count=1, device="cpu")
    assert not any(trial.failed for trial in found.trials)
    sound, swapped = (trial.mean("psnr") for trial in found.trials)
    assert swapped < sound - 2
