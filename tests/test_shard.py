"""FSDP: every net gives shared out among processes what it gives whole, and each process keeps its share only."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raylift import models
from raylift.errors import BadInput
from raylift.models.spec import Recipe
from raylift.train.step import check_recipe
from test_models import nets

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]


def launch(*names: str) -> None:
    script = Path(__file__).with_name("shard_nets.py")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*TORCHRUN, script, *names], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_hold_half_each_and_compute_the_same():
    launch("x2ct-gan", "raylift")


@pytest.mark.slow
def test_every_net_can_be_shared_out():
    launch(*nets())


@pytest.mark.parametrize("more", [{"compile": True}, {"precision": "fp16"}])
def test_what_sharding_does_not_go_with_is_told(more):
    with pytest.raises(BadInput, match="shard=true goes with"):
        check_recipe(models.get("psr"), Recipe(losses={"mse": 1.0}, shard=True, **more))
