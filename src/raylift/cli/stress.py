"""`raylift stress`: how models stand what goes wrong in a clinic."""

from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import CHEST_WINDOW, AsJson, Device, Out, as_text, clean, print_table, settings_of, tell


def stress(
    models: Annotated[list[str], typer.Argument(help="Names (`raylift models`) or folders of runs.")],
    data: Annotated[Path, typer.Option("--data", help="A data set that `raylift prepare` made.")],
    out: Out,
    split: Annotated[str, typer.Option(help="Which of its splits is judged.")] = "test",
    window: Annotated[tuple[float, float], typer.Option(help="HU, from and to.")] = CHEST_WINDOW,
    fault: Annotated[list[str] | None, typer.Option(help="One fault alone, as angle; may be repeated.")] = None,
    cases: Annotated[int | None, typer.Option(help="The split's first so many cases.")] = None,
    other: Annotated[
        list[str] | None, typer.Option(help="A CT of other anatomy, as abdomen=FILE; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    as_json: AsJson = False,
    device: Device = None,
) -> None:
    """Judge models under faults of rising severity, with and without consistency: a table and a figure."""
    from raylift.report.stress import header, rows_of, write_stress
    from raylift.stress import FAULTS
    from raylift.stress import stress as put_under_stress

    found = put_under_stress(
        models,
        data,
        window=window,
        split=split,
        faults=tuple(fault or FAULTS),
        count=cases,
        others=settings_of(other or []),
        device=device,
        seed=seed,
        tell=tell,
    )
    write_stress(found, out)
    if as_json:
        print(as_text(found.record()))
    else:
        print_table(*rows_of(found))
        print(clean(header(found)))
    raise typer.Exit(1 if any(trial.failed for trial in found.trials) else 0)
