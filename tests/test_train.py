"""Training: the loss falls, nothing is lost to a kill, the same seed gives the same weights, faults are named."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from raylift import models
from raylift.data import store
from raylift.errors import BadInput, RayliftError
from raylift.fit import check_fit
from raylift.geometry import preset_beam
from raylift.models import weights
from raylift.models.spec import Model, Recipe
from raylift.train import Progress, checkpoint, export_weights, loop, open_run, read_log, read_recipe, train
from raylift.train.feed import Feed
from raylift.train.schedule import Ema, Plan, Plateau, learning_rate
from raylift.types import Grid, View, Volume

N = 16
RECIPE = Recipe(losses={"mse": 1.0, "l1": 0.1}, lr=1e-2, epochs=4, batch_size=1)


class Lift(nn.Module):
    """Each X-ray spread along its rays, a convolution, dropout."""

    def __init__(self, width: int = 4, views: int = 2):
        super().__init__()
        self.first = nn.Conv3d(views, width, 3, padding=1)
        self.norm = nn.BatchNorm3d(width)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Conv3d(width, 1, 1)

    def forward(self, xrays):
        frontal, lateral = xrays[:, 0], xrays[:, 1]
        spread = torch.stack([frontal[:, :, None].expand(-1, -1, N, -1), lateral[..., None].expand(-1, -1, -1, N)], 1)
        return {"ct": self.head(self.drop(torch.relu(self.norm(self.first(spread)))))}


class Judge(nn.Module):
    """A discriminator of two layers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(1, 4, 4, stride=4), nn.LeakyReLU(0.2), nn.Conv3d(4, 1, 1))

    def forward(self, xrays, ct):
        return self.layers(ct)


MODEL = Model(
    name="test-lift",
    paper="ours",
    views=(View.PA, View.LAT),
    size=N,
    spacing=320 / N,
    net=Lift,
    options={"width": 4, "views": 2},
    discriminator=Judge,
    recipe=RECIPE,
)


def make_cases(folder: Path, count: int = 3, size: int = N) -> list[store.Case]:
    """Boxes of water in air with X-rays that are their mean along the rays."""
    rng = np.random.default_rng(0)
    cases = []
    for k in range(count):
        hu = np.full((size,) * 3, -1000, np.float32)
        low, high = rng.integers(1, size // 3, 3), rng.integers(2 * size // 3, size - 1, 3)
        hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = rng.uniform(-200, 300)
        grid = Grid.canonical((size,) * 3, 320 / size, (5.0 * k, 0, 0))
        xrays = np.stack([hu.mean(1), hu.mean(2)]).astype(np.float32) / 1000 + 1
        beams = {view: preset_beam(view, pixels=size, isocentre_mm=(5.0 * k, 0, 0)) for view in MODEL.views}
        ct = Volume(hu=hu, grid=grid, source=f"c{k}")
        store.write_case(folder / f"c{k}", patient=f"p{k}", ct=ct, xrays=xrays, beams=beams)
        cases.append(store.open_case(folder / f"c{k}"))
    return cases


@pytest.fixture(scope="module")
def splits(tmp_path_factory) -> dict[str, list[store.Case]]:
    cases = make_cases(tmp_path_factory.mktemp("cases"))
    return {"train": cases[:2], "val": cases[2:]}


@pytest.fixture
def known(monkeypatch) -> Model:
    """The test's model under its name, as a run that is opened looks it up."""
    monkeypatch.setitem(models.MODELS, MODEL.name, MODEL)
    return MODEL


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fit(out: Path, cases: dict[str, list[store.Case]], recipe: Recipe = RECIPE, **settings):
    return train(MODEL, recipe, None, out, cases=cases, device="cpu", **settings)


def losses_of(out: Path) -> list[tuple]:
    """Each update's number and losses."""
    names = ("loss", "mse", "l1", "gan", "discriminator")
    return [(row["step"], *(row.get(name) for name in names)) for row in read_log(out) if row["kind"] == "step"]


def test_training_lowers_the_loss_and_fills_the_folder(tmp_path, splits, known):
    shown: list[Progress] = []
    run = fit(tmp_path / "run", splits, replace(RECIPE, epochs=12), progress=shown.append)
    found = losses_of(run.folder)
    assert run.finished and run.step == len(found) == 24
    assert np.mean([row[1] for row in found[-4:]]) < 0.5 * np.mean([row[1] for row in found[:4]])
    for name in ("recipe.json", "model.json", "run.json", "card.md", "log.jsonl", "last", "best", "tensorboard"):
        assert (run.folder / name).exists(), name
    assert read_recipe(run.folder) == replace(RECIPE, epochs=12)
    assert [p.step for p in shown] == list(range(1, 25)) and shown[-1].seconds_left == 0
    epochs = [row for row in read_log(run.folder) if row["kind"] == "epoch"]
    assert run.best_loss == min(row["loss"] for row in epochs) and "psnr" in epochs[0]
    assert "not a medical device" in (run.folder / "card.md").read_text()


def test_the_opened_run_computes_what_validation_saw(tmp_path, splits, known):
    run = fit(tmp_path / "run", splits, replace(RECIPE, ema=0.9))
    model, net = open_run(run.folder)
    assert model.options == MODEL.options and not net.training
    batch = store.load_batch(splits["val"], views=model.views, size=N)
    with torch.no_grad():
        ct = model.run(net, batch.xrays, batch.beams)["ct"]
    truth = model.target.encode(batch.hu)
    loss = (ct - truth).square().mean() + 0.1 * (ct - truth).abs().mean()
    assert float(loss) == pytest.approx(run.best_loss, rel=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path, splits):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.manual_seed(hash(name) % 1000)  # the caller's own numbers have no part in it
        fit(tmp_path / name, splits, replace(RECIPE, seed=seed, epochs=2))
    a, b, c = (load_file(tmp_path / name / "last" / "net.safetensors") for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["first.weight"], c["first.weight"])


def test_training_leaves_the_callers_random_numbers_alone(tmp_path, splits):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    fit(tmp_path / "run", splits, steps=1)
    assert torch.equal(torch.rand(3), expected)


FULL = replace(RECIPE, losses={"mse": 1.0, "gan": 0.1}, ema=0.9, schedule="plateau", patience=0, clip=1.0, accumulate=2)


def test_stopped_by_a_signal_and_resumed_is_the_same_as_never_stopped(tmp_path, splits):
    def stop(now: Progress) -> None:
        if now.step == 4:  # in the middle of an epoch of three
            signal.raise_signal(signal.SIGTERM)

    recipe = replace(FULL, epoch_steps=3)
    whole = fit(tmp_path / "whole", splits, recipe, steps=9)
    part = fit(tmp_path / "part", splits, recipe, steps=9, progress=stop)
    assert not part.finished and part.step == 4
    after = fit(tmp_path / "part", splits, recipe, steps=9, resume=True)
    assert after.finished and losses_of(after.folder) == losses_of(whole.folder)
    for name in ("net", "ema", "discriminator"):
        a, b = (load_file(run.folder / "last" / f"{name}.safetensors") for run in (whole, after))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a), name
    a, b = (torch.load(run.folder / "last" / "optimisers.pt", weights_only=True) for run in (whole, after))
    for player in ("optimiser", "critic_optimiser"):
        for k, moments in a[player]["state"].items():
            assert torch.equal(moments["exp_avg"], b[player]["state"][k]["exp_avg"]), player


CHILD = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_train as t
from raylift.train import loop
torch.set_num_threads(1)
loop.EPOCH_SAVE_SECONDS = loop.SAVE_SECONDS = 0.0
folder = Path(sys.argv[2])
cases = [t.store.open_case(folder / f"c{k}") for k in range(3)]
t.fit(Path(sys.argv[3]), {"train": cases[:2], "val": cases[2:]}, t.FULL, steps=int(sys.argv[4]), resume=True)
"""


def killed(cases: Path, out: Path, steps: int, when: int, rng: np.random.Generator) -> None:
    """A training in a process of its own, killed soon after its log has `when` lines."""
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(cases), str(out), str(steps)]
    child = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if (out / "log.jsonl").is_file() and (out / "log.jsonl").read_text().count("\n") >= when:
                break
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        assert child.poll() is None, "the training ended before it could be killed"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def test_killed_and_resumed_gives_the_same_curve(tmp_path, splits):
    cases = splits["train"][0].folder.parent
    killed(cases, tmp_path / "part", 24, 6, np.random.default_rng(0))
    before = len(losses_of_whole_lines(tmp_path / "part"))
    after = fit(tmp_path / "part", splits, FULL, steps=24, resume=True)
    whole = fit(tmp_path / "whole", splits, FULL, steps=24)
    assert 0 < before < 24 and losses_of(after.folder) == losses_of(whole.folder)


def losses_of_whole_lines(out: Path) -> list[str]:
    return [line for line in (out / "log.jsonl").read_text().splitlines() if line.endswith("}")]


@pytest.mark.slow
def test_killed_at_many_random_moments_gives_the_same_curve(tmp_path, splits):
    rng = np.random.default_rng(1)
    cases = splits["train"][0].folder.parent
    for k in range(10):
        killed(cases, tmp_path / "part", 400, 20 * (k + 1), rng)
    after = fit(tmp_path / "part", splits, FULL, steps=400, resume=True)
    whole = fit(tmp_path / "whole", splits, FULL, steps=400)
    assert losses_of(after.folder) == losses_of(whole.folder)


def test_a_truncated_checkpoint_gives_way_to_the_one_before(tmp_path, splits, monkeypatch, caplog):
    monkeypatch.setattr(loop, "EPOCH_SAVE_SECONDS", 0.0)
    whole = fit(tmp_path / "whole", splits, steps=8)

    def stop(now: Progress) -> None:
        if now.step == 6:
            signal.raise_signal(signal.SIGUSR1)

    part = fit(tmp_path / "part", splits, steps=8, progress=stop)
    state = part.folder / "last" / "net.safetensors"
    state.write_bytes(state.read_bytes()[:-7])
    after = fit(part.folder, splits, steps=8, resume=True)
    assert "net.safetensors" in caplog.text and "before" in caplog.text
    assert losses_of(after.folder) == losses_of(whole.folder)


def test_no_code_hidden_in_a_checkpoint_is_run(tmp_path, splits):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "canary",))

    run = fit(tmp_path / "run", splits, steps=2)
    torch.save({"optimiser": Evil()}, run.folder / "last" / "optimisers.pt")
    weights.write_hashes(run.folder / "last")
    with pytest.raises(BadInput, match=r"optimisers\.pt"):
        fit(run.folder, splits, steps=2, resume=True)
    assert not (tmp_path / "canary").exists()


class Poisoned(Lift):
    """Gives NaN for X-rays that are marked by one very large value."""

    def forward(self, xrays):
        ct = super().forward(xrays.clamp(max=10))["ct"]
        return {"ct": ct + torch.where(xrays > 100, torch.nan, 0).sum()}


def poisoned(cases: Sequence[store.Case], which: Sequence[int]) -> Model:
    for number in which:
        xrays = np.load(cases[number].folder / "xrays.npy")
        xrays[0, 0, 0] = 1000
        np.save(cases[number].folder / "xrays.npy", xrays)
    return replace(MODEL, net=Poisoned, xray_values="line_integral", recipe=RECIPE)


def test_an_update_that_is_not_finite_is_skipped_and_named(tmp_path):
    cases = make_cases(tmp_path / "cases")
    model = poisoned(cases, [1])
    run = train(model, RECIPE, None, tmp_path / "run", cases={"train": cases}, device="cpu")
    rows = [row for row in read_log(run.folder) if "skipped" in row]
    assert run.finished and run.skipped == 4 == len(rows)
    assert all(row["skipped"] == ["c1"] and row["loss"] is None for row in rows)
    assert all(t.isfinite().all() for t in load_file(run.folder / "last" / "net.safetensors").values())


def test_too_many_such_updates_end_the_run_with_the_reason(tmp_path):
    cases = make_cases(tmp_path / "cases")
    model = poisoned(cases, [0, 1, 2])
    with pytest.raises(RayliftError, match="5 updates in a row were not finite"):
        train(model, RECIPE, None, tmp_path / "run", cases={"train": cases}, device="cpu")
    dumped = json.loads((tmp_path / "run" / "not-finite.json").read_text())
    assert dumped["step"] == 5 and dumped["terms"]["mse"] == "nan"


def test_the_discriminator_learns_too_and_the_generator_hears_it(tmp_path, splits):
    recipe = replace(RECIPE, losses={"mse": 1.0, "gan": 0.5}, epochs=2)
    run = fit(tmp_path / "run", splits, recipe)
    first = MODEL.build_discriminator(_after_generator(recipe.seed))
    last = load_file(run.folder / "last" / "discriminator.safetensors")
    assert all(not torch.equal(t, last[name]) for name, t in first.state_dict().items())
    plain = fit(tmp_path / "plain", splits, replace(recipe, losses={"mse": 1.0}))
    a, b = (load_file(r.folder / "last" / "net.safetensors") for r in (run, plain))
    assert not torch.equal(a["head.weight"], b["head.weight"])


def _after_generator(seed: int) -> torch.Generator:
    generator = torch.Generator().manual_seed(seed)
    MODEL.build(generator)
    return generator


def test_two_batches_accumulated_are_one_of_twice_the_size(tmp_path, splits):
    still = replace(MODEL, net=Still)
    found = []
    for name, settings in (("one", {"batch_size": 2}), ("two", {"accumulate": 2})):
        recipe = replace(RECIPE, losses={"mse": 1.0}, optimiser="sgd", **settings)
        run = train(still, recipe, None, tmp_path / name, cases=splits, device="cpu", steps=3)
        found.append(load_file(run.folder / "last" / "net.safetensors"))
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


class Still(Lift):
    """Without what depends on the other samples of a batch, or on chance."""

    def __init__(self, width: int = 4, views: int = 2):
        super().__init__(width, views)
        self.norm, self.drop = nn.InstanceNorm3d(width), nn.Identity()


PAIR = """
import sys, torch
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_train as t
torch.set_num_threads(1)
t.shared_fit([t.store.open_case(Path(sys.argv[2]) / f"c{k}") for k in range(2)], Path(sys.argv[3]))
"""


def shared_fit(cases: list[store.Case], out: Path) -> None:
    recipe = replace(FULL, optimiser="sgd", batch_size=2, schedule="constant")
    train(replace(MODEL, net=Still), recipe, None, out, cases={"train": cases}, device="cpu", steps=3)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path, splits):
    cases = splits["train"]
    shared_fit(cases, tmp_path / "one")
    (tmp_path / "pair.py").write_text(PAIR)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    words = [str(tmp_path / "pair.py"), str(Path(__file__).parent), str(cases[0].folder.parent), str(tmp_path / "two")]
    subprocess.run([*launch, *words], check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for name in ("net", "ema", "discriminator"):
        a, b = (load_file(tmp_path / run / "last" / f"{name}.safetensors") for run in ("one", "two"))
        assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a), name


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    folder = tmp_path / "last"
    checkpoint.write_folder(folder, {"a": lambda path: path.write_text("1")})

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(BadInput, match="No space left"):
        checkpoint.write_folder(folder, {"a": full})
    assert weights.damage(folder) is None and (folder / "a").read_text() == "1"


class TwoHeads(Still):
    """Gives a second volume."""

    def forward(self, xrays):
        ct = super().forward(xrays)["ct"]
        return {"ct": ct, "half": ct / 2}


def test_a_run_of_a_version_that_had_fewer_settings_goes_on(tmp_path, splits):
    run = fit(tmp_path / "run", splits, steps=1)
    path = run.folder / "recipe.json"
    record = json.loads(path.read_text())
    del record["shard"]
    path.write_text(json.dumps(record))
    assert fit(run.folder, splits, steps=2, resume=True).step == 2


def test_a_loss_can_be_of_another_output(tmp_path, splits):
    recipe = replace(RECIPE, losses={"mse@half": 1.0})
    run = train(replace(MODEL, net=TwoHeads), recipe, None, tmp_path / "run", cases=splits, device="cpu", steps=2)
    assert "mse@half" in read_log(run.folder)[0] and math.isfinite(run.best_loss)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_mixed_precision_trains(tmp_path, splits, precision):
    run = fit(tmp_path / "run", splits, replace(RECIPE, precision=precision), steps=2)
    assert run.finished and all(math.isfinite(row[1]) for row in losses_of(run.folder))


def test_paired_augmentation_is_drawn_anew_for_each_update_and_can_be_had_again(splits):
    recipe = replace(RECIPE, augment="paired", batch_size=2)
    feed = Feed(cases=splits["train"], model=MODEL, recipe=recipe)
    (first,), (again,), (other,) = feed.batches(0), feed.batches(0), feed.batches(1)
    plain = store.load_batch([feed.cases[k] for k in feed.chosen(0)[0]], views=MODEL.views, size=N)
    assert torch.equal(first.hu, again.hu) and torch.equal(first.xrays, again.xrays)
    assert not torch.equal(first.hu, other.hu) and not torch.equal(first.hu, plain.hu)
    assert first.beams == plain.beams and first.ids == plain.ids and first.valid is None


def test_a_moved_patient_keeps_the_border_of_what_was_scanned(tmp_path):
    case = make_cases(tmp_path, 1)[0]
    valid = np.ones((N,) * 3, bool)
    valid[:4] = False
    np.save(case.folder / "valid.npy", valid)
    feed = Feed(cases=[replace(case, partly_filled=True)], model=MODEL, recipe=replace(RECIPE, augment="paired"))
    (batch,) = feed.batches(0)
    assert not batch.valid[0, 0, :2].any() and batch.valid[0, 0, 7:-3, 4:-4, 4:-4].all()


def test_every_pass_shows_each_case_once_and_processes_share_it(splits):
    def all_numbers(**shared) -> list[list[int]]:
        feed = Feed(cases=splits["train"] * 4, model=MODEL, recipe=replace(RECIPE, batch_size=4), **shared)
        return [[n for batch in feed.chosen(step) for n in batch] for step in range(4)]

    alone = all_numbers()
    assert sorted(alone[0] + alone[1]) == sorted(alone[2] + alone[3]) == list(range(8))
    assert alone[0] + alone[1] != alone[2] + alone[3]
    first, second = all_numbers(rank=0, ranks=2), all_numbers(rank=1, ranks=2)
    assert [a + b for a, b in zip(first, second, strict=True)] == alone


def test_schedules():
    plan = Plan(steps=100, epoch_steps=10)

    def rates(**settings) -> list[float]:
        recipe = Recipe(losses={"mse": 1.0}, lr=1.0, **settings)
        return [learning_rate(recipe, plan, step) for step in range(100)]

    assert set(rates()) == {1.0}
    steps = rates(schedule="steps", milestones=(3, 6), gamma=0.1)
    assert [steps[k] for k in (29, 30, 59, 60)] == pytest.approx([1, 0.1, 0.1, 0.01])
    line = rates(schedule="linear-last-half")
    assert line[:50] == [1.0] * 50 and line[50] == pytest.approx(5 / 6) and line[-1] == pytest.approx(1 / 6)
    cosine = rates(schedule="cosine", warmup_epochs=1)
    assert cosine[0] == pytest.approx(0.1) and cosine[10] == 1.0 and cosine[55] == pytest.approx(0.5)
    assert cosine[-1] < 1e-3
    assert learning_rate(Recipe(losses={"mse": 1.0}, lr=1.0, schedule="plateau"), plan, 50, 2) == pytest.approx(0.01)


def test_the_plateau_is_left_after_more_than_patience_epochs():
    plateau = Plateau()
    for loss in (1.0, 0.5, 0.6, 0.6, 0.6, 0.4):
        plateau.after(loss, patience=2)
    assert plateau.seen == 1 and plateau.best == 0.4


def test_the_running_mean_of_constant_weights_is_those_weights():
    net = Lift()
    ema = Ema.of(net, 0.99)
    for step in range(3):
        ema.after(net, step)
    assert all(torch.allclose(ema.tensors[name], t) for name, t in net.state_dict().items())
    with torch.no_grad():
        net.head.weight.fill_(1.0)
    ema.after(net, 10**6)
    old = float(MODEL.build(torch.Generator()).head.weight.numel())
    assert old and float((1 - ema.tensors["head.weight"]).abs().max()) > 0.5  # it follows slowly


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path, splits):
    fit(tmp_path / "run", splits, steps=1)
    with pytest.raises(BadInput, match="--resume"):
        fit(tmp_path / "run", splits, steps=1)
    with pytest.raises(BadInput, match=r"lr was 0\.01, now 0\.5"):
        fit(tmp_path / "run", splits, replace(RECIPE, lr=0.5), steps=1, resume=True)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.txt").touch()
    with pytest.raises(BadInput, match="not empty"):
        fit(tmp_path / "else", splits, steps=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"losses": {}}, "no loss"),
        ({"losses": {"mes": 1.0}}, "did you mean 'mse'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"precision": "fp16"}, "bf16"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_before_anything_is_written(tmp_path, splits, change, words):
    with pytest.raises(BadInput, match=words):
        fit(tmp_path / "run", splits, replace(RECIPE, **change))
    assert not (tmp_path / "run").exists()


def dataset_like(**changes) -> store.Dataset:
    settings = {
        "folder": Path("set"),
        "profile": "chest",
        "preset": "chest",
        "rays": "whole",
        "gamma": None,
        "spacing": 2.5,
        "size": 128,
        "views": (View.PA, View.LAT),
        "complete_rays": True,
        "target": MODEL.target,
        "splits": {"train": []},
        "split_hash": "0",
        "patients": {},
    }
    return store.Dataset(**{**settings, **changes})


def test_a_data_set_that_does_not_fit_is_refused_in_words():
    check_fit(MODEL, dataset_like())
    for changes, words in (
        ({"profile": "spine"}, "profile is 'spine'"),
        ({"views": (View.PA,)}, "no view LAT"),
        ({"size": 120, "spacing": 320 / 120}, "cannot be averaged to 16"),
        ({"spacing": 2.0}, "256 mm wide"),
    ):
        with pytest.raises(BadInput, match=words):
            check_fit(MODEL, dataset_like(**changes))


def test_exported_weights_open_alike_and_faults_are_named(tmp_path, splits, known):
    run = fit(tmp_path / "run", splits, steps=2)
    folder = export_weights(run.folder, tmp_path / "weights", dtype=None)
    assert {"net.safetensors", "model.json", "recipe.json", "card.md"} <= {p.name for p in folder.iterdir()}
    (_, a), (_, b) = open_run(run.folder), open_run(folder)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    half = export_weights(run.folder, tmp_path / "half")
    assert load_file(half / "net.safetensors")["head.weight"].dtype == torch.float16

    def refused(change, words):
        tensors = load_file(folder / "net.safetensors")
        change(tensors)
        save_file(tensors, half / "net.safetensors")
        weights.write_hashes(half)
        with pytest.raises(BadInput, match=words):
            open_run(half)

    refused(lambda t: t.pop("head.bias"), r"head\.bias missing")
    refused(lambda t: t.update(extra=torch.zeros(1)), "extra not of this net")
    refused(lambda t: t.update({"head.bias": torch.zeros(2)}), r"head\.bias \(2,\) for \(1,\) of another shape")
    refused(lambda t: t["head.bias"].fill_(torch.nan), r"head\.bias not finite")
    for name in ("net.safetensors", "model.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(BadInput, match=name):
            open_run(folder)
        (folder / name).write_bytes(content)
    (folder / "net.safetensors").unlink()
    with pytest.raises(BadInput):
        open_run(folder)


def test_a_folder_of_pickles_is_refused_with_a_way_out(tmp_path):
    torch.save({}, tmp_path / "net.pth")
    with pytest.raises(BadInput, match=r"net\.pth.*safetensors"):
        open_run(tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_training_on_a_gpu(tmp_path, splits, precision):
    run = train(MODEL, replace(FULL, precision=precision), None, tmp_path / "run", cases=splits, steps=8)
    found = losses_of(run.folder)
    assert run.finished and all(math.isfinite(row[1]) for row in found)
