"""The one training loop, on Hugging Face accelerate: recipe and data set in, a run's folder out."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from raylift.data.store import Batch, Case
from raylift.errors import OutOfMemory, RayliftError
from raylift.io.files import sweep, write_json
from raylift.models.spec import Model, Recipe
from raylift.train import checkpoint
from raylift.train.feed import NET, Feed, drawn_seed
from raylift.train.log import Clock, Progress, as_line, cut_log
from raylift.train.memory import check_memory
from raylift.train.run import Run, begin, write_card
from raylift.train.schedule import Ema, Plan, Plateau, learning_rate
from raylift.train.start import make_accelerator, make_plan, make_players, material, stop_signals
from raylift.train.step import Outcome, Players, check_recipe, update
from raylift.train.track import begin_tracking, check_trackers, show, tell
from raylift.train.validate import middle_slices, validate

log = logging.getLogger(__name__)

GIVE_UP_AFTER = 5  # ours: updates in a row that were not finite
SAVE_SECONDS = 300.0  # ours: a checkpoint at least this often
EPOCH_SAVE_SECONDS = 20.0  # ours: and at an epoch's end, if the last one is older than this


@dataclass
class State:
    """Where a training stands, beside the weights and the optimisers."""

    step: int = 0  # updates done
    best_loss: float | None = None
    skipped: int = 0
    skipped_in_row: int = 0
    epoch_sum: float = 0.0  # of the losses since the epoch began
    epoch_count: int = 0
    seconds: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "State":
        """The state that `asdict` made `record` of."""
        known = {key: value for key, value in record.items() if key != "plan"}
        return cls(**{**known, "plateau": Plateau(**record["plateau"])})


def train(
    model: Model,
    recipe: Recipe,
    dataset_folder: Path | str | None,
    out: Path | str,
    *,
    resume: bool = False,
    steps: int | None = None,
    device: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    cases: Mapping[str, Sequence[Case]] | None = None,
    trackers: Sequence[str] = (),
    memory_check: bool = True,
) -> Run:
    """Train `model` by `recipe` on the data set's "train" split; the run's folder `out` is filled as it goes on.

    `steps` replaces the recipe's epochs, and the schedule spans it. `resume` goes on where a run stopped, or begins
    it; with other `steps` the schedule spans the new number. `cases` ("train", "val") stand in for a data set's own.
    `trackers` ("mlflow", "wandb") hear what TensorBoard hears. Without `memory_check` an update that will not fit is
    tried nevertheless.
    The weights to use are in `out/best`: lowest loss on the "val" split, or in training where there is none.
    """
    out = Path(out)
    check_recipe(model, recipe)
    model, cases, about = material(model, recipe, dataset_folder, cases)
    accelerator = make_accelerator(recipe, device, out, check_trackers(trackers))
    feed = Feed(
        cases=cases["train"],
        model=model,
        recipe=recipe,
        rank=accelerator.process_index,
        ranks=accelerator.num_processes,
        device=accelerator.device,
        rays=about["rays"],
    )
    plan = make_plan(recipe, len(cases["train"]), steps)
    if memory_check:
        check_memory(model, recipe, accelerator.device, accelerator.num_processes)
    if accelerator.is_main_process:
        sweep(out)
        begin(out, model, recipe, plan, about=about, resume=resume)
    accelerator.wait_for_everyone()
    with torch.random.fork_rng(devices=[]), stop_signals() as stopped:
        players, ema = make_players(model, recipe, accelerator)
        state = _resumed(out, players, ema) if resume else State()
        if accelerator.is_main_process:
            cut_log(out / "log.jsonl", state.step)
        begin_tracking(accelerator, recipe, state.step)
        try:
            Loop(out, players, ema, state, plan, feed, cases.get("val", []), stopped, progress).go()
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"{model.name} does not fit the device's memory at batch_size={recipe.batch_size} ({error}); try "
                f"--set batch_size=1 --set accumulate={recipe.batch_size * recipe.accumulate}"
            ) from None
        finally:
            accelerator.end_training()
    return Run(
        folder=out,
        model=model,
        step=state.step,
        steps=plan.steps,
        best_loss=state.best_loss,
        skipped=state.skipped,
    )


@dataclass
class Loop:
    """The updates from where the state stands to the plan's end."""

    out: Path
    players: Players
    ema: Ema | None
    state: State
    plan: Plan
    feed: Feed
    judged: Sequence[Case]  # the validation cases
    stopped: Callable[[], bool]
    progress: Callable[[Progress], None] | None

    def go(self) -> None:
        """Update until the plan's end, or until a signal asks to stop."""
        state, plan = self.state, self.plan
        self.clock, self.before, self.saved = Clock(state.step), state.seconds, perf_counter()
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as stream:
            self.stream = stream
            for step, batches, waited in self.feed.from_step(state.step, plan.steps):
                self._step(step, batches, waited)
                epoch_ended = (step + 1) % plan.epoch_steps == 0 or step + 1 == plan.steps
                if epoch_ended:
                    self._epoch(step)
                age = perf_counter() - self.saved
                due = step + 1 == plan.steps or age > (EPOCH_SAVE_SECONDS if epoch_ended else SAVE_SECONDS)
                stop, due = self._anyone(self.stopped(), due)
                if stop or due:
                    self._save()
                if stop:
                    log.warning("told to stop: saved after update %d of %d", state.step, plan.steps)
                    break

    def _step(self, step: int, batches: Sequence[Batch], waited: float) -> None:
        """One update, and its line in the log."""
        begun = perf_counter()
        players, state, recipe = self.players, self.state, self.players.recipe
        accelerator = players.accelerator
        torch.manual_seed(drawn_seed(recipe.seed, NET, step, accelerator.process_index))  # dropout's numbers
        rate = learning_rate(recipe, self.plan, step, state.plateau.seen)
        for optimiser in (players.optimiser, players.critic_optimiser):
            if optimiser is not None:
                for group in optimiser.param_groups:
                    group["lr"] = rate
        outcome = update(players, [batch.to(accelerator.device) for batch in batches])
        if self.ema is not None and outcome.moved:
            self.ema.after(players.bare(players.net), step)
        loss = sum(recipe.losses[name] * outcome.terms[name] for name in recipe.losses)
        state.step = step + 1
        self._judge(outcome, loss, [name for batch in batches for name in batch.ids])
        self.clock.after(state.step, waited)
        row = {"kind": "step", "step": state.step, "epoch": self.plan.epoch(step), "loss": loss, **outcome.terms}
        times = {"lr": rate, "norm": outcome.norm, "seconds": perf_counter() - begun, "waited": waited}
        self._tell({**row, **times, **({} if outcome.moved else {"skipped": [n for b in batches for n in b.ids]})})
        if self.progress is not None and accelerator.is_main_process:
            share = self.clock.waited / max(self.clock.seconds, 1e-9)
            left = self.clock.left(state.step, self.plan.steps)
            self.progress(
                Progress(
                    step=state.step,
                    steps=self.plan.steps,
                    epoch=self.plan.epoch(step),
                    loss=loss,
                    waited=share,
                    seconds_left=left,
                )
            )

    def _judge(self, outcome: Outcome, loss: float, ids: Sequence[str]) -> None:
        """Count the update; too many in a row that are not finite end the run."""
        state = self.state
        if outcome.moved:
            state.skipped_in_row = 0
            state.epoch_sum, state.epoch_count = state.epoch_sum + loss, state.epoch_count + 1
            return
        state.skipped, state.skipped_in_row = state.skipped + 1, state.skipped_in_row + 1
        log.warning("update %d skipped, its loss or gradient is not finite; cases: %s", state.step, ", ".join(ids))
        if state.skipped_in_row >= GIVE_UP_AFTER:
            terms = {name: str(value) for name, value in outcome.terms.items()}
            write_json(self.out / "not-finite.json", {"step": state.step, "cases": list(ids), "terms": terms})
            raise RayliftError(
                f"{state.skipped_in_row} updates in a row were not finite, the last on {', '.join(ids)}; see "
                f"{self.out / 'not-finite.json'}, look at these cases, or take a lower lr or --set clip=1"
            )

    def _epoch(self, step: int) -> None:
        """Validate, note the epoch, keep the best."""
        state, players = self.state, self.players
        row: dict[str, Any] = {"kind": "epoch", "step": state.step, "epoch": self.plan.epoch(step)}
        row["train_loss"] = row["loss"] = state.epoch_sum / state.epoch_count if state.epoch_count else None
        if self.judged:
            row.update(validate(players, self.ema, self.judged))
        state.epoch_sum, state.epoch_count = 0.0, 0
        state.history.append(row)
        self._tell(row)
        shown = (*self.judged, *self.feed.cases)[0]
        show(players.accelerator, middle_slices(players, self.ema, shown), state.step)
        if row["loss"] is None or row["loss"] != row["loss"]:
            return
        state.plateau.after(row["loss"], players.recipe.patience)
        if state.best_loss is None or row["loss"] < state.best_loss:
            state.best_loss = row["loss"]
            checkpoint.write_best(self.out, players, self.ema)

    def _save(self) -> None:
        """The checkpoint and the card, and the log as far as it belongs to them."""
        state, players = self.state, self.players
        state.seconds = self.before + self.clock.seconds
        record = {**asdict(state), "plan": asdict(self.plan)}
        if players.accelerator.is_main_process:
            self.stream.flush()
        checkpoint.write_last(self.out, players, self.ema, record)
        if players.accelerator.is_main_process:
            write_card(self.out, players.model, players.recipe, record)
        players.accelerator.wait_for_everyone()
        self.saved = perf_counter()

    def _tell(self, row: Mapping[str, Any]) -> None:
        accelerator = self.players.accelerator
        if accelerator.is_main_process:
            self.stream.write(as_line(dict(row)))
            self.stream.flush()
            tell(accelerator, row)

    def _anyone(self, *here: bool) -> list[bool]:
        """True for each question that any of the processes says yes to: their clocks differ, and signals reach one."""
        accelerator = self.players.accelerator
        if accelerator.num_processes == 1:
            return list(here)
        flags = torch.tensor([float(each) for each in here], device=accelerator.device)
        return (accelerator.reduce(flags, reduction="sum") > 0).tolist()


def _resumed(out: Path, players: Players, ema: Ema | None) -> State:
    """The state of the newest whole checkpoint, weights and optimisers put back; a new one where there is none."""
    folder = checkpoint.newest(out)
    return State() if folder is None else State.of(checkpoint.read_last(folder, players, ema))
