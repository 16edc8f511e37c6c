"""`raylift phantom`: drawn CTs with exact truth."""

from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import bar, shown
from raylift.errors import BadInput

SPINE_OPTIONS = ("cobb_deg", "kyphosis_deg", "lordosis_deg")


def phantom(
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder: each phantom gets one inside.")],
    number: Annotated[int, typer.Option("-n", help="How many.")] = 1,
    kind: Annotated[str, typer.Option(help="torso, pneumothorax, vertebra or spine.")] = "torso",
    seed: Annotated[int, typer.Option(help="Where the lots begin.")] = 0,
    spacing: Annotated[float | None, typer.Option(help="A voxel's side, mm; else what suits the kind.")] = None,
    cobb: Annotated[float | None, typer.Option(help="Of a spine: the curve's Cobb angle, degrees.")] = None,
    kyphosis: Annotated[float | None, typer.Option(help="Of a spine: from T4 to T12, degrees.")] = None,
    lordosis: Annotated[float | None, typer.Option(help="Of a spine: from L1 to L5, degrees.")] = None,
    level: Annotated[str | None, typer.Option(help="Of a vertebra: which, T1 to L5.")] = None,
) -> None:
    """Draw phantoms: CTs that nobody was scanned for, with label maps and exact truth."""
    from raylift.data.phantom import save_phantoms

    options = dict(zip(SPINE_OPTIONS, (cobb, kyphosis, lordosis), strict=True)) if kind == "spine" else {}
    if kind != "spine" and any(angle is not None for angle in (cobb, kyphosis, lordosis)):
        raise BadInput(f"a {kind} has no stated Cobb angle, kyphosis or lordosis; give --kind spine")
    if level is not None and kind != "vertebra":
        raise BadInput(f"--level says which vertebra; a {kind} has none to choose; give --kind vertebra")
    options = {name: value for name, value in {**options, "level": level}.items() if value is not None}
    with bar("drawing") as advance:
        done = iter(range(1, number + 1))
        save_phantoms(
            number,
            out,
            kind=kind,
            seed=seed,
            spacing=spacing,
            on_done=lambda folder: advance(next(done), number, folder.name),
            **options,
        )
    print(f"{number} in {shown(out)}: ct.nii.gz, labels.nii.gz and truth.json each")
