"""Time and memory of one training step of each model: contiguous or channels-last volumes, float32 or bf16.

    python bench/training.py [--model NAME ... | --all] [--size 32] [--set width=16 ...] [--full] [--batch 2]
    python bench/training.py --profile NAME
    python bench/training.py --data DATASET [--model NAME ...]      the share of a step spent waiting for cases

A step is `train.step.update`: forward, losses, backward and the optimiser, of the discriminator too where the recipe
has one. On a CPU the options are those of the model's tiny copy at `--size` voxels a side, and the table says so; with
a GPU, or `--full`, it is the paper's net, size and batch. Seconds are medians, the settings in turn in each round;
memory is the step's peak with weights, gradients and the optimiser's state. "compiled" after a setting gives the net
to torch.compile first. With --data the cases of DATASET's train split come through the trainer's feed, at `--size` or
with `--full` at the paper's. Rows are appended to history.csv.
"""

import argparse
import gc
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch
from measure import (
    HISTORY,
    LAYOUTS,
    PRECISIONS,
    append,
    ball,
    cell,
    cores,
    interleaved,
    lay_out,
    machine,
    mib,
    pairs,
    peak_mib,
    print_head,
    print_row,
    ratio,
    reduced,
    seconds_of,
    systems,
    tensors_of,
)
from torch.profiler import ProfilerActivity, profile

from raylift import models
from raylift.data.store import Batch, open_dataset
from raylift.errors import RayliftError
from raylift.models.spec import Model
from raylift.train.feed import Feed
from raylift.train.start import make_accelerator, make_players
from raylift.train.step import Players, update

SETTINGS = [f"{layout} {precision}" for precision, layout in product(PRECISIONS, LAYOUTS)]
COMPILED = " compiled"
UNCOUNTED = 1  # steps that warm up
HEAD = ["model", "size", "batch", "options", "setting", "s a step", "samples a s", "times the first", "MiB"]


def busy() -> str:
    """A remark for the record where more processes want to run than there are cores; the ratios suffer less."""
    return " beside other work" if hasattr(os, "getloadavg") and os.getloadavg()[0] > cores() + 0.5 else ""


def device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def players_of(model: Model, precision: str) -> Players:
    """The nets and optimisers as a training makes them; `precision` may end in COMPILED."""
    wanted, compiled = precision.removesuffix(COMPILED), precision.endswith(COMPILED)
    recipe = replace(model.recipe, precision=PRECISIONS[wanted], compile=compiled, seed=0)
    return make_players(model, recipe, make_accelerator(recipe, device(), Path()))[0]


def held(players: Players) -> list[torch.Tensor]:
    """What stays in memory between two steps."""
    critic = tensors_of(players.critic, players.critic_optimiser)
    return tensors_of(players.net, players.optimiser) + critic


def steps_of(model: Model, batch: Batch, settings: Sequence[str]):
    """{setting: a function that does one step}, and {setting: the players that it moves}."""
    made = {precision: players_of(model, precision) for precision in {s.split(" ", 1)[1] for s in settings}}
    players = {setting: made[setting.split(" ", 1)[1]] for setting in settings}
    batch = batch.to(device())
    return {setting: (lambda p=p: update(p, [batch])) for setting, p in players.items()}, players


def measured(model: Model, batch: Batch, settings: Sequence[str], rounds: int) -> list[tuple]:
    """(setting, median seconds, ratio to the first setting, MiB) for each setting."""
    steps, players = steps_of(model, batch, settings)

    def arrange(setting: str) -> None:
        lay_out(held(players[setting]), setting.split()[0])

    memory = {}
    for setting, step in steps.items():
        for _ in range(2):  # the first also compiles, and makes the optimiser's state
            arrange(setting)
            peak = peak_mib(step)
        memory[setting] = None if peak is None else peak + mib(held(players[setting]))
    times = interleaved(steps, rounds, before=arrange)
    return [(s, median(times[s]), ratio(times, settings[0], s), memory[s]) for s in settings]


def chosen(options: argparse.Namespace) -> list[Model]:
    """The models that are measured, as they will be built."""
    known = [models.get(name) for name in options.model]
    known = known or [model for model in systems(options.all) if model.recipe is not None]
    untrained = [model.name for model in known if model.recipe is None]
    if untrained:
        raise SystemExit(f"{untrained[0]} has no recipe: there is nothing to train")
    if options.full:
        return [model.with_settings(pairs(options.set)) for model in known]
    return [reduced(model, options.size, options.set) for model in known]


def batch_of(model: Model, options: argparse.Namespace) -> int:
    """Samples a step: as asked for, else the recipe's at full size and 2 of a reduced copy (for the batch norms)."""
    return options.batch or (model.recipe.batch_size if options.full else 2)


def print_table(options: argparse.Namespace) -> None:
    """A row for each model and setting, each also appended to the history; a model that fails says why."""
    print_head(HEAD)
    for model in chosen(options):
        count, kind = batch_of(model, options), "full" if options.full else "tiny"
        kind = " ".join([kind, *options.set])
        start = [model.name, f"{model.size}³", str(count), kind]
        try:
            found = measured(model, ball(model, count), options.settings, options.rounds)
        except (RayliftError, ValueError, torch.OutOfMemoryError) as error:  # too small or too large for this net
            print_row([*start, f"did not run: {str(error).splitlines()[0]}", "–", "–", "–", "–"])
            continue
        for setting, seconds, faster, memory in found:
            numbers = [f"{seconds:.3f}", f"{count / seconds:.2f}", f"{faster:.2f}", cell(memory)]
            print_row([*start, setting, *numbers])
        about = f"training {device()} {kind} batch {count}{busy()}"
        append(options.history, [(model.name, model.size, f"{about} {s}", t, m) for s, t, _, m in found])
        gc.collect()


def print_waiting(options: argparse.Namespace) -> None:
    """A row for each model: seconds of a step on the data set's cases, those of CPU that the process took (loading
    included), and the share spent waiting for cases.
    """
    cases = open_dataset(options.data).cases("train")
    print_head(["model", "size", "batch", "options", "s a step", "of CPU", "waited", "goal 5 %"])
    for model in chosen(options):
        count = batch_of(model, options)
        players = players_of(model, "float32")
        recipe = replace(players.recipe, batch_size=count, accumulate=1, augment=options.augment)
        feed = Feed(cases=cases, model=model, recipe=recipe, device=players.accelerator.device)
        waits, begun, spent = [], 0.0, 0.0
        for step, batches, waited in feed.from_step(0, UNCOUNTED + options.rounds):
            if step == UNCOUNTED:
                begun, spent = perf_counter() - waited, process_time()
            waits.append(waited)
            seconds_of(lambda batches=batches, p=players: update(p, [b.to(device()) for b in batches]))
        each, spent = (perf_counter() - begun) / options.rounds, (process_time() - spent) / options.rounds
        share = sum(waits[UNCOUNTED:]) / options.rounds / each
        kind = " ".join(["full" if options.full else "tiny", *options.set])
        met = "met" if share < 0.05 else "NOT MET"
        print_row([model.name, f"{model.size}³", count, kind, f"{each:.3f}", f"{spent:.3f}", f"{share:.1%}", met])
        about = f"training {device()} {kind} batch {count} augment {options.augment}{busy()}"
        about += f" waited {share:.1%} CPU {spent:.3g} s"
        append(options.history, [(model.name, model.size, about, each, None)])


def print_profile(options: argparse.Namespace) -> None:
    """Where one step of one model goes, operation by operation."""
    (model,) = chosen(argparse.Namespace(**{**vars(options), "model": [options.profile]}))
    setting, count = options.settings[0], batch_of(model, options)
    steps, players = steps_of(model, ball(model, count), [setting])
    for _ in range(2):
        lay_out(held(players[setting]), setting.split()[0])
        steps[setting]()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    with profile(activities=activities, profile_memory=True) as seen:
        steps[setting]()
    print(f"One step of {model.name}, {model.size}³, batch {count}, {setting}; {machine()}\n")
    order = f"self_{device()}_time_total"
    print(seen.key_averages().table(sort_by=order, row_limit=30, max_name_column_width=60))


def main(words: Sequence[str] | None = None) -> None:
    """Print the table, or one model's profile."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model", nargs="+", default=[], metavar="NAME", help="default: the first of each file in models/"
    )
    parser.add_argument("--all", action="store_true", help="every variant")
    parser.add_argument("--profile", metavar="NAME", help="torch's table of one step of this model, instead")
    parser.add_argument("--size", type=int, default=32, help="voxels a side of the reduced copies")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of the net")
    parser.add_argument("--full", action="store_true", default=torch.cuda.is_available(), help="the paper's size")
    parser.add_argument("--batch", type=int, help="samples a step; default: the recipe's at full size, else 2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--settings", nargs="+", default=SETTINGS, choices=[*SETTINGS, *(s + COMPILED for s in SETTINGS)]
    )
    parser.add_argument("--data", type=Path, metavar="DATASET", help="measure the waiting for this data set's cases")
    parser.add_argument("--augment", default="none", choices=("none", "paired"), help="of the cases of --data")
    parser.add_argument("--history", type=Path, default=HISTORY)
    options = parser.parse_args(words)
    if options.profile:
        print_profile(options)
        return
    print(f"{machine()}; {options.rounds} rounds\n")
    (print_waiting if options.data else print_table)(options)


if __name__ == "__main__":
    main()
