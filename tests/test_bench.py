"""The benchmarks run in the small, say what they should, and their clock, memory and arithmetic are right."""

import csv
import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

BENCH = Path(__file__).parents[1] / "bench"
OWN = ("measure", "training", "inference", "prepare", "memory", "example")


@pytest.fixture
def bench(monkeypatch):
    """Gives a script of bench/ as a module."""
    monkeypatch.syspath_prepend(str(BENCH))
    for name in OWN:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in OWN:
        sys.modules.pop(name, None)


def history(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def cells(text: str, name: str) -> list[list[str]]:
    """The table's rows that begin with `name`."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line] for line in lines if line[0].strip() == name]


def test_a_training_step_is_measured_in_every_setting(bench, tmp_path, capsys):
    path = tmp_path / "history.csv"
    training = bench("training")
    training.main(["--model", "psr", "--size", "16", "--rounds", "1", "--history", str(path)])
    rows = cells(capsys.readouterr().out, "psr")
    assert [row[4] for row in rows] == training.SETTINGS
    assert all(row[1] == "16³" and float(row[5]) > 0 for row in rows)
    assert float(rows[0][7]) == 1.0
    kept = history(path)
    assert len(kept) == len(training.SETTINGS) and kept[0]["model"] == "psr" and kept[0]["size"] == "16"
    assert all(float(row["seconds"]) > 0 and "tiny" in row["setting"] for row in kept)


def test_waiting_for_cases_is_a_share_of_a_step(bench, tmp_path, capsys, monkeypatch):
    from test_train import make_cases

    path, training = tmp_path / "history.csv", bench("training")
    cases = make_cases(tmp_path / "cases")
    monkeypatch.setattr(training, "open_dataset", lambda folder: SimpleNamespace(cases=lambda split: cases))
    words = ["--data", "set", "--model", "psr", "--size", "16", "--rounds", "2", "--history", str(path)]
    training.main(words)
    (row,) = cells(capsys.readouterr().out, "psr")
    (kept,) = history(path)
    assert 0 <= float(row[6].rstrip("%")) < 100 and row[7] in ("met", "NOT MET")
    assert float(row[5]) > 0 and f"waited {row[6]}" in kept["setting"]


@pytest.mark.slow
def test_memory_is_counted_said_and_measured(bench, tmp_path, capsys):
    path = tmp_path / "history.csv"
    bench("memory").main(["--model", "psr", "--size", "32", "--history", str(path)])
    (row,) = cells(capsys.readouterr().out, "psr")
    counted, held, ratio = map(float, row[4:7])
    assert counted > 0 and ratio == pytest.approx(counted / held, rel=0.1)
    assert [r["setting"].split()[-1] for r in history(path)] == ["counted", "held", "said", "taken"]


def test_a_discriminator_trains_along_and_a_size_that_does_not_fit_is_told(bench, tmp_path, capsys):
    words = ["--rounds", "1", "--settings", "contiguous float32", "--history", str(tmp_path / "history.csv")]
    training = bench("training")
    model = bench("measure").reduced(training.models.get("x2ct-gan"), 16)
    players = training.players_of(model, "float32")
    assert players.critic is not None
    assert sum(p.numel() for p in players.critic.parameters()) < 1e5  # the tiny one
    training.main(["--model", "bx2s-net", "--size", "18", *words])
    (row,) = cells(capsys.readouterr().out, "bx2s-net")
    assert "did not run" in row[4] and not (tmp_path / "history.csv").exists()


def test_a_profile_names_the_operations_of_a_step(bench, capsys):
    bench("training").main(["--profile", "psr", "--size", "16"])
    said = capsys.readouterr().out
    assert "aten::" in said and "convolution" in said and "One step of psr, 16³" in said


def test_what_has_no_recipe_is_not_trained(bench):
    with pytest.raises(SystemExit, match="sart has no recipe"):
        bench("training").main(["--model", "sart"])


SMALL = ["layers=1,1,1", "widths=4,4,8,8", "width=4", "growth=4"]


def test_a_volume_is_measured_and_pruning_changes_nothing(bench, tmp_path, capsys):
    path = tmp_path / "history.csv"
    inference = bench("inference")
    sizes = ["--size", "16", "--x2ct-size", "16", "--rounds", "1"]
    inference.main(["--model", "psr", "sart", *sizes, "--x2ct-set", *SMALL, "--history", str(path)])
    said = capsys.readouterr().out
    assert float(cells(said, "psr")[0][3]) > 0 and float(cells(said, "sart")[0][3]) > 0
    away = {way: float(cells(said, way)[0][3]) for way in inference.WAYS}
    assert away["plain"] == away["pruned heads"] == 0.0
    assert away["pruned, channels-last"] < 1e-3 and away["bf16"] > 0
    assert re.search(r"goal 2: (met|NOT MET)", said)
    assert len(history(path)) == 2 + len(inference.WAYS)


def test_prepare_counts_a_nested_stage_once(bench):
    watch = bench("prepare").Watch()
    inner = watch.around("inner", lambda: sum(range(10000)))
    outer = watch.around("outer", inner)
    outer()
    assert watch.seconds["inner"] == 0.0 < watch.seconds["outer"]
    inner()
    assert watch.seconds["inner"] > 0.0


def test_prepare_puts_every_function_back(bench):
    prepare = bench("prepare")
    before = [getattr(where, name) for functions in prepare.stages().values() for where, name in functions]
    with prepare.watched():
        pass
    assert before == [getattr(where, name) for functions in prepare.stages().values() for where, name in functions]


@pytest.mark.slow
def test_prepare_tells_stages_and_cases_a_minute(bench, tmp_path, capsys):
    path = tmp_path / "history.csv"
    bench("prepare").main(["--phantoms", "2", "--spacing", "5", "--history", str(path)])
    said = capsys.readouterr().out
    shares = [int(cells(said, stage)[0][2].rstrip("%")) for stage in [*bench("prepare").stages(), "the rest"]]
    assert 97 <= sum(shares) <= 103
    assert [row[1] for jobs in "12" for row in cells(said, jobs)] == ["2", "2"]
    assert history(path)


def test_ratios_are_of_the_same_round(bench):
    measure = bench("measure")
    times = {"plain": [2.0, 20.0, 4.0], "fast": [1.0, 10.0, 1.0]}
    assert measure.ratio(times, "plain", "fast") == 2.0
    assert measure.ratio(times, "plain", "plain") == 1.0


def test_peak_memory_is_what_the_work_took(bench):
    measure = bench("measure")
    if measure.peak_mib(lambda: None) is None or torch.cuda.is_available():
        pytest.skip("resident memory's high-water mark is not told here")
    assert measure.peak_mib(lambda: np.ones(64 * 2**20, np.uint8)) == pytest.approx(64, abs=8)
    assert measure.peak_mib(lambda: None) < 8


def test_a_layout_changes_strides_and_no_value(bench):
    measure = bench("measure")
    net = torch.nn.Sequential(torch.nn.Conv3d(4, 8, 3), torch.nn.Conv3d(8, 4, 1))
    before = [p.detach().clone() for p in net.parameters()]
    measure.lay_out(net.parameters(), "channels-last")
    assert net[0].weight.stride()[1] == 1
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    measure.lay_out(net.parameters(), "contiguous")
    assert net[0].weight.is_contiguous()


def test_the_shipped_case_is_judged_against_its_true_ct(bench):
    from raylift import io, models
    from raylift.geometry import canonical

    example = bench("example")
    ((name, consistent, psnr, *_),) = example.rows(
        canonical(io.read_ct(example.CASE / "ct.nii.gz")), [models.get("sart")]
    )
    assert (name, consistent) == ("sart", "yes") and 17 < float(psnr) < 20
