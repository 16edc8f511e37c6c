"""`raylift prepare`: CTs in, a data set out."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import Out, bar, clean, shown


def prepare(
    cts: Annotated[list[Path], typer.Argument(help="CT files, DICOM folders, or folders of them.")],
    out: Out,
    profile: Annotated[str, typer.Option(help="What kind of data set.")] = "chest",
    preset: Annotated[str | None, typer.Option(help="Another X-ray geometry than the profile's, such as x2ct.")] = None,
    patients: Annotated[Path | None, typer.Option(help="A CSV file: which CTs are of one patient.")] = None,
    allow_short: Annotated[bool, typer.Option("--allow-short", help="Pad CTs that do not fill the cube.")] = False,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
) -> None:
    """Make a data set of CTs: cubes, their X-rays, splits by patient."""
    from raylift.data.prepare import prepare as prepare_cts

    with bar("preparing") as advance:
        report = prepare_cts(
            cts,
            out,
            profile=profile,
            preset=preset,
            patients=patients,
            allow_short=allow_short,
            jobs=jobs,
            seed=seed,
            progress=lambda now: advance(now.done, now.total, now.source),
        )
    for title, faults in (("not taken", report.rejected), ("failed", report.failed)):
        for name, reason in faults:
            print(f"{title}: {clean(name)}: {clean(reason)}", file=sys.stderr)
    print(
        f"{len(report.prepared)} cases prepared ({len(report.kept)} already done), {len(report.rejected)} not taken, "
        f"{len(report.failed)} failed: {shown(out)}"
    )
    raise typer.Exit(1 if report.failed or not report.prepared else 0)
