"""Assessing: the folder is whole, the truth stands beside, a study's numbers are those of its cases."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, grey_erosion

from raylift import DISCLAIMER, cli, io, models
from raylift.assess import Study, assess, study, working
from raylift.data import store
from raylift.data.phantom import pneumothorax, spine
from raylift.data.records import target_record
from raylift.errors import BadInput
from raylift.geometry import preset_beam
from raylift.models import sart
from raylift.physics import hu_to_mu
from raylift.projector import project
from raylift.report.assess import page, quantity_rows, study_section, write_assessment, write_study
from raylift.report.known import known
from raylift.segment.measure import measure_all
from raylift.segment.quantities import doubts
from raylift.segment.vertebrae import Vertebrae, as_volume, from_label_map
from raylift.spine.assessed import doubts as doubts_of_spine
from raylift.spine.assessed import spine_of, vertebrae_of
from raylift.types import Grid, Volume

COARSE = Grid.canonical((80, 64, 80), 4.0, (0.0, 10.0, 0.0))


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    phantom = pneumothorax(7300, grid=COARSE, ml=700.0, side="left", posture="supine", arms_up=True)
    return io.write_ct(phantom.volume, tmp_path_factory.mktemp("ct") / "ct.nii.gz")


@pytest.fixture(scope="module")
def result(ct, tmp_path_factory):
    """A folder as `raylift reconstruct` leaves it, with a blurred CT of half the truth's height."""
    folder = tmp_path_factory.mktemp("result")
    volume = io.read_ct(ct)
    blurred = replace(volume, hu=gaussian_filter(volume.hu.astype(np.float32), 1.0))
    io.write_ct(blurred, folder / "ct.nii.gz")
    (folder / "manifest.json").write_text(json.dumps({"files": ["ct.nii.gz"], "model": {"name": "<sart>"}}))
    return folder


def test_true_and_reconstructed_stand_side_by_side(ct, result, tmp_path):
    found = assess(result, truth=ct)
    write_assessment(found, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "assess.json").read_text())
    assert record["disclaimer"] == DISCLAIMER and record["reconstructed_by"] == "<sart>"
    assert record["chest"]["thresholds"] == record["truth"]["thresholds"] == "relative"
    for side, row in record["error"].items():
        for name, value in row.items():
            true, seen = record["truth"]["quantities"][side][name], record["chest"]["quantities"][side][name]
            assert value == pytest.approx(seen - true)
    assert record["truth"]["quantities"]["left"]["pneumothorax_ml"] == pytest.approx(700, rel=0.1)
    assert record["dice"]["right lung"] > 0.9
    assert len(quantity_rows(record)) == 3 and all(len(row) == 10 for row in quantity_rows(record))
    html = (tmp_path / "out" / "assess.html").read_text()
    assert DISCLAIMER in html and "&lt;sart&gt;" in html and "<sart>" not in html and "data:image/png" in html
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"assess.json", "assess.html", "chest.png", "labels.nii.gz", "labels-truth.nii.gz"}
    labels = io.read_ct(tmp_path / "out" / "labels.nii.gz")
    assert set(np.unique(labels.hu)) <= set(range(7))


def test_the_page_says_what_its_numbers_are_worth_and_took(ct, tmp_path):
    """Errors on phantoms as docs/assessment.md has them, seconds and memory."""
    found = assess(ct)
    write_assessment(found, tmp_path / "out")
    html = (tmp_path / "out" / "assess.html").read_text(encoding="utf-8")
    text = (Path(__file__).parents[1] / "docs" / "assessment.md").read_text(encoding="utf-8")
    assert list(known("chest")) == ["volumes at 1.6 mm", "volumes at 2.5 mm", "agreement"]
    for part in known("chest").values():
        assert part["caption"].replace("'", "&#39;") in html
        for row in part["rows"]:
            assert f"| {' | '.join(row)} |" in text, row
            assert all(cell.replace("'", "&#39;") in html for cell in row)
    assert found.record["runtime_s"] > 0 and "the process&#39;s memory, MiB" in html
    assert found.record["memory_mib"] is None or found.record["memory_mib"] > 50


def test_the_page_takes_a_section_more():
    from raylift.report.assess import Section, Table

    more = Section(title="Spine & more", tables=[Table(caption="T", head=["a"], rows=[["<b>"]])])
    html = page("x", [more], {"n": 1})
    assert "Spine &amp; more" in html and "&lt;b&gt;" in html and DISCLAIMER in html


def test_a_ct_by_itself_by_the_command_line(ct, tmp_path, capsys):
    assert cli.main(["assess", str(ct), "-o", str(tmp_path / "a")]) == 0
    told = capsys.readouterr().out
    assert told.startswith(DISCLAIMER) and "left: lung" in told
    assert json.loads((tmp_path / "a" / "assess.json").read_text())["chest"]["thresholds"] == "absolute"
    assert cli.main(["segment", str(ct), "-o", str(tmp_path / "s")]) == 0
    record = json.loads((tmp_path / "s" / "segment.json").read_text())
    assert record["disclaimer"] == DISCLAIMER and record["labels"]["airway"] == 2
    labels, truth = io.read_ct(tmp_path / "s" / "labels.nii.gz"), io.read_ct(ct)
    assert labels.grid == truth.grid


@pytest.fixture(scope="module")
def back(tmp_path_factory):
    """A CT of T12 to L2, its label map, and the folder of a reconstruction: the CT with every bone a little thinner."""
    folder = tmp_path_factory.mktemp("back")
    drawn = spine(3, grid=Grid.canonical((300, 100, 100), 2.0, (0.0, 0.0, 0.0)), cobb_deg=20.0, wedges={})
    true = Vertebrae(labels=drawn.labels, grid=drawn.volume.grid, how="phantom")
    box = slice(true.spans["T12"][0].start - 6, true.spans["L2"][0].stop + 6)
    affine = true.grid.affine.copy()
    affine[:3, 3] = true.grid.world((box.start, 0, 0))
    grid = Grid(drawn.volume.hu[box].shape, affine)
    ct, labels = (Volume(hu=hu[box], grid=grid, source="back") for hu in (drawn.volume.hu, as_volume(true).hu))
    thin = replace(ct, hu=grey_erosion(ct.hu, 2))
    (folder / "made").mkdir()
    io.write_ct(thin, folder / "made" / "ct.nii.gz")
    (folder / "made" / "manifest.json").write_text(json.dumps({"files": ["ct.nii.gz"], "model": {"name": "sart"}}))
    return io.write_ct(ct, folder / "ct.nii.gz"), io.write_ct(labels, folder / "labels.nii.gz"), folder / "made"


def test_the_spine_is_measured_where_the_vertebrae_are_known(back, tmp_path, capsys):
    ct, labels, _ = back
    assert cli.main(["assess", str(ct), "--labels", str(labels), "-o", str(tmp_path / "a")]) == 0
    assert "largest Cobb angle" in capsys.readouterr().out
    told = json.loads((tmp_path / "a" / "assess.json").read_text())["spine"]
    assert set(told["bodies"]) == {"T12", "L1", "L2"} and "beside" not in told
    for body in told["bodies"].values():
        assert 10 < body["anterior_mm"] < 40 and abs(body["wedge_deg"]) < 15
    html = (tmp_path / "a" / "assess.html").read_text()
    assert "Vertebral bodies" in html and "phantoms, true labels" in html
    assert {"spine.png", "vertebrae.nii.gz"} <= {p.name for p in (tmp_path / "a").iterdir()}


def test_measures_that_cannot_stand_beside_each_other_are_doubtful(back):
    bodies, _ = measure_all(from_label_map(io.read_ct(back[1])))
    assert doubts_of_spine(bodies) == {}
    flat = replace(bodies["L1"], anterior_mm=8.0, posterior_mm=8.0)
    assert list(doubts_of_spine(bodies | {"L1": flat})) == ["L1"]
    tall = replace(bodies["T12"], anterior_mm=45.0, posterior_mm=45.0)
    assert list(doubts_of_spine(bodies | {"T12": tall})) == ["T12"]
    leaning = replace(bodies["L2"].superior, normal=(0.0, -0.71, 0.71))
    assert "° apart" in doubts_of_spine(bodies | {"L2": replace(bodies["L2"], superior=leaning)})["L2"]
    assert doubts_of_spine({"T12": bodies["T12"], "L2": tall}) == {}  # no neighbours


def test_a_volume_without_bone_has_no_vertebrae(back):
    _, labels, made = back
    volume = io.read_ct(made / "ct.nii.gz")
    pale = replace(volume, hu=gaussian_filter(volume.hu.astype(np.float32), 12.0) - 100)  # slabs of it would pass
    found = spine_of(pale, vertebrae_of(volume, labels), model="sart")
    assert found.bodies == {} and "no bone" in found.manifest["notes"][-1]
    assert found.manifest["beside"]["true_angles"]["cobb"] is not None


def test_no_adults_chest_is_told():
    def both(right, left):
        sides = {"right": right, "left": left}
        total = None if right is left is None else (right or 0) + (left or 0)
        return {s: {"lung_ml": ml, "pneumothorax_ml": ml and 0.0} for s, ml in {**sides, "total": total}.items()}

    assert doubts(both(2500.0, 2100.0)) == []
    for right, left, why in (
        (2500.0, None, "No left"),
        (300.0, 300.0, "600 ml"),
        (9e3, 9e3, "18000"),
        (4e3, 400.0, "10 %"),
    ):
        (told,) = doubts(both(right, left))
        assert why in told
    gone = both(3000.0, 2500.0)
    gone["left"] = {"lung_ml": 100.0, "pneumothorax_ml": 2400.0}  # collapsed, and the cavity as large as it was
    assert doubts(gone) == []


def test_a_reconstructed_spine_stands_beside_the_true_one(back, tmp_path):
    ct, labels, made = back
    found = assess(made, truth=ct, labels=labels)
    write_assessment(found, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "assess.json").read_text())["spine"]
    assert "sart" in told["how"] and told["beside"]["true_angles"]["cobb"] is not None
    for row in told["beside"]["levels"]:
        assert row["true_anterior_mm"] - 5 < row["anterior_mm"] < row["true_anterior_mm"]  # thinner by a voxel
    errors = told["beside"]["errors"]["anterior_mm"]
    gaps = [abs(row["anterior_mm"] - row["true_anterior_mm"]) for row in told["beside"]["levels"]]
    assert errors["mean_abs"] == pytest.approx(np.mean(gaps)) and errors["max_abs"] == pytest.approx(max(gaps))
    html = (tmp_path / "out" / "assess.html").read_text()
    assert "on the true vertebrae" in html and "far off" in html


def test_what_cannot_be_assessed_is_refused(ct, result, tmp_path):
    far = Volume(hu=np.zeros((8, 8, 8), np.int16) + np.arange(8, dtype=np.int16), grid=Grid.canonical((8,) * 3, 4, 9e3))
    with pytest.raises(BadInput, match="lies elsewhere"):
        assess(ct, truth=io.write_ct(far, tmp_path / "far.nii.gz"))
    for content in ("{", '{"files": []}', '{"files": ["../x.nii.gz"], "model": {"name": "m"}}'):
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / "manifest.json").write_text(content)
        with pytest.raises(BadInput, match=r"manifest\.json"):
            assess(tmp_path / "bad")
    with pytest.raises(BadInput, match="too coarse"):
        working(Volume(hu=np.zeros((8, 8, 8), np.int16), grid=Grid.canonical((8, 8, 8), 12.0)))
    for option in ("--truth", "--labels"):
        assert cli.main(["assess", str(ct), "--model", "sart", option, str(ct), "-o", str(tmp_path / "x")]) == 2


def test_fine_voxels_are_joined_and_coarse_ones_kept():
    fine = working(Volume(hu=np.zeros((40, 40, 40), np.int16), grid=Grid.canonical((40,) * 3, (0.8, 0.7, 0.7))))
    assert fine.grid.spacing_mm == pytest.approx((1.6, 1.6, 1.6))
    kept = Volume(hu=np.zeros((8, 8, 8), np.int16), grid=Grid.canonical((8,) * 3, 2.5))
    assert working(kept).grid == kept.grid


def quantity(lung: float, air: float) -> dict:
    return {"lung_ml": lung, "pneumothorax_ml": air, "occupancy_percent": 100 * air / (lung + air)}


def blind(cases: dict) -> dict:
    """The same cases, reconstructed by something that shows no pneumothorax."""
    none = {side: quantity(1900.0, 0.0) for side in ("right", "left", "total")}
    return {name: row | {"found": none} for name, row in cases.items()}


def page_of(done: Study) -> str:
    return page("x", [study_section(done, done.record())], {})


def test_a_study_counts_every_case(tmp_path):
    rng, cases = np.random.default_rng(0), {}
    for k in range(8):
        true = {side: quantity(2000.0 + 10 * k, 100.0 * k) for side in ("right", "left", "total")}
        seen = {side: quantity(1900.0 + 9 * k, 80.0 * k + float(rng.uniform(0, 40))) for side in true}
        dice = {"right lung": 0.9, "left lung": 0.8, "air outside the lungs": None if k == 0 else 0.5}
        cases[f"c{k}"] = {"true": true, "found": seen, "dice": dice}
    done = Study(model="m", data="d", split="test", cases=cases, failed={"c9": "<bad>"}, refine=True)
    record = write_study(done, tmp_path / "study")
    volume = record["agreement"]["total pneumothorax_ml"]
    true, seen = done.values("total", "pneumothorax_ml")
    assert volume["pearson"]["value"] == pytest.approx(np.corrcoef(true, seen)[0, 1]) and volume["cases"] == 8
    assert volume["bias"] == pytest.approx(np.mean(np.subtract(seen, true)))
    html = (tmp_path / "study" / "assess.html").read_text()
    assert "0.82" in html and "0.77" in html and "&lt;bad&gt;" in html and DISCLAIMER in html
    assert "show one" not in html and "Of 7 true CTs with a pneumothorax 0" in page_of(
        replace(done, cases=blind(cases))
    )
    assert {"volume.png", "occupancy.png"} <= {p.name for p in (tmp_path / "study").iterdir()}


def test_a_study_goes_over_a_data_set(tmp_path, monkeypatch):
    n = 64
    options = {**sart.MODEL.options, **sart.MODEL.tiny, "size": n, "spacing": 320 / n}
    monkeypatch.setitem(models.MODELS, "sart", replace(sart.MODEL, options=options, size=n, spacing=320 / n))
    beams = {v: preset_beam(v, pixels=n) for v in sart.MODEL.views}
    grid = Grid.canonical((n,) * 3, 320 / n)
    for k in range(2):
        volume = pneumothorax(k, grid=grid, ml=800.0, side="right", arms_up=True).volume
        hu = volume.hu.astype(np.float32)
        xrays = project(hu_to_mu(torch.from_numpy(hu)), grid, list(beams.values())).numpy()
        case = tmp_path / "cases" / f"c{k}"
        store.write_case(case, patient=f"c{k}", ct=replace(volume, hu=hu), xrays=xrays, beams=beams)
    described = {"version": store.VERSION, "profile": "chest", "preset": "chest", "spacing": 320 / n, "size": n}
    described |= {"views": ["PA", "LAT"], "target": target_record(sart.MODEL.target), "complete_rays": True}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    splits = {"splits": {"test": ["c0", "c1"]}, "patients": {"c0": "c0", "c1": "c1"}, "hash": "h"}
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    seen = []
    done = study("sart", tmp_path, device="cpu", progress=lambda *now: seen.append(now))
    assert seen == [(1, 2, "c0"), (2, 2, "c1")] and not done.failed
    for row in done.cases.values():
        assert row["true"]["right"]["pneumothorax_ml"] == pytest.approx(800, rel=0.15)
        assert 0 <= row["dice"]["right lung"] <= 1 and set(row["found"]) == {"right", "left", "total"}
