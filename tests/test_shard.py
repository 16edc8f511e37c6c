"""FSDP: every net gives shared out among processes what it gives whole, and each process keeps its share only."""

from pathlib import Path

import pytest

from raylift import models
from raylift.errors import BadInput
from raylift.models.spec import Recipe
from raylift.train.step import check_recipe
from test_models import nets
from test_train_launch import TORCHRUN, launch

SCRIPT = Path(__file__).with_name("shard_nets.py")  # ends with an error where the nets differ


def test_two_processes_hold_half_each_and_compute_the_same():
    launch(TORCHRUN, SCRIPT, "x2ct-gan", "raylift")


@pytest.mark.slow
def test_every_net_can_be_shared_out():
    launch(TORCHRUN, SCRIPT, *nets())


@pytest.mark.parametrize("more", [{"compile": True}, {"precision": "fp16"}])
def test_what_sharding_does_not_go_with_is_told(more):
    with pytest.raises(BadInput, match="shard=true goes with"):
        check_recipe(models.get("psr"), Recipe(losses={"mse": 1.0}, shard=True, **more))
