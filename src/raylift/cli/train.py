"""`raylift train`: a data set in, a run's folder out; or, with --dry-run, the plan alone."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import Device, print_pairs, settings_of, shown
from raylift.errors import BadInput


def train(
    model: Annotated[str, typer.Argument(help="A name; `raylift models` lists them.")],
    data: Annotated[Path, typer.Option("--data", help="A data set that `raylift prepare` made.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run's folder.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of recipe or net, any number.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    steps: Annotated[int | None, typer.Option(help="So many updates in place of the recipe's epochs.")] = None,
    device: Device = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print sizes, memory and time; train nothing.")] = False,
    tracker: Annotated[list[str] | None, typer.Option(help="mlflow or wandb, beside log and TensorBoard.")] = None,
    skip_memory_check: Annotated[bool, typer.Option("--skip-memory-check", help="Try what will not fit.")] = False,
) -> None:
    """Train a model on a data set; the run's folder holds recipe, log, weights and card."""
    from raylift import models
    from raylift import train as training

    chosen = models.get(model).with_settings(settings_of(settings or []))
    if chosen.recipe is None:
        raise BadInput(f"{chosen.name} has nothing to train; give it to `raylift reconstruct --model {chosen.name}`")
    if dry_run:
        print_pairs(training.rehearse(chosen, chosen.recipe, data, steps=steps, device=device).rows())
        return
    if out is None:
        raise BadInput("name the run's folder by --out, or print the plan by --dry-run")
    speaks = training.is_first()
    with training.progress_bar(f"training {chosen.name}") if speaks else nullcontext() as progress:
        run = training.train(
            chosen,
            chosen.recipe,
            data,
            out,
            resume=resume,
            steps=steps,
            device=device,
            progress=progress,
            trackers=tracker or (),
            memory_check=not skip_memory_check,
        )
    if not speaks:
        return
    best = f", lowest loss {run.best_loss:.5g}" if run.best_loss is not None else ""
    print(f"{run.step} of {run.steps} updates{best}: {shown(run.folder)}")
    if not run.finished:
        print("stopped before its end; the same command with --resume goes on")
