"""The command line: each command parses, calls one public function, and prints what came of it."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from raylift import DISCLAIMER, __version__
from raylift.cli import (
    assess,
    compare,
    drr,
    evaluate,
    experiment,
    info,
    models,
    phantom,
    prepare,
    reconstruct,
    segment,
    spine,
    stress,
    train,
)
from raylift.cli.terminal import clean, told
from raylift.errors import RayliftError

COMMANDS = (
    reconstruct.reconstruct,
    prepare.prepare,
    drr.drr,
    train.train,
    evaluate.evaluate,
    compare.compare,
    stress.stress,
    experiment.experiment,
    segment.segment,
    assess.assess,
    models.models,
    info.info,
    phantom.phantom,
    spine.spine,
)

app = typer.Typer(
    name="raylift",
    help=f"CT volumes from one X-ray or two. {DISCLAIMER}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> bool:
    if asked:
        print(f"raylift {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    pass


for command in COMMANDS:
    app.command()(command)


def reference() -> str:
    """Every command with its arguments and options, as Markdown; `docs/cli.md` holds it."""
    from typer.main import get_command

    group = get_command(app)
    lines = [
        "# The command line",
        "",
        "Written by `make golden` from the program itself; a test compares.",
        "",
        group.help,
    ]
    for name, command in group.commands.items():
        lines += ["", f"## raylift {name}", "", command.help, "", "| | | default |", "| --- | --- | --- |"]
        for part in command.params:
            if part.name == "help":
                continue
            option = part.opts[0].startswith("-")
            label = ", ".join([*part.opts, *part.secondary_opts]) if option else part.name.upper()
            default = "needed" if part.required else "" if part.default in (None, False) else str(part.default)
            lines.append(f"| `{label}` | {part.help or ''} | {default} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 some cases failed, 2 bad input, 3 the gate refused,
    4 not enough memory, 130 or 143 stopped by a signal.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        app(args=arguments, prog_name="raylift")
        return 0
    except SystemExit as stop:  # typer's own way out: help, a wrong option, `typer.Exit`
        return stop.code if isinstance(stop.code, int) else 0
    except RayliftError as error:
        return told(str(error), error.exit_code)
    except MemoryError:
        return told("not enough memory; a smaller model or file may fit", 4)
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        return 0
    except OSError as error:
        return told(f"{clean(Path(error.filename or '').name or 'a file')}: {error.strerror or error}", 2)
    except KeyboardInterrupt:
        return told("stopped", 130)
