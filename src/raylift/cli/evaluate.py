"""`raylift evaluate`: a model's scores on a split."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import CHEST_WINDOW, AsJson, Device, as_text, bar, clean, print_table


def evaluate(
    model: Annotated[str, typer.Argument(help="A name (`raylift models`) or a run's folder.")],
    data: Annotated[Path, typer.Option("--data", help="A data set that `raylift prepare` made.")],
    split: Annotated[str, typer.Option(help="Which of its splits.")] = "test",
    window: Annotated[tuple[float, float], typer.Option(help="HU, from and to.")] = CHEST_WINDOW,
    refine: Annotated[
        bool | None, typer.Option("--refine/--no-refine", help="Agree with the X-rays; on where rays are complete.")
    ] = None,
    more: Annotated[list[str] | None, typer.Option("--metric", help="One more, as lpips; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A folder for scores.json and scores.csv.")] = None,
    as_json: AsJson = False,
    device: Device = None,
) -> None:
    """Judge a model on a data set's split: each case, mean, SD and interval."""
    from raylift.evaluate import COLUMNS
    from raylift.evaluate import evaluate as judge

    columns = tuple(dict.fromkeys([*COLUMNS, *(more or [])]))
    with bar("evaluating") as advance:
        scores = judge(
            model, data, split=split, window=window, refine=refine, device=device, columns=columns, progress=advance
        )
    if out is not None:
        scores.write(out)
    if as_json:
        print(as_text(scores.record()))
    else:
        print(clean(scores.header()))
        print_table(*scores.table())
    for case, reason in scores.failed.items():
        print(f"failed: {clean(case)}: {clean(reason)}", file=sys.stderr)
    raise typer.Exit(1 if scores.failed else 0)
