"""`raylift phantom`: drawn CTs with exact truth."""

from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import bar, shown


def phantom(
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder: each torso gets one inside.")],
    number: Annotated[int, typer.Option("-n", help="How many.")] = 1,
    seed: Annotated[int, typer.Option(help="Where the lots begin.")] = 0,
    spacing: Annotated[float, typer.Option(help="A voxel's side, mm.")] = 2.5,
) -> None:
    """Draw randomised torsos: CTs that nobody was scanned for, with label maps and exact truth."""
    from raylift.data.phantom import save_phantoms

    with bar("drawing") as advance:
        done = iter(range(1, number + 1))
        save_phantoms(
            number, out, seed=seed, spacing=spacing, on_done=lambda folder: advance(next(done), number, folder.name)
        )
    print(f"{number} in {shown(out)}: ct.nii.gz, labels.nii.gz and truth.json each")
