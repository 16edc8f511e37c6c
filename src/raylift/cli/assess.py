"""`raylift assess`: lungs, pneumothorax and spine of a CT, beside the true ones, or lungs over a data set."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import Device, bar, busy, clean, shown
from raylift.errors import BadInput


def assess(
    ct: Annotated[Path, typer.Argument(help="A CT, a folder of `raylift reconstruct`, or with --model a data set.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for assess.html, assess.json, label maps.")],
    truth: Annotated[Path | None, typer.Option(help="The true CT, assessed beside it.")] = None,
    thresholds: Annotated[
        str | None, typer.Option(help="absolute or relative; relative where a reconstruction is among them.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A study: what this model or run makes of the data set.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Vertebrae of the CT, of the true one for a reconstruction: shows the spine.")
    ] = None,
    numbering: Annotated[str | None, typer.Option(help="Of the label map: verse, ctspine1k, totalsegmentator.")] = None,
    structures: Annotated[Path | None, typer.Option(help="A CSV that says which number is which structure.")] = None,
    lowest: Annotated[
        str | None, typer.Option(help="Without a label map: find the vertebrae by bone, the lowest is this.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of a study: which of the data set's splits.")] = "test",
    device: Device = None,
) -> None:
    """Measure lungs, pneumothorax and spine in a CT; with --model over a data set, found against true."""
    if model is not None:
        if truth is not None:
            raise BadInput("a study has its truth in the data set; leave --truth out")
        if labels is not None or lowest is not None:
            raise BadInput("a study measures lungs; leave --labels and --lowest out")
        _study(ct, out, model, split, thresholds or "relative", device)
        return
    from raylift.report.assess import assess_to, summary_lines

    with busy("assessing"):
        known = {"labels": labels, "numbering": numbering, "structures": structures, "lowest": lowest}
        found = assess_to(out, ct, truth=truth, thresholds=thresholds, **known)
    for line in summary_lines(found.record):
        print(line)
    print(f"page and label maps: {shown(out)} (open {shown(out / 'assess.html')})")


def _study(data: Path, out: Path, model: str, split: str, thresholds: str, device: str | None) -> None:
    from raylift.assess import study
    from raylift.report.assess import study_lines, write_study

    with bar("assessing") as advance:
        found = study(model, data, split=split, thresholds=thresholds, device=device, progress=advance)
    for line in study_lines(write_study(found, out)):
        print(line)
    print(f"page and figures: {shown(out)} (open {shown(out / 'assess.html')})")
    for case, reason in found.failed.items():
        print(f"failed: {clean(case)}: {clean(reason)}", file=sys.stderr)
    raise typer.Exit(1 if found.failed else 0)
