"""`raylift compare`: models side by side on one data set."""

from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import (
    CHEST_WINDOW,
    AsJson,
    Device,
    Out,
    as_text,
    clean,
    print_table,
    settings_of,
    shown,
    tell,
)


def compare(
    models: Annotated[list[str], typer.Argument(help="Names (`raylift models`) to train, or folders of runs.")],
    data: Annotated[Path, typer.Option("--data", help="A data set that `raylift prepare` made.")],
    out: Out,
    split: Annotated[str, typer.Option(help="Which of its splits is judged.")] = "test",
    window: Annotated[tuple[float, float], typer.Option(help="HU, from and to.")] = CHEST_WINDOW,
    more: Annotated[
        list[str] | None, typer.Option("--metric", help="One more metric, as lpips; may be repeated.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Voxels a side of what is to be trained.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates of each training, instead of the recipes' epochs.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, for all that are to be trained; may be repeated.")
    ] = None,
    reference: Annotated[str, typer.Option(help="The row that the others are tested against.")] = "sart",
    shipped: Annotated[bool, typer.Option(help="Take the weights that ship for names that have them.")] = False,
    as_json: AsJson = False,
    device: Device = None,
) -> None:
    """Train or take models and judge them under one protocol, with and without consistency; resumable."""
    from raylift.compare import compare as put_side_by_side
    from raylift.compare import entrant
    from raylift.evaluate import COLUMNS
    from raylift.report.comparison import brief, write_comparison

    given = settings_of(settings or [])
    chosen = [entrant(name, given, shipped=shipped) for name in models]
    found = put_side_by_side(
        chosen,
        data,
        out,
        split=split,
        window=window,
        columns=tuple(dict.fromkeys([*COLUMNS, *(more or [])])),
        size=size,
        steps=steps,
        reference=reference,
        device=device,
        tell=tell,
    )
    write_comparison(found, out)
    if as_json:
        print(as_text(found.record()))
    else:
        print(clean(found.finding()))
        print_table(*brief(found))
        for row in found.rows:
            if row.scores is None:
                print(f"{clean(row.title)} failed: {clean(row.failure)}")
        print(clean(found.header()))
        print(f"every column, interval, p and run folder: {shown(out / 'table.html')}")
    lacking = any(row.scores is None or row.scores.failed for row in found.rows)
    raise typer.Exit(1 if lacking else 0)
