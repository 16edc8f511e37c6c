"""The papers' experiments: each is declared and names what exists; a small one runs to its page and goes on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raylift import models
from raylift.compare import Comparison, Row
from raylift.data.prepare import profiles
from raylift.data.store import load_batch, open_case, open_dataset
from raylift.errors import BadInput
from raylift.evaluate import EVERY, Scores
from raylift.experiments import EXPERIMENTS, SIZES, bones, chosen, figures, run, size_of
from raylift.experiments.bones import angle_of, heat, parts_of, surface_numbers
from raylift.experiments.clinical import cropped
from raylift.experiments.folds import _fold, at_size, coarser, merged
from raylift.experiments.material import KINDS, beams_of, kind_of, make, size_for
from raylift.experiments.reduced import entrant_of, options_of
from raylift.experiments.run import judged
from raylift.experiments.spec import WINDOW, Order, Size, Variant
from raylift.physics import hu_to_mu
from raylift.projector import project
from raylift.report.experiment import Picture, summary
from raylift.report.plots import agreement, lines, violins
from raylift.types import Grid, View

FEWER_THAN_PAPERS = 5_000_000  # parameters of any reduced copy
TINY = Size(name="tiny", voxels=32, widths="tiny", steps=1, train=1, val=0, test=1)
ISSUE = {  # paper -> the tables and figures that the issue lists
    "XctNet": 8, "3DSRNet": 7, "X-Recon": 2, "CVAA-GAN": 3, "EAR": 8,
}  # fmt: skip


def test_every_table_and_figure_of_the_papers_is_declared_once():
    assert {p: sum(e.paper == p for e in EXPERIMENTS.values()) for p in ISSUE} == ISSUE
    for e in EXPERIMENTS.values():
        assert e.data in KINDS and set(e.columns) <= set(EVERY) and e.rows
        labels = [v.name for v in e.rows]
        assert len(set(labels)) == len(labels)
        for variant in e.rows:
            assert models.get(variant.model).recipe is not None and (variant.data or e.data) in KINDS
        for order in e.claims:
            assert {order.better, order.worse} <= set(labels) and order.metric in e.columns, e.name
        assert e.claims or e.draw or e.note, f"{e.name} has neither a claim nor a figure"


def test_names_papers_and_all_choose_and_a_wrong_one_is_helped():
    assert [e.name for e in chosen("ear-fig9")] == ["ear-fig9"]
    assert len(chosen("xctnet")) == 8 and len(chosen("all")) == len(EXPERIMENTS)
    with pytest.raises(BadInput, match="did you mean 'ear-fig9'"):
        chosen("ear-fig99")
    with pytest.raises(BadInput, match="did you mean 'smoke'"):
        size_of("smokes")


@pytest.mark.parametrize("size", ["smoke", "small"])
def test_every_row_has_a_reduced_copy_that_can_be_built(size):
    seen = {(v.model, v.data or e.data) for e in EXPERIMENTS.values() for v in e.rows}
    for name, kind in sorted(seen):
        model = models.get(name)
        options = {**model.options, **options_of(model, size_for(kind, SIZES[size]))}
        with torch.device("meta"):
            reduced = model.net(**options)
        assert 0 < sum(p.numel() for p in reduced.parameters()) < FEWER_THAN_PAPERS, name


@pytest.fixture(scope="module")
def vertebrae(tmp_path_factory) -> Path:
    return make("vertebra", tmp_path_factory.mktemp("material") / "vertebrae", TINY)


def test_phantom_data_are_the_same_again_and_stay(vertebrae, tmp_path):
    again = make("vertebra", tmp_path / "again", TINY)
    for name in ("ct.npy", "xrays.npy"):
        one, two = (np.load(f / "cases" / "test-000" / name) for f in (vertebrae, again))
        assert np.array_equal(one, two)
    told = []
    assert make("vertebra", again, TINY, tell=told.append) == again and not told
    train, test = (np.load(again / "cases" / c / "ct.npy") for c in ("train-000", "test-000"))
    assert not np.array_equal(train, test)


def test_a_judged_phantom_keeps_what_was_xrayed(vertebrae):
    dataset = open_dataset(vertebrae)
    case = dataset.case("test-000")
    source = case.source()
    again = project(hu_to_mu(torch.from_numpy(source.hu.astype(np.float32))), source.grid, list(case.beams))
    np.testing.assert_allclose(again, case.xrays(), atol=2e-3)
    assert dataset.case("train-000").source() is None


def test_a_standard_score_is_that_of_the_training_cases(vertebrae):
    dataset = open_dataset(vertebrae)
    hu = np.load(vertebrae / "cases" / "train-000" / "ct.npy").astype(float)
    assert dataset.target.mean == pytest.approx(hu.mean()) and dataset.target.sd == pytest.approx(hu.std())


@pytest.mark.parametrize("degrees", [60, 90, 140])
def test_the_views_stand_at_the_angle_that_is_said(degrees):
    kind = kind_of("vertebra" if degrees == 90 else f"vertebra-{degrees}")
    beams = beams_of(kind, profiles.get(kind.profile), 8)
    a, b = (-np.asarray(beam.source_mm) / np.linalg.norm(beam.source_mm) for beam in beams.values())
    assert np.degrees(np.arccos(a @ b)) == pytest.approx(degrees)
    assert beams[View.LAT] == beams_of(kind_of("vertebra"), profiles.get("vertebra"), 8)[View.LAT]


def test_all_rows_of_a_table_learn_on_one_scale_by_one_recipe(vertebrae):
    dataset = open_dataset(vertebrae)
    rows = [entrant_of(v, dataset, TINY) for v in EXPERIMENTS["ear-table1"].rows]
    assert {(r.recipe.lr, r.recipe.schedule, r.recipe.batch_size) for r in rows} == {(1e-3, "cosine", 1)}
    assert {r.model.size for r in rows} == {32} and {r.model.profile for r in rows} == {"vertebra"}
    by_name = {r.label: r for r in rows}
    assert by_name["ear"].model.target == dataset.target and by_name["psr"].model.target.window == WINDOW
    assert by_name["ear"].recipe.losses == models.get("ear").recipe.losses


def test_an_experiment_runs_to_its_page_and_goes_on_where_it_stopped(tmp_path):
    draw = (figures.slices((3, 65)), figures.spreads(("mae", "psnr")), bones.edge_maps, bones.surface_errors)
    rows, size = (Variant(model="sit"),), replace(TINY, voxels=16)
    experiment = replace(EXPERIMENTS["ear-fig9"], rows=rows, columns=("mae", "psnr"), draw=draw)
    outcome = run(experiment, size, tmp_path, device="cpu", command="raylift experiment ear-fig9")
    assert outcome.failed == () and "SART" in outcome.finding
    files = {path.name for path in outcome.folder.iterdir()}
    assert {"index.html", "index.md", "figure-1.png", "figure-4.png", "table.tex", "comparison.json"} <= files
    text = (outcome.folder / "index.md").read_text()
    lacking = "no row has an edge attention module"
    for words in (experiment.name, "fewer than 6 cases", "no patient is among them", "not a medical", lacking):
        assert words in text, words
    assert "figure-3.png" not in files and lacking in (outcome.folder / "index.html").read_text()
    rows = json.loads((outcome.folder / "table.json").read_text())["rows"]
    assert all((outcome.folder / row["run"] / "run.json").is_file() for row in rows)
    overview = (tmp_path / size.name / "index.md").read_text()
    assert "[ear-fig9](ear-fig9/index.md)" in overview and outcome.finding in overview
    said = []
    run(experiment, size, tmp_path, device="cpu", tell=said.append)
    assert "about 0 seconds of training" in said[0] and not any("judging" in text for text in said)


def test_the_papers_own_size_says_which_data_it_lacks(tmp_path):
    with pytest.raises(BadInput, match="--profile vertebra"):
        run(EXPERIMENTS["ear-table1"], SIZES["paper"], tmp_path)


def comparison(values: dict[str, list[float]]) -> Comparison:
    rows = []
    for label, numbers in values.items():
        scores = Scores(
            model=label, data="d", split="test", split_hash="h", window=WINDOW, size=16, spacing=1.0, refine=False,
            cases={f"{label[0]}{k}": {"psnr": x} for k, x in enumerate(numbers)}, columns=("psnr",),
        )  # fmt: skip
        rows.append(Row(label=label, model=label, paper="", views=("PA",), refined=False, run="r", scores=scores))
    return Comparison(
        data="d", profile="chest", split="test", split_hash="h", window=WINDOW, columns=("psnr",), reference="sart",
        rows=tuple(rows),
    )  # fmt: skip


def test_a_claim_holds_only_where_its_order_is_found():
    found = comparison({"a": [20.0, 21.0], "b": [18.0, 19.0]})
    assert judged(Order(better="a", worse="b"), found).startswith("held: a is better than b")
    assert summary(("held: x", "did not hold: y", "not tried: z")).startswith("1 of 2") and "no order" in summary(())
    assert judged(Order(better="b", worse="a"), found).startswith("did not hold")
    assert judged(Order(better="a", worse="c"), found).startswith("not tried")


def test_leaving_a_patient_out_leaves_all_of_the_patient_out_and_trains_on_no_test_patient(vertebrae, tmp_path):
    base = open_dataset(vertebrae)
    real = tmp_path / "real"
    (real / "cases").mkdir(parents=True)
    patients = {"p1-a": "p1", "p1-b": "p1", "p2-a": "p2", "p3-a": "p3", "p3-b": "p3"}
    splits = {"train": ["p1-a", "p1-b", "p2-a"], "test": ["p3-a", "p3-b"]}
    for case in patients:
        (real / "cases" / case).symlink_to((vertebrae / "cases" / "test-000").resolve())
    (real / "dataset.json").write_text((vertebrae / "dataset.json").read_text())
    (real / "splits.json").write_text(json.dumps({"splits": splits, "patients": patients, "hash": "h"}))
    fold = _fold(base, open_dataset(real), real / "cases", "p1", tmp_path / "fold")
    assert sorted(fold.splits["test"]) == ["p1-a", "p1-b"] and fold.splits["train"] == ["train-000", "p2-a"]
    assert fold.case("p1-b").ct().shape == (32, 32, 32)
    last = _fold(base, open_dataset(real), real / "cases", "p3", tmp_path / "last")
    assert sorted(last.splits["test"]) == ["p3-a", "p3-b"]
    assert last.splits["train"] == ["train-000", "p1-a", "p1-b", "p2-a"]


def test_a_real_case_is_brought_to_the_phantoms_voxels_in_the_same_place(vertebrae, tmp_path):
    case = open_dataset(vertebrae).case("test-000")
    for size in (16, 24):
        coarser(case, tmp_path / str(size), size)
        seen = open_case(tmp_path / str(size))
        assert seen.grid.shape == (size,) * 3 and seen.ct().shape == (size,) * 3
        np.testing.assert_allclose(seen.grid.corners_mm, case.grid.corners_mm, atol=1e-9)
        assert seen.ct().mean() == pytest.approx(case.ct().mean(), abs=0.05)
        assert seen.xrays().mean() == pytest.approx(case.xrays().mean(), rel=1e-5)
        assert [b.size_mm for b in seen.beams] == [pytest.approx(b.size_mm) for b in case.beams]
    assert at_size(open_dataset(vertebrae), 16, tmp_path / "none") == vertebrae / "cases"
    assert sorted(path.name for path in at_size(open_dataset(vertebrae), 24, tmp_path / "all").iterdir()) == sorted(
        open_dataset(vertebrae).patients
    )
    halved = load_batch([case], views=case.views, size=16)
    same = load_batch([open_case(tmp_path / "16")], views=case.views, size=16)
    assert torch.allclose(halved.hu, same.hu, atol=0.51) and torch.allclose(halved.xrays, same.xrays, rtol=1e-5)


def test_folds_are_merged_by_patient_since_a_patients_cases_are_not_independent():
    one, two = comparison({"a": [20.0], "b": [18.0]}), comparison({"a": [22.0, 25.0], "b": [19.0, 20.0]})
    found = merged({"p1": one, "p2": two}, "real")
    assert found.rows[0].values("psnr") == {"p1": 20.0, "p2": 23.5} and found.data == "real"
    assert found.count() == 2 and found.rows[0].mean("psnr") == pytest.approx(21.75)
    assert "2 patients" in found.header() and "cases" not in found.header()
    lost = replace(two, rows=(replace(two.rows[0], scores=None, failure="no memory"), two.rows[1]))
    found = merged({"p1": one, "p2": lost}, "real")
    assert found.rows[0].scores.failed == {"p2": "no memory"} and list(found.rows[0].scores.cases) == ["p1"]


def test_a_figure_without_its_data_must_say_so():
    with pytest.raises(BadInput, match="nothing says why"):
        Picture(title="Fig. 8")
    assert Picture(title="Fig. 8", note="no X-rays").png is None


def test_the_small_parts_of_figures():
    x = torch.arange(16.0).reshape(1, 4, 4)
    assert torch.equal(cropped(x, (0, 0, 1, 1)), x)
    assert float(cropped(x, (0.5, 0.5, 1, 1)).min()) == 10
    assert angle_of("ear at 110") == 110
    red, blue = heat(np.array([-6.0])), heat(np.array([6.0]))
    assert red[0, 0] > red[0, 2] and blue[0, 2] > blue[0, 0]
    hu = np.full((12, 12, 12), -1000.0)
    assert surface_numbers(hu, hu, Grid.canonical((12,) * 3, 2.0)) is None
    hu[0, 0, 0] = 500  # a crumb is not drawn
    assert not parts_of(hu).any()
    hu[3:9, 3:9, 3:9] = 500
    assert parts_of(hu).sum() == 6**3
    assert surface_numbers(hu, hu, Grid.canonical((12,) * 3, 2.0)) == pytest.approx((0, 0, 0), abs=1e-9)
    for png in (
        violins({"PSNR": {"a": [1.0, 2, 3], "b": [], "c": [1.0]}}),
        agreement([1.0, 2, 3], {"a": [1.0, 2, 4]}, what="mL"),
        lines([60, 90], {"PSNR": {"a": [1.0, None]}}, along="degrees"),
    ):
        assert png[:4] == b"\x89PNG"


def test_all_experiments_run_in_the_smallest_size(tmp_path):
    for experiment in EXPERIMENTS.values():
        outcome = run(experiment, SIZES["smoke"], tmp_path, device="cpu")
        assert outcome.failed == (), experiment.name
        assert (outcome.folder / "index.html").is_file()
