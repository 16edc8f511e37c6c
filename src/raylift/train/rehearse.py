"""What a training would be, before it is begun: sizes, memory, and the time of an update measured on this machine."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from raylift.data.store import Case
from raylift.models.counts import counts
from raylift.models.spec import Model, Recipe
from raylift.train.feed import Feed
from raylift.train.log import in_words
from raylift.train.memory import Peak, check_memory, free, in_gib, needed, taken
from raylift.train.schedule import Plan
from raylift.train.start import make_accelerator, make_plan, make_players, material
from raylift.train.step import Players, check_recipe, update
from raylift.train.validate import validate

ENOUGH_S = 20.0  # ours: an update slower than this is measured once


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """A training's plan; bytes and seconds of this machine, for one process."""

    model: Model
    recipe: Recipe
    plan: Plan
    data: Mapping[str, Any]  # name, profile, cases of each split
    size: Mapping[str, Any]  # parameters, multiply-accumulates
    device: str
    memory: int  # an update's highest
    free: int
    update_s: float
    load_s: float  # the cases of one update, in the thread that loads ahead
    validate_s: float  # all validation cases, once

    @property
    def seconds(self) -> float:
        """How long the training will take; cases are loaded while the update before is computed."""
        return self.plan.steps * max(self.update_s, self.load_s) + self.plan.epochs * self.validate_s

    @property
    def waiting(self) -> float:
        """The share of an update spent waiting for cases, [0, 1]."""
        return max(0.0, 1 - self.update_s / max(self.load_s, 1e-9))

    def rows(self) -> dict[str, str]:
        """The plan in words, line by line."""
        recipe, plan, model = self.recipe, self.plan, self.model
        macs = f", {self.size['true'] / 1e9:.1f} GMAC a volume" if "true" in self.size else ""
        judged = f", discriminator {self.size['discriminator']:,}" if "gan" in recipe.losses else ""
        losses = " + ".join(f"{weight:g} {name}" for name, weight in recipe.losses.items())
        split = ", ".join(f"{count} {name}" for name, count in self.data["cases"].items())
        batch = f"{recipe.batch_size} cases" + (f" x {recipe.accumulate}" if recipe.accumulate > 1 else "")
        waiting = f", waiting for cases {self.waiting:.0%}" if self.waiting > 0 else ", no waiting for cases"
        return {
            "model": f"{model.name}: {', '.join(model.views)} -> {model.size}³ voxels of {model.spacing:g} mm",
            "parameters": f"{self.size['parameters']:,}{judged}{macs}",
            "data": f"{self.data['data']}, profile {self.data['profile']}: {split}",
            "losses": losses,
            "optimiser": f"{recipe.optimiser}, learning rate {recipe.lr:g}, {recipe.schedule}",
            "updates": f"{plan.steps} of {batch}, {plan.epochs} epochs of {plan.epoch_steps}",
            "memory": f"{in_gib(self.memory)} on {self.device}, {in_gib(self.free)} free",
            "one update": f"{self.update_s:.2f} s; its cases {self.load_s:.2f} s{waiting}",
            "validation": f"{self.validate_s:.2f} s an epoch" if self.validate_s else "no validation cases",
            "expected": in_words(self.seconds),
        }


def rehearse(
    model: Model,
    recipe: Recipe,
    dataset_folder: Path | str | None,
    *,
    steps: int | None = None,
    device: str | None = None,
    cases: Mapping[str, Sequence[Case]] | None = None,
) -> Rehearsal:
    """The plan of `train` with the same arguments; one update or two are done on real cases, and nothing is written."""
    check_recipe(model, recipe)
    model, cases, about = material(model, recipe, dataset_folder, cases)
    accelerator = make_accelerator(recipe, device)
    check_memory(model, recipe, accelerator.device)
    feed = Feed(cases=cases["train"], model=model, recipe=recipe, device=accelerator.device, rays=about["rays"])
    plan = make_plan(recipe, len(cases["train"]), steps)
    room = free(accelerator.device)
    counted = needed(model, recipe, recipe.batch_size, taken(accelerator.device))
    with torch.random.fork_rng(devices=[]):
        players, ema = make_players(model, recipe, accelerator)
        update_s, load_s, counted = _timed(players, feed, counted)
        begun = perf_counter()
        if cases.get("val"):
            validate(players, ema, cases["val"][:1])
        one = perf_counter() - begun
    return Rehearsal(
        model=model,
        recipe=recipe,
        plan=plan,
        data=about,
        size=counts(model),
        device=str(accelerator.device),
        memory=counted,
        free=room,
        update_s=update_s,
        load_s=load_s,
        validate_s=one * len(cases.get("val", ())),
    )


def _timed(players: Players, feed: Feed, counted: int | None) -> tuple[float, float, int]:
    """Seconds of an update and of loading its cases, the second time if it is quick; and the bytes that it takes."""
    device = players.accelerator.device
    for step in range(2):
        begun = perf_counter()
        batches = [batch.to(device) for batch in feed.batches(step)]
        loaded = perf_counter()
        held = [*players.net.parameters(), *(t for batch in batches for t in (batch.xrays, batch.hu))]
        with Peak(held, taken(device)) if counted is None and step == 0 else nullcontext() as peak:
            update(players, batches)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        done = perf_counter()
        counted = counted if peak is None else peak.most
        if done - loaded > ENOUGH_S:
            break
    return done - loaded, loaded - begun, counted
