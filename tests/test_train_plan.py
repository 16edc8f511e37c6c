"""Before a training: what it will take is counted rightly, what will not fit is refused with what does, in words."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.utils import DistributedType

from raylift import models
from raylift.errors import BadInput, OutOfMemory, UnknownName
from raylift.train import loop, memory, read_log, rehearse, start, track
from raylift.train.feed import Feed
from raylift.train.memory import GIB, Peak, check_memory, needed
from raylift.train.start import make_accelerator, make_players
from raylift.train.step import update
from test_train import FULL, MODEL, RECIPE, N, Still, fit, make_cases


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    cases = make_cases(tmp_path_factory.mktemp("cases"))
    return {"train": cases[:2], "val": cases[2:]}


def test_the_peak_is_what_is_held_at_once():
    with Peak() as peak:
        a = torch.zeros(1000)
        b = a + 1
        assert peak.now == peak.most == 8000
        del a
        c = b[:10] * 2  # a view holds nothing of its own
        assert peak.now == 4040 and peak.most == 8000
    with Peak([b, b[5:]]) as peak:
        c.mul_(2)
    assert peak.most == 4040  # what is met on the way counts too


@pytest.mark.parametrize("recipe", [RECIPE, FULL, replace(FULL, optimiser="sgd", ema=0.0)])
def test_what_is_counted_without_values_is_what_a_real_update_holds(splits, recipe):
    """In tensors; the second update, since the first has no moments yet. A running mean is held besides."""
    recipe = replace(recipe, batch_size=2, accumulate=1)
    feed = Feed(cases=splits["train"], model=MODEL, recipe=recipe)
    (batch,) = feed.batches(0)
    players, _ = make_players(replace(MODEL, recipe=recipe), recipe, make_accelerator(recipe, "cpu"))
    update(players, [batch])
    held = [*memory._held(players), *memory._state(players), batch.xrays, batch.hu]
    with Peak(held) as peak:
        update(players, [batch])
    weights = sum(p.numel() * 4 for p in players.net.parameters())
    counted = needed(MODEL, recipe, 2) - (weights if recipe.ema else 0)
    assert counted == pytest.approx(peak.most, rel=0.02)


def test_memory_is_a_line_in_the_batch_and_bf16_takes_less():
    at = {size: needed(MODEL, RECIPE, size) for size in (1, 2, 4)}
    assert at[4] - at[2] == pytest.approx(2 * (at[2] - at[1]), rel=1e-3)
    wide = replace(MODEL, options={"width": 32, "views": 2})
    assert needed(wide, replace(RECIPE, precision="bf16"), 2) < 0.8 * needed(wide, RECIPE, 2)
    assert needed(MODEL, replace(RECIPE, accumulate=4), 2) == at[2]


def test_what_is_counted_holds_weights_and_moments():
    psr = models.get("psr")
    count = sum(p.numel() for p in psr.net(**{**psr.options, **psr.tiny}).parameters())
    tiny = replace(psr, options={**psr.options, **psr.tiny}, size=psr.tiny_size)
    assert needed(tiny, psr.recipe, 1) > 4 * 4 * count  # weights, gradients, two moments


def test_a_batch_that_will_not_fit_is_refused_with_one_that_does(monkeypatch):
    recipe = replace(RECIPE, batch_size=4)
    monkeypatch.setattr(memory, "plainly_fits", lambda *_: False)
    weigh = memory.taken(torch.device("cpu"))
    for fits, words in ((1, "1 fits: --set batch_size=1 --set accumulate=4"), (2, "batch_size=2 --set accumulate=2")):
        monkeypatch.setattr(
            memory, "free", lambda _, fits=fits: needed(MODEL, recipe, fits, weigh) + 99
        )  # each storage is rounded
        with pytest.raises(OutOfMemory, match=rf"test-lift needs .* at batch 4, .* are free; .*{words}") as told:
            check_memory(MODEL, recipe, torch.device("cpu"))
        assert told.value.exit_code == 4
        check_memory(MODEL, replace(recipe, batch_size=fits), torch.device("cpu"))
    monkeypatch.setattr(memory, "free", lambda _: 1000)
    with pytest.raises(OutOfMemory, match=r"batch 1 needs .*bf16"):
        check_memory(MODEL, recipe, torch.device("cpu"))


def test_two_processes_on_one_machine_share_its_memory(monkeypatch):
    recipe = replace(RECIPE, batch_size=4)
    monkeypatch.setattr(memory, "plainly_fits", lambda *_: False)
    weigh = memory.taken(torch.device("cpu"))
    monkeypatch.setattr(memory, "free", lambda _: 2 * needed(MODEL, recipe, 1, weigh) + 99)
    with pytest.raises(OutOfMemory, match="; 2 fits: --set batch_size=2 --set accumulate=2"):
        check_memory(MODEL, recipe, torch.device("cpu"), processes=2)


def test_what_plainly_fits_does_fit():
    for name in ("psr", "xctnet"):
        model = models.get(name)
        tiny = replace(model, options={**model.options, **model.tiny}, size=model.tiny_size)
        assert not memory.plainly_fits(tiny, 1, needed(tiny, tiny.recipe, 1))


def test_nothing_is_written_where_memory_does_not_suffice(tmp_path, splits, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda _: 1000)
    with pytest.raises(OutOfMemory):
        fit(tmp_path / "run", splits)
    assert not (tmp_path / "run").exists()
    assert fit(tmp_path / "run", splits, steps=1, memory_check=False).finished


def test_what_is_free_is_what_the_machine_or_its_limit_says(tmp_path, monkeypatch):
    room = memory.free(torch.device("cpu"))
    assert 2**20 < room < 2**50
    for name, text in {"max": str(3 * GIB), "current": str(GIB), "stat": f"anon 1\ninactive_file {GIB // 2}\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: type("told", (), {"available": 9 * GIB}))
    assert memory.free(torch.device("cpu")) == 2.5 * GIB
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free(torch.device("cpu")) == 9 * GIB


def test_a_rehearsal_tells_the_plan_and_leaves_nothing(tmp_path, splits):
    before = sorted(Path(tmp_path).rglob("*"))
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    recipe = replace(RECIPE, batch_size=2, accumulate=2, losses={"mse": 1.0, "gan": 0.5})
    plan = rehearse(MODEL, recipe, None, cases=splits, device="cpu", steps=10)
    assert torch.equal(torch.rand(2), expected) and sorted(Path(tmp_path).rglob("*")) == before
    assert plan.plan.steps == 10 and plan.plan.epochs == 10 and plan.update_s > 0 < plan.load_s
    assert plan.seconds == pytest.approx(10 * max(plan.update_s, plan.load_s) + 10 * plan.validate_s)
    assert plan.memory == needed(MODEL, recipe, 2, memory.taken(torch.device("cpu")))
    rows = plan.rows()
    assert rows["data"].endswith("2 train, 1 val") and "1 mse + 0.5 gan" in rows["losses"]
    assert rows["updates"].startswith("10 of 2 cases x 2") and "discriminator" in rows["parameters"]


def test_cases_come_in_the_same_order_whatever_number_of_threads_loads_them(splits):
    recipe = replace(RECIPE, augment="paired")
    feeds = [Feed(cases=splits["train"], model=MODEL, recipe=recipe, threads=threads) for threads in (1, 3)]
    for (a, one, _), (b, three, _) in zip(*(feed.from_step(1, 5) for feed in feeds), strict=True):
        assert a == b and torch.equal(one[0].hu, three[0].hu) and torch.equal(one[0].xrays, three[0].xrays)


def test_tensorboard_hears_the_numbers_and_sees_a_fixed_case_each_epoch(tmp_path, splits):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = fit(tmp_path / "run", splits, replace(RECIPE, epochs=3))
    (folder,) = (tmp_path / "run" / "tensorboard").iterdir()
    told = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in told.Images("slices")] == [2, 4, 6]
    assert len(told.Scalars("step/loss")) == 6 and len(told.Scalars("epoch/psnr")) == 3
    assert told.Scalars("epoch/loss")[-1].value == pytest.approx(read_log(run.folder)[-1]["loss"], rel=1e-5)
    assert (told.Images("slices")[0].width, told.Images("slices")[0].height) == (3 * N, 2 * N)


def test_the_slices_of_the_truth_are_those_of_the_case(splits):
    from raylift.train.validate import middle_slices

    recipe = replace(RECIPE, precision="no")
    players, _ = make_players(replace(MODEL, net=Still), recipe, make_accelerator(recipe, "cpu"))
    picture = middle_slices(players, None, splits["val"][0])
    hu = splits["val"][0].ct()
    grey = (MODEL.target.encode(torch.from_numpy(hu[N // 2].astype("f4"))).clamp(0, 1) * 255).round().byte()
    assert (picture[N:, :N] == grey.numpy()).all()


def test_a_tracker_that_is_not_there_is_told_before_the_work(tmp_path, splits, monkeypatch):
    with pytest.raises(UnknownName, match="did you mean 'wandb'"):
        fit(tmp_path / "run", splits, trackers=["wandbb"])
    monkeypatch.setattr(track, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"mlflow is not installed.*pip install mlflow"):
        fit(tmp_path / "run", splits, trackers=["mlflow"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "precision", "words"),
    [
        ("FSDP", "no", "--set shard=true is FSDP"),
        ("DEEPSPEED", "no", "launched for DEEPSPEED"),
        ("MULTI_CPU", "bf16", "accelerate computes in float32 there"),
    ],
)
def test_what_a_launcher_cannot_have_is_told(kind, precision, words):
    with pytest.raises(BadInput, match=words):
        start._check_launch(DistributedType[kind], precision)
    for fine in ("NO", "MULTI_CPU", "MULTI_GPU"):
        start._check_launch(DistributedType[fine], "no")


def test_fsdp_on_a_cpu_is_refused_before_anything_is_written(tmp_path, splits, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(BadInput, match="accelerate shards a net among GPUs only"):
        fit(tmp_path / "run", splits)
    assert not (tmp_path / "run").exists()


def test_trackers_hear_the_name_of_the_runs_folder_and_w_and_b_writes_into_it(tmp_path, splits, monkeypatch):
    heard = {}
    monkeypatch.delenv("WANDB_DIR", raising=False)
    monkeypatch.setattr(start.Accelerator, "init_trackers", lambda engine, name, init_kwargs: heard.update(init_kwargs))
    fit(tmp_path / "run", splits, steps=1)
    assert heard["mlflow"] == {"run_name": "run"}
    assert heard["wandb"] == {"name": "run", "dir": str((tmp_path / "run").resolve())}


@pytest.mark.slow
def test_a_compiled_net_learns_what_the_plain_one_learns(tmp_path, splits):
    recipe = replace(RECIPE, optimiser="sgd", ema=0.9)
    found = []
    for name, compiled in (("plain", False), ("compiled", True)):
        made = replace(MODEL, net=Still)
        run = loop.train(made, replace(recipe, compile=compiled), None, tmp_path / name, cases=splits, device="cpu")
        found.append([row["loss"] for row in read_log(run.folder)])
    assert found[0] == pytest.approx(found[1], rel=1e-4)
