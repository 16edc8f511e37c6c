"""`raylift models`: what there is, and what it costs."""

from typing import Annotated

import typer

from raylift.cli.terminal import AsJson, as_text, cell, print_table


def models(
    name: Annotated[str | None, typer.Argument(help="One model, in detail.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the models: paper, views, size, cost, weights."""
    from raylift.report import catalogue

    rows = catalogue.model_rows(name)
    if as_json:
        print(as_text(rows if name is None else rows[0]))
        return
    head = {"name": "name", "views": "views", "size": "side", "parameters": "parameters", "gmac": "GMAC"}
    head |= {"weights": "weights ship", "paper": "paper"}
    print_table(list(head.values()), [[cell(row[key]) for key in head] for row in rows])
    if name is not None:
        print(catalogue.model_page(name))
