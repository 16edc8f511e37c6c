"""`raylift experiment`: a table or figure of a paper, run here."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import Device, clean, print_table, settings_of, tell

Box = tuple[float, float, float, float]


def experiment(
    name: Annotated[
        str | None, typer.Argument(help="Its name, a paper (ear, ...) or all; without one, a list.")
    ] = None,
    size: Annotated[str, typer.Option(help="smoke, small or paper.")] = "smoke",
    out: Annotated[Path, typer.Option("--out", "-o", help="Where data, runs and pages go.")] = Path("experiments"),
    clinical: Annotated[Path | None, typer.Option(help="A folder of real chest X-rays, for their figure.")] = None,
    roi: Annotated[Box, typer.Option(help="Crop box of a clinical X-ray: top left bottom right, 0 to 1.")] = (
        0,
        0,
        1,
        1,
    ),
    real: Annotated[
        Path | None, typer.Option(help="A data set of real CTs: its patients are left out one at a time.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="A data set in place of phantoms, as vertebra=FOLDER; may be repeated.")
    ] = None,
    device: Device = None,
) -> None:
    """Run a paper's table or figure on phantoms and write its page; what was done already is kept."""
    from raylift.experiments import EXPERIMENTS, chosen, run, run_on_patients, size_of

    if name is None:
        print_table(
            ["name", "paper", "what", "title"], [[e.name, e.paper, e.what, e.title] for e in EXPERIMENTS.values()]
        )
        raise typer.Exit
    given = {kind: Path(folder) for kind, folder in settings_of(data or []).items()}
    lacking = False
    for one in chosen(name):
        command = f"raylift experiment {one.name} --size {size}"
        more = {"device": device, "tell": tell}
        if real is not None:
            outcome = run_on_patients(one, size_of(size), out, real, command=f"{command} --real DATASET", **more)
        else:
            outcome = run(one, size_of(size), out, clinical=clinical, roi=roi, data=given, command=command, **more)
        print(f"{clean(outcome.folder)}: {clean(outcome.finding)}")
        for text in outcome.held:
            print(f"  {clean(text)}")
        lacking = lacking or bool(outcome.failed)
        for label in outcome.failed:
            print(f"  failed: {clean(label)}", file=sys.stderr)
    raise typer.Exit(1 if lacking else 0)
