"""`raylift segment`: body, airway, lungs and air beside them as a label map."""

from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import busy, shown


def segment(
    ct: Annotated[Path, typer.Argument(help="A CT, or the folder that `raylift reconstruct` made.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for labels.nii.gz and segment.json.")],
    thresholds: Annotated[
        str | None, typer.Option(help="absolute, or relative: found in the volume, as for a reconstruction.")
    ] = None,
) -> None:
    """Find body, airway, lungs and pneumothorax in a CT, by rules alone."""
    from raylift.report.assess import segment_to, summary_lines

    with busy("segmenting"):
        record = segment_to(out, ct, thresholds=thresholds)
    for line in summary_lines(record):
        print(line)
    print(f"label map: {shown(out / 'labels.nii.gz')}")
