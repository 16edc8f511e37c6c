"""Comparisons: the rows that must be there, the statistics, going on after a stop, and what the files say."""

import csv
import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

from raylift import models
from raylift.compare import Comparison, Entrant, Row, compare
from raylift.compare.statistics import holm, paired_p
from raylift.errors import BadInput, Stopped
from raylift.evaluate import Scores
from raylift.models.spec import Recipe
from raylift.report.comparison import (
    as_csv,
    as_html,
    as_latex,
    as_markdown,
    brief,
    cells,
    head,
    write_comparison,
)
from raylift.train import read_log, train
from test_evaluate import N, make_dataset

WINDOW = (-1024.0, 1476.0)
RECIPE = Recipe(losses={"mse": 1.0}, lr=1e-3, epochs=1)


def small(name: str) -> Entrant:
    """A tiny copy of a model at the balls' size."""
    model = models.get(name)
    options = {**model.options, **model.tiny, "size": N}
    return Entrant(label=name, model=replace(model, options=options, size=N, spacing=320 / N), recipe=RECIPE)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, Path, Comparison]:
    """Seven balls, their comparison's folder, and the comparison."""
    room = tmp_path_factory.mktemp("compare")
    data = make_dataset(room / "balls", 7)
    found = compare([small("x2ct-cnn"), small("raylift")], data, room / "out", window=WINDOW, steps=2, device="cpu")
    return data, room / "out", found


def test_sart_and_the_mean_volume_are_always_rows_and_each_row_has_its_run(done):
    _, out, found = done
    assert [row.title for row in found.rows] == [
        "x2ct-cnn", "x2ct-cnn, refined", "raylift", "raylift, refined", "sart", "mean", "mean, refined"
    ]  # fmt: skip
    for row in found.rows:
        assert (out / row.run / "run.json").is_file(), row.title
        assert len(row.scores.cases) == 7 and not row.scores.failed
        assert row.cost["seconds"] > 0
    assert found.rows[0].cost["parameters"] > 0 < found.rows[0].cost["gmac"]


def test_a_terminal_sees_means_and_the_files_the_rest(done):
    _, _, found = done
    titles, rows = brief(found)
    assert [row[0] for row in rows] == [row.title for row in found.rows] and {len(row) for row in rows} == {len(titles)}
    psnr = found.rows[0].scores.summary()["psnr"]
    assert rows[0][titles.index("PSNR (dB) ↑")] == f"{psnr['mean']:.2f} ± {psnr['sd']:.2f}"
    failed = replace(found, rows=(replace(found.rows[0], scores=None, failure="why"),))
    assert brief(failed)[1][0][2:4] == ["failed", "failed"]


def test_the_mean_volume_is_the_mean_of_the_training_cases(done):
    from raylift.data.store import load_batch, open_dataset
    from raylift.metrics import mae

    data, _, found = done
    cases = open_dataset(data).cases("train")
    cubes = load_batch(cases, views=cases[0].views, size=N).hu
    expected = float(mae(cubes.mean(0)[0], cubes[3, 0], window=WINDOW))
    row = next(row for row in found.rows if row.title == "mean")
    assert row.scores.cases["c3"]["mae"] == pytest.approx(expected, rel=1e-3)


def test_a_second_call_trains_and_judges_nothing_again(done):
    data, out, found = done
    before = {path: path.stat().st_mtime_ns for path in (out / "scores").iterdir()}
    said = []
    chosen = [small("x2ct-cnn"), small("raylift")]
    again = compare(chosen, data, out, window=WINDOW, steps=2, device="cpu", tell=said.append)
    assert {path: path.stat().st_mtime_ns for path in (out / "scores").iterdir()} == before
    assert not any("judging" in text for text in said)
    assert again.record() == found.record()
    assert len([row for row in read_log(out / "runs" / "raylift") if row["kind"] == "step"]) == 2


def test_another_window_needs_another_folder(done):
    data, out, _ = done
    with pytest.raises(BadInput, match="another window_hu"):
        compare([small("raylift")], data, out, window=(-1000.0, 1000.0), steps=2, device="cpu")


def test_a_method_that_fails_is_a_row_that_says_why(done, tmp_path):
    data, _, _ = done
    wrong = replace(small("x2ct-cnn"), model=replace(small("x2ct-cnn").model, profile="lumbar"))
    found = compare([wrong], data, tmp_path / "out", window=WINDOW, steps=1, device="cpu")
    assert found.rows[0].scores is None and "profile" in found.rows[0].failure
    assert "profile" in cells(found)[0][-1] and cells(found)[0][3] == "all"
    assert "Nothing can be said" in found.finding()


def test_a_training_that_a_signal_ends_is_not_judged_and_goes_on(done, tmp_path, monkeypatch):
    def stopped(*given, **named):
        return train(*given, **{**named, "progress": lambda now: signal.raise_signal(signal.SIGTERM)})

    data, said = done[0], []
    again = {"window": WINDOW, "steps": 2, "device": "cpu", "tell": said.append}
    with monkeypatch.context() as patch:
        patch.setattr("raylift.compare.entrants.train", stopped)
        with pytest.raises(Stopped, match="raylift: stopped after update 1 of 2"):
            compare([small("raylift")], data, tmp_path / "out", **again)
    assert said == ["raylift: training"]
    assert compare([small("raylift")], data, tmp_path / "out", **again).rows[0].scores is not None


def test_two_rows_of_one_name_and_an_unknown_reference_are_errors(done, tmp_path):
    data, _, _ = done
    with pytest.raises(BadInput, match="two rows"):
        compare([small("raylift"), small("raylift")], data, tmp_path / "a", window=WINDOW, steps=1)
    with pytest.raises(BadInput, match="no row 'nobody'"):
        compare([], data, tmp_path / "b", window=WINDOW, reference="nobody")
    with pytest.raises(BadInput, match="in each table already"):
        replace(small("raylift"), label="sart")


def made(values: dict[str, list[float]]) -> Comparison:
    """A comparison with these PSNRs."""
    rows = []
    for label, numbers in values.items():
        scores = Scores(
            model=label, data="d", split="test", split_hash="h", window=WINDOW, size=16, spacing=20.0, refine=False,
            cases={f"c{k}": {"psnr": value} for k, value in enumerate(numbers)}, columns=("psnr",),
        )  # fmt: skip
        rows.append(
            Row(label=label, model=label, paper="p", views=("PA", "LAT"), refined=None, run="runs/x", scores=scores)
        )
    return Comparison(
        data="d", profile="chest", split="test", split_hash="h", window=WINDOW, columns=("psnr",), reference="sart",
        rows=tuple(rows),
    )  # fmt: skip


def test_losing_to_sart_is_said_first():
    found = made({"good": [21.0] * 7, "bad": [18.0] * 7, "sart": [20.0] * 7, "mean": [25.0] * 7})
    assert found.finding().startswith("1 of 2 networks lose to SART") and "bad by 2.00 dB" in found.finding()
    assert as_markdown(found).startswith(found.finding())
    assert "2 of 2 networks lose to the mean of the training CTs" in found.finding()
    assert made({"good": [21.0] * 7, "sart": [20.0] * 7}).finding().startswith("The network is better than SART")


def test_with_five_cases_there_is_no_p_and_no_interval_but_every_value():
    five = made({"a": [20, 21, 22, 23, 24.5], "sart": [19, 19, 19, 19, 19.0]})
    assert five.p_values("psnr") == {"a": None}
    cell = cells(five)[0][head(five).index("PSNR (dB) ↑")]
    assert cell == "22.10 (20.00; 21.00; 22.00; 23.00; 24.50)"
    six = made({"a": [20, 21, 22, 23, 24, 25.0], "sart": [19.0] * 6})
    cell = cells(six)[0][head(six).index("PSNR (dB) ↑")]
    assert "±" in cell and "[" in cell and "p 0.031" in cell


def named(values) -> dict[str, float]:
    """Values under names of cases."""
    return {f"c{k}": float(value) for k, value in enumerate(values)}


def test_the_p_value_is_scipys_and_holm_never_lowers_one():
    rng = np.random.default_rng(0)
    a, b = (named(rng.normal(m, 1, 12)) for m in (0, 0.5))
    assert paired_p(a, b) == wilcoxon(list(a.values()), list(b.values())).pvalue
    assert paired_p(a, a) == 1
    raw = named(rng.uniform(0, 0.2, 9))
    corrected = holm(raw)
    assert all(corrected[k] >= raw[k] for k in raw)
    assert sorted(raw, key=raw.get) == sorted(corrected, key=lambda k: (corrected[k], raw[k]))
    assert min(corrected.values()) == pytest.approx(9 * min(raw.values()))


def test_under_the_null_a_p_below_a_twentieth_is_as_rare_as_it_should_be():
    rng = np.random.default_rng(1)
    pairs = [(rng.normal(size=15), rng.normal(size=15)) for _ in range(300)]
    found = [paired_p(named(a), named(b)) for a, b in pairs]
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.09


def test_the_files_hold_the_same_numbers(done, tmp_path):
    _, _, found = done
    write_comparison(found, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"table.{k}" for k in ("csv", "html", "json", "md", "tex")
    ]
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert len(rows) == 7 * 7 and {row["method"] for row in rows} == {"x2ct-cnn", "raylift", "sart", "mean"}
    told = json.loads((tmp_path / "table.json").read_text())
    first = next(row for row in rows if row["method"] == "sart")
    sart = next(row for row in told["rows"] if row["label"] == "sart")
    assert float(first["psnr"]) == sart["scores"]["cases"][first["case"]]["psnr"]
    assert told["window_hu"] == list(WINDOW) and "window -1024 to 1476 HU" in told["definitions"]
    assert (
        "X2CT-GAN paper" in as_markdown(found)
        or "CVAA-GAN" in as_markdown(found)
        or not any(row.reported for row in found.rows)
    )


def test_what_a_name_holds_is_escaped():
    found = made({"<b>&_x|": [1.0] * 7, "sart": [0.0] * 7})
    assert "<b>" not in as_html(found) and r"\&\_x" in as_latex(found) and "x\\|" in as_markdown(found)
    assert len(as_csv(found).splitlines()) == 15
