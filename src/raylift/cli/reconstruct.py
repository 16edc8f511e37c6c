"""`raylift reconstruct`: X-rays in, a CT and its report out."""

from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import Device, busy, shown


def reconstruct(
    pa: Annotated[Path, typer.Argument(help="The frontal X-ray: DICOM, PNG, TIFF, JPEG or .npy.")],
    lateral: Annotated[Path | None, typer.Argument(help="The lateral one.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for CT, preview, report, manifest.")] = ...,
    model: Annotated[str | None, typer.Option(help="A name (`raylift models`) or a run's folder.")] = None,
    refine: Annotated[
        bool | None,
        typer.Option("--refine/--no-refine", help="Agree with the X-rays; on where geometry and scale are known."),
    ] = None,
    bone: Annotated[
        bool | None,
        typer.Option("--bone/--no-bone", help="Separate the skeleton first; on where the model learnt from skeletons."),
    ] = None,
    spacing: Annotated[float | None, typer.Option(help="A pixel's size at the detector, mm.")] = None,
    geometry: Annotated[Path | None, typer.Option(help="A geometry.json; it wins over the files' tags.")] = None,
    lateral_faces: Annotated[str | None, typer.Option(help="left or right, where the file does not say.")] = None,
    output_type: Annotated[str, typer.Option(help="nifti, nrrd, mha or dicom.")] = "nifti",
    truth: Annotated[Path | None, typer.Option(help="The true CT, to compare with.")] = None,
    device: Device = None,
) -> None:
    """Make a CT of one X-ray or two."""
    from raylift.report import reconstruct_to, tables

    with busy("reconstructing"):
        result = reconstruct_to(
            out,
            pa,
            lateral,
            model=model,
            refine=refine,
            bone=bone,
            spacing=spacing,
            geometry=geometry,
            lateral_faces=lateral_faces,
            output_type=output_type,
            truth=truth,
            device=device,
        )
    for line in tables.summary_lines(result.manifest):
        print(line)
    print(f"CT and report: {shown(out)} (open {shown(out / 'report.html')})")
