"""Several processes on CPU, as torchrun and accelerate launch them: the same result, one signal stops all."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from raylift import models
from raylift.data.store import open_case
from raylift.io.files import write_json
from raylift.train import loop, read_log, train
from test_train import FULL, MODEL, N, Still, losses_of, make_cases

pytestmark = pytest.mark.slow  # each launch imports torch two times or more

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]

PAIR = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_train_launch as t
torch.set_num_threads(1)
if len(sys.argv) > 4:
    t.signal_after(int(sys.argv[4]))
t.shared(Path(sys.argv[2]), Path(sys.argv[3]), **t.settings())
"""


def settings() -> dict:
    """What a test tells the processes that it launches."""
    return json.loads(os.environ.get("RECIPE", "{}"))


def shared(cases: Path, out: Path, **recipe):
    """A training that two processes can share: instance norm, no dropout."""
    recipe = replace(FULL, **{"optimiser": "sgd", "batch_size": 2, **recipe})
    opened = [open_case(cases / f"c{k}") for k in range(3)]
    found = {"train": opened[:2], "val": opened[2:]}
    return train(replace(MODEL, net=Still), recipe, None, out, cases=found, device="cpu", steps=6, resume=True)


def signal_after(step: int) -> None:
    """The second process is told to stop within its update `step`; the first hears nothing."""
    count, update = 0, loop.update

    def watched(*args):
        nonlocal count
        count += 1
        if count == step and int(os.environ["RANK"]) == 1:
            signal.raise_signal(signal.SIGUSR1)
        return update(*args)

    loop.update = watched


APART = """
import os, sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_train_launch as t
torch.set_num_threads(1)
t.loop.EPOCH_SAVE_SECONDS = t.loop.SAVE_SECONDS = 0.0 if os.environ["RANK"] == "0" else 1e9
t.shared(Path(sys.argv[2]), Path(sys.argv[3]))
"""


ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def launch(words: list[str], *more: object, **recipe) -> str:
    command = [*map(str, words), *map(str, more)]
    env = {**ONE_THREAD, "RECIPE": json.dumps(recipe)}
    return subprocess.run(command, check=True, timeout=300, env=env, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    make_cases(folder)
    return folder


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("script") / "pair.py"
    path.write_text(PAIR)
    return path


@pytest.fixture(scope="module")
def alone(cases, tmp_path_factory) -> Path:
    return shared(cases, tmp_path_factory.mktemp("alone") / "run").folder


def same_weights(a: Path, b: Path, but: str = "", **tolerance) -> None:
    for name in ("net", "ema", "discriminator"):
        one, other = (load_file(folder / "last" / f"{name}.safetensors") for folder in (a, b))
        for key in one.keys() - {but}:
            torch.testing.assert_close(one[key], other[key], msg=f"{name} {key}", **tolerance)


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_give_what_one_gives(launcher, cases, script, alone, tmp_path):
    launch(launcher, script, Path(__file__).parent, cases, tmp_path / "two")
    same_weights(alone, tmp_path / "two", rtol=0, atol=1e-6)
    one, two = ([row[1] for row in losses_of(folder)] for folder in (alone, tmp_path / "two"))
    assert two == pytest.approx(one, rel=1e-5) and len(two) == 6


def test_a_signal_to_one_process_stops_all_after_the_same_update(cases, script, alone, tmp_path):
    launch(TORCHRUN, script, Path(__file__).parent, cases, tmp_path / "two", 3)
    assert json.loads((tmp_path / "two" / "last" / "state.json").read_text())["step"] == 3
    launch(TORCHRUN, script, Path(__file__).parent, cases, tmp_path / "two")
    assert [row["step"] for row in read_log(tmp_path / "two") if row["kind"] == "step"] == list(range(1, 7))
    same_weights(alone, tmp_path / "two", rtol=0, atol=1e-6)


@pytest.mark.parametrize(("optimiser", "noise"), [("sgd", ""), ("adam", "first.bias")])
def test_two_processes_that_share_the_weights_out_give_what_one_gives(optimiser, noise, cases, script, tmp_path):
    """FSDP, a training that a signal ended, and a process alone that goes on from what two have saved.

    The gradient of a bias that instance norm takes out is rounding, which Adam makes steps of.
    """
    shared(cases, tmp_path / "one", optimiser=optimiser)
    launch(TORCHRUN, script, Path(__file__).parent, cases, tmp_path / "two", 3, shard=True, optimiser=optimiser)
    assert json.loads((tmp_path / "two" / "last" / "state.json").read_text())["step"] == 3
    shutil.copytree(tmp_path / "two", tmp_path / "goes-on")
    launch(TORCHRUN, script, Path(__file__).parent, cases, tmp_path / "two", shard=True, optimiser=optimiser)
    shared(cases, tmp_path / "goes-on", optimiser=optimiser, shard=True)
    for folder in (tmp_path / "two", tmp_path / "goes-on"):
        same_weights(tmp_path / "one", folder, noise, rtol=0, atol=1e-6)
        one, two = (read_log(run)[-1]["psnr"] for run in (tmp_path / "one", folder))
        assert two == pytest.approx(one, rel=1e-5)


def test_processes_whose_clocks_differ_save_together(cases, tmp_path):
    """One finds that a checkpoint is due and the other does not: neither waits for the other for ever."""
    (tmp_path / "apart.py").write_text(APART)
    launch(TORCHRUN, tmp_path / "apart.py", Path(__file__).parent, cases, tmp_path / "two")
    assert json.loads((tmp_path / "two" / "last" / "state.json").read_text())["step"] == 6


def test_fsdp_on_a_cpu_is_refused_in_words(cases, script, tmp_path):
    words = [*ACCELERATE[:3], "--use_fsdp", "--num_processes", "2", script, Path(__file__).parent, cases]
    done = subprocess.run(
        [*map(str, words), str(tmp_path / "two")], capture_output=True, text=True, timeout=300, env=ONE_THREAD
    )
    assert done.returncode != 0 and "accelerate shards a net among GPUs only" in done.stderr
    assert not (tmp_path / "two").exists()


def test_the_command_line_under_torchrun(cases, tmp_path):
    """As docs/training.md says it."""
    data = tmp_path / "dataset"
    data.mkdir()
    (data / "cases").symlink_to(cases)
    names = {"train": ["c0", "c1"], "val": ["c2"]}
    about = {"version": 1, "profile": "chest", "preset": "chest", "spacing": 320 / N, "size": N, "views": ["PA", "LAT"]}
    about |= {"complete_rays": True, "rays": "whole", "target": {"kind": "unit", "window": [-1024, 1476]}}
    write_json(data / "dataset.json", about)
    write_json(data / "splits.json", {"splits": names, "patients": {f"c{k}": f"p{k}" for k in range(3)}, "hash": "0"})
    psr = models.get("psr-biplanar")
    tiny = [f"--set=net.{key}={_text(value)}" for key, value in {**psr.tiny, "size": N}.items()]
    words = [*TORCHRUN, "-m", "raylift.cli", "train", psr.name, "--data", data, "-o", tmp_path / "run", *tiny]
    told = launch(words, "--set=batch_size=2", "--steps=2")
    assert json.loads((tmp_path / "run" / "last" / "state.json").read_text())["step"] == 2
    assert told.count("2 of 2 updates") == 1  # not once for each process


def _text(value) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
