"""Evaluating: the numbers are those of the metrics, nothing that failed is hidden, the files say what they are of."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raylift import metrics, models
from raylift.data import store
from raylift.data.records import target_record
from raylift.errors import BadInput
from raylift.evaluate import COLUMNS, Scores, evaluate, summarised
from raylift.geometry import preset_beam
from raylift.models import sart
from raylift.physics import hu_to_mu
from raylift.projector import project
from raylift.train import train
from raylift.types import Grid, Volume

WINDOW = (-1024.0, 1476.0)
N = 16


def make_dataset(folder: Path, count: int, **changes) -> Path:
    """Balls of water in air and their true X-rays, all in the split "test"."""
    names = [f"c{k}" for k in range(count)]
    for k, name in enumerate(names):
        grid = Grid.canonical((N,) * 3, 320 / N, (3.0 * k, 0, 0))
        place = grid.world(np.stack(np.meshgrid(*[np.arange(N)] * 3, indexing="ij"), -1)) - grid.centre_mm
        hu = np.where(np.linalg.norm(place, axis=-1) < 90 + 5 * k, 40.0, -1000.0).astype(np.float32)
        views = sart.MODEL.views
        beams = {v: preset_beam(v, pixels=N, isocentre_mm=tuple(grid.centre_mm)) for v in views}
        xrays = project(hu_to_mu(torch.from_numpy(hu)), grid, list(beams.values())).numpy()
        ct = Volume(hu=hu, grid=grid, source=name)
        store.write_case(folder / "cases" / name, patient=name, ct=ct, xrays=xrays, beams=beams)
    described = {
        "version": store.VERSION,
        "profile": "chest",
        "preset": "chest",
        "spacing": 320 / N,
        "size": N,
        "views": ["PA", "LAT"],
        "target": target_record(sart.MODEL.target),
        "complete_rays": True,
    }
    (folder / "dataset.json").write_text(json.dumps({**described, **changes}))
    splits = {"splits": {"test": names, "train": names}, "patients": dict(zip(names, names, strict=True)), "hash": "h"}
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder


@pytest.fixture(scope="module")
def balls(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("balls"), 2)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """SART at the balls' size."""
    options = {**sart.MODEL.options, **sart.MODEL.tiny}
    monkeypatch.setitem(models.MODELS, "sart", replace(sart.MODEL, options=options, size=N, spacing=320 / N))


def test_the_numbers_are_those_of_the_metrics(balls):
    seen = []
    scores = evaluate("sart", balls, window=WINDOW, device="cpu", progress=lambda *now: seen.append(now))
    assert seen == [(1, 2, "c0"), (2, 2, "c1")] and not scores.failed and scores.refine
    batch = store.load_batch([store.open_case(balls / "cases" / "c1")], views=sart.MODEL.views, size=N)
    model = models.get("sart")
    hu = model.target.decode(model.run(model.build(), batch.xrays, batch.beams)["ct"])[0, 0]
    for name in ("mae", "mse", "psnr", "ssim", "cosine"):
        value = float(getattr(metrics, name)(hu, batch.hu[0, 0], window=WINDOW))
        assert scores.cases["c1"][name] == pytest.approx(value, rel=1e-4), name
    assert scores.cases["c1"]["reprojection_before"] is None  # nothing stands before the algebra
    assert 0 < scores.cases["c1"]["reprojection_after"] < 0.3
    assert scores.cases["c1"]["psnr"] > 10


def test_a_run_is_evaluated_refined_and_not(balls, tmp_path):
    model = replace(models.get("raylift"), size=N, spacing=320 / N)
    model = replace(model, options={**model.options, **model.tiny})
    recipe = replace(model.recipe, augment="none")
    run = train(model, recipe, balls, tmp_path / "run", steps=2, device="cpu")
    refined = evaluate(run.folder, balls, window=WINDOW, device="cpu")
    plain = evaluate(run.folder, balls, window=WINDOW, device="cpu", refine=False)
    for case in ("c0", "c1"):
        a, b = refined.cases[case], plain.cases[case]
        assert a["reprojection_after"] < a["reprojection_before"] == pytest.approx(b["reprojection_before"])
        assert b["reprojection_after"] is None and a["mae"] != b["mae"]
    assert "not refined" in plain.header() and "not refined" not in refined.header()


def test_a_case_that_fails_is_named_and_the_rest_is_scored(tmp_path):
    folder = make_dataset(tmp_path / "set", 2)
    (folder / "cases" / "c0" / "ct.npy").write_bytes(b"nothing")
    scores = evaluate("sart", folder, window=WINDOW, device="cpu")
    assert list(scores.cases) == ["c1"] and "ct.npy" in scores.failed["c0"]
    assert "1 FAILED: c0" in scores.header() and scores.table()[1][-1][:2] == ["c0", "failed"]
    assert scores.csv().splitlines()[-1].startswith("sart,c0,")


def test_where_the_rays_saw_more_than_the_target_refining_is_refused(tmp_path):
    folder = make_dataset(tmp_path / "set", 1, complete_rays=False)
    with pytest.raises(BadInput, match="part of what the rays crossed"):
        evaluate("sart", folder, window=WINDOW, device="cpu", refine=True)
    scores = evaluate("sart", folder, window=WINDOW, device="cpu")
    assert not scores.refine
    assert scores.cases["c0"]["reprojection_before"] is None is scores.cases["c0"]["reprojection_after"]
    assert "–" in scores.table()[1][0]


def test_an_unknown_split_and_a_set_that_does_not_fit_are_told(balls, monkeypatch):
    with pytest.raises(BadInput, match="did you mean 'test'"):
        evaluate("sart", balls, split="tests", window=WINDOW, device="cpu")
    monkeypatch.setitem(models.MODELS, "sart", sart.MODEL)
    with pytest.raises(BadInput, match="cannot be averaged to 128"):
        evaluate("sart", balls, window=WINDOW, device="cpu")


def scores_of(values: list[float]) -> Scores:
    row = dict.fromkeys(COLUMNS, 1.0)
    return Scores(
        model="m",
        data="d",
        split="test",
        split_hash="h",
        window=WINDOW,
        size=128,
        spacing=2.5,
        refine=True,
        cases={f"c{k}": {**row, "psnr": value} for k, value in enumerate(values)},
    )


def test_under_six_cases_there_is_no_interval_and_from_six_on_there_is():
    few, many = scores_of([20, 21, 22, 23, 24.0]), scores_of([20, 21, 22, 23, 24, 25.0])
    assert few.summary()["psnr"]["ci95"] is None and [row[0] for row in few.table()[1]][-2:] == ["mean", "SD"]
    low, high = many.summary()["psnr"]["ci95"]
    assert 20 < low < 22.5 < high < 25
    assert many.table()[1][-1][0] == "95 % CI of the mean"


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        low, high = summarised(list(rng.normal(20, 2, 20)))["ci95"]
        covered += low <= 20 <= high
    assert 85 <= covered <= 99  # the percentile bootstrap of 20 values is a little narrow


def test_mean_and_sd():
    found = summarised([1.0, 2.0, 3.0, None])
    assert found["mean"] == 2 and found["sd"] == 1
    assert summarised([float("inf"), 1.0])["mean"] is None
    assert summarised([5.0])["sd"] is None


def test_the_files_state_the_window_and_can_be_read_back(tmp_path):
    scores = scores_of([20.0, float("inf")])
    scores.write(tmp_path / "out")
    told = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert told["window_hu"] == [-1024, 1476] and told["cases"]["c1"]["psnr"] is None
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    assert [row["case"] for row in rows] == ["c0", "c1"] and rows[0]["window_high_hu"] == "1476.0"
    assert "window -1024 to 1476 HU" in scores.header()


def test_more_metrics_are_reckoned_where_they_are_asked_for(balls):
    columns = ("psnr", "rmse", "psnr_slices", "dice_body", "frequency", "psnr_x2ct", "psnr_range", "lpips")
    found = evaluate("sart", balls, window=WINDOW, device="cpu", columns=columns)
    row = found.cases["c0"]
    assert tuple(row) == columns and row["lpips"] is None  # 16 voxels are too few for it
    assert row["frequency"] == pytest.approx(2 * np.log10(row["rmse"] / 2500), abs=1e-4)
    assert 0 < row["dice_body"] <= 1
    assert "peak 4095" in found.header() and "Dice of what is above -300 HU" in found.header()
    with pytest.raises(BadInput, match="did you mean 'psnr'"):
        evaluate("sart", balls, window=WINDOW, device="cpu", columns=("psnrr",))


def test_without_a_reprojection_asked_for_the_volume_is_the_same(balls):
    for refine in (False, True):
        with_, without = (
            evaluate("sart", balls, window=WINDOW, device="cpu", refine=refine, columns=columns).cases["c1"]["mae"]
            for columns in (("mae", "reprojection_after"), ("mae",))
        )
        assert with_ == pytest.approx(without, rel=1e-5)


def test_scores_come_back_from_their_record(balls):
    scores = evaluate("sart", balls, window=WINDOW, device="cpu")
    assert Scores.from_record(json.loads(json.dumps(scores.record()))).record() == scores.record()
