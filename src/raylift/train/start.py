"""What a training needs before its first update: the cases, the plan, the nets with their optimisers."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, ProjectConfiguration
from torch import nn

from raylift.blocks.init import channels_last
from raylift.blocks.narrow import narrow_in_float32
from raylift.data.store import Case, open_dataset
from raylift.errors import BadInput
from raylift.fit import check_fit
from raylift.models.spec import Model, Recipe
from raylift.physics import VACUUM_HU, ZScore
from raylift.train.schedule import Ema, Plan
from raylift.train.shard import sharded
from raylift.train.step import Players, make_optimiser

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # a cluster's words for "your time is up"
REPLICAS = {DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU}  # each holds the whole net
Cases = Mapping[str, Sequence[Case]]


def material(
    model: Model, recipe: Recipe, folder: Path | str | None, cases: Cases | None
) -> tuple[Model, dict[str, list[Case]], dict[str, Any]]:
    """The model as it will be trained, the cases of each split, and what the run's folder says of the data."""
    model = replace(model, recipe=recipe)
    about = {"data": "cases given", "profile": model.profile, "split_hash": "none", "rays": "whole"}
    if folder is not None:
        dataset = open_dataset(folder)
        check_fit(model, dataset)
        model = replace(model, gamma=dataset.gamma, complete_rays=dataset.complete_rays)
        if isinstance(model.target, ZScore):
            model = replace(model, target=dataset.target)
        about = {"data": dataset.folder.name, "profile": dataset.profile, "split_hash": dataset.split_hash}
        about["rays"] = "cube" if dataset.rays == "cube" else "whole"  # of the source, which holds what is kept
        if recipe.augment == "xctnet" and model.xray_values != "input":
            raise BadInput(f"{model.name} reads attenuation off its X-rays, and augment=xctnet changes their scale")
        if recipe.augment != "none" and not dataset.complete_rays and dataset.floor_hu <= VACUUM_HU:
            raise BadInput(
                f"{dataset.folder}: its X-rays show more than its cubes hold, so a moved cube has no X-rays; "
                "take --set augment=none"
            )
        if cases is None:
            cases = {name: dataset.cases(name) for name in ("train", "val") if name in dataset.splits}
    if cases is None or not cases.get("train"):
        raise BadInput(f"{folder or 'the cases given'}: there is no case to train on (no 'train' split)")
    cases = {name: list(chosen) for name, chosen in cases.items() if name in ("train", "val")}
    return model, cases, {**about, "cases": {name: len(chosen) for name, chosen in cases.items()}}


def make_plan(recipe: Recipe, count: int, steps: int | None) -> Plan:
    """How many updates there will be, of so many cases."""
    epoch_steps = recipe.epoch_steps or -(-count // (recipe.batch_size * recipe.accumulate))
    if steps is not None and steps < 1:
        raise BadInput(f"steps={steps}: at least 1")
    return Plan(steps=steps or recipe.epochs * epoch_steps, epoch_steps=epoch_steps)


def make_accelerator(
    recipe: Recipe, device: str | None, out: Path | None = None, trackers: Sequence[str] = ()
) -> Accelerator:
    """Accelerate's engine on the device, in the recipe's precision; `trackers` write into `out`."""
    if device not in (None, "cpu", "cuda"):
        raise BadInput(f"device '{device}': cpu or cuda; CUDA_VISIBLE_DEVICES chooses which GPU")
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("no CUDA device is here; leave --device out, or say --device cpu")
    if recipe.precision == "fp16" and (device == "cpu" or not torch.cuda.is_available()):
        raise BadInput("precision fp16 needs a GPU; --set precision=bf16 works on a CPU")
    if not torch.distributed.is_initialized():  # an earlier training in this process may have chosen otherwise
        AcceleratorState._reset_state(reset_partial_state=True)
    place = ProjectConfiguration(project_dir=str(out), logging_dir=str(out / "tensorboard")) if out else None
    on_cpu = device == "cpu" or not torch.cuda.is_available()  # else each process of several would train alone
    _check_sharding(on_cpu)
    engine = Accelerator(
        mixed_precision=recipe.precision, cpu=on_cpu, log_with=list(trackers) or None, project_config=place
    )
    _check_launch(engine.distributed_type, recipe.precision)
    return engine


def is_first() -> bool:
    """True in the first of the processes that a launcher started, and where there is but one."""
    return int(os.environ.get("RANK", "0")) == 0


def _check_sharding(on_cpu: bool) -> None:
    """An error where the launcher asked for FSDP on a CPU."""
    if on_cpu and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise BadInput(
            "FSDP was asked for, and accelerate shards a net among GPUs only: launch with torchrun, or without "
            "--use_fsdp, and take --set shard=true (see docs/training.md)"
        )


def _check_launch(kind: DistributedType, precision: str) -> None:
    """An error where the launcher asked for what is not done here, or accelerate would do something else in silence."""
    if kind not in REPLICAS:
        raise BadInput(
            f"accelerate was launched for {kind.value}: launch with --multi_gpu or torchrun; --set shard=true is "
            "FSDP (see docs/training.md)"
        )
    if kind == DistributedType.MULTI_CPU and precision != "no":
        raise BadInput(
            f"precision {precision} in several processes on a CPU: accelerate computes in float32 there without "
            "a word; --set precision=no says so, one process does bf16"
        )


def make_players(model: Model, recipe: Recipe, accelerator: Accelerator) -> tuple[Players, Ema | None]:
    """The nets with weights drawn from the recipe's seed, their optimisers, and the running mean where there is one."""
    generator = torch.Generator().manual_seed(recipe.seed)
    net = model.build(generator).train()
    if recipe.compile:
        net.compile()
    net, optimiser = _prepared(net, recipe, accelerator)
    players = Players(accelerator=accelerator, model=model, recipe=recipe, net=net, optimiser=optimiser)
    if "gan" in recipe.losses:
        critic = model.build_discriminator(generator).train()
        players.critic, players.critic_optimiser = _prepared(critic, recipe, accelerator)
    return players, Ema.of(players.bare(players.net), recipe.ema) if recipe.ema else None


def _prepared(net: nn.Module, recipe: Recipe, accelerator: Accelerator) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The net as the processes share it, and its optimiser."""
    on_cpu = accelerator.device.type == "cpu"
    if recipe.shard and accelerator.num_processes > 1:
        if on_cpu:
            narrow_in_float32(net)
        net = sharded(accelerator.prepare_model(net, evaluation_mode=True), accelerator.device)  # not DDP's
        return net, accelerator.prepare(make_optimiser(recipe, net))
    if on_cpu:
        narrow_in_float32(channels_last(net))
    return accelerator.prepare(net, make_optimiser(recipe, net))


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Whether a signal asked to stop; the usual handlers come back at the end."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told.is_set
        return
    before = {number: signal.signal(number, lambda *_: told.set()) for number in STOP_SIGNALS}
    try:
        yield told.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
