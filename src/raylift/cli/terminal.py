"""What the commands share: options of one meaning, and how results, tables and progress are shown."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from raylift.errors import BadInput

CHEST_WINDOW = (-1024.0, 1476.0)  # physics.CHEST_WINDOW, which is loaded with torch
Out = Annotated[Path, typer.Option("--out", "-o", help="Where the result goes.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; a GPU where there is one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def told(text: str, code: int) -> int:
    """`text` as one line on stderr; `code`."""
    print(f"error: {clean(text)}", file=sys.stderr)
    return code


def tell(text: str) -> None:
    """`text` as one line on stderr."""
    print(clean(text), file=sys.stderr)


def clean(text: object) -> str:
    """`text` on one line, with what a terminal would obey written out."""
    return "".join(c if c.isprintable() else " " if c == "\n" else repr(c)[1:-1] for c in str(text))


def shown(path: Path) -> str:
    """A path as a message may show it."""
    return clean(path)


def settings_of(texts: Sequence[str]) -> dict[str, str]:
    """`--set key=value` as a mapping."""
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise BadInput(f"--set {wrong[0]}: give it as key=value")
    return dict(text.split("=", 1) for text in texts)


def as_text(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, default=str)


def cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return clean(" ".join(map(str, value))) or "–"
    return clean(value)


def print_pairs(found: Mapping[str, Any]) -> None:
    """Names and values in two columns; the items of a list or mapping a line each."""
    width = max(len(key) for key in found)
    for key, value in found.items():
        if isinstance(value, Mapping):
            value = [f"{name}: {inner}" for name, inner in value.items()]
        lines = (
            value if isinstance(value, list) and any(isinstance(x, str) and " " in x for x in value) else [cell(value)]
        )
        for k, line in enumerate(lines or ["–"]):
            print(f"{key if k == 0 else '':<{width}}  {clean(line)}")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: no markup is read out of a file's name
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def busy(title: str):
    """A spinner on stderr while the block runs, where stderr is a terminal."""
    from rich.console import Console

    return Console(stderr=True).status(title)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr; what it gives takes how many are done, of how many, and the last one's name."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)

        def advance(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total)
            bar.console.print(Text(f"{done}/{total} {clean(name)}"))

        yield advance
