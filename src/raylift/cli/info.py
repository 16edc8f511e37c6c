"""`raylift info`: what a file is."""

from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import AsJson, as_text, print_pairs


def info(
    file: Annotated[Path, typer.Argument(help="A CT, an X-ray, geometry.json, a data set or a run.")],
    as_json: AsJson = False,
) -> None:
    """Say what a file is: kind, size, spacing, orientation, geometry."""
    from raylift.report import catalogue

    found = catalogue.describe(file)
    print(as_text(found)) if as_json else print_pairs(found)
