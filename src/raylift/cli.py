"""The command line: each command parses, calls one public function, and prints what came of it."""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from raylift import DISCLAIMER, __version__
from raylift.errors import BadInput, RayliftError

app = typer.Typer(
    name="raylift",
    help=f"CT volumes from one X-ray or two. {DISCLAIMER}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

CHEST_WINDOW = (-1024.0, 1476.0)  # physics.CHEST_WINDOW, which is loaded with torch
Out = Annotated[Path, typer.Option("--out", "-o", help="Where the result goes.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; a GPU where there is one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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


@app.command()
def reconstruct(
    pa: Annotated[Path, typer.Argument(help="The frontal X-ray: DICOM, PNG, TIFF, JPEG or .npy.")],
    lateral: Annotated[Path | None, typer.Argument(help="The lateral one.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for CT, preview, report, manifest.")] = ...,
    model: Annotated[str | None, typer.Option(help="A name (`raylift models`) or a run's folder.")] = None,
    refine: Annotated[
        bool | None,
        typer.Option("--refine/--no-refine", help="Agree with the X-rays; on where geometry and scale are known."),
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

    with _busy("reconstructing"):
        result = reconstruct_to(
            out,
            pa,
            lateral,
            model=model,
            refine=refine,
            spacing=spacing,
            geometry=geometry,
            lateral_faces=lateral_faces,
            output_type=output_type,
            truth=truth,
            device=device,
        )
    for line in tables.summary_lines(result.manifest):
        print(line)
    print(f"CT and report: {_shown(out)} (open {_shown(out / 'report.html')})")


@app.command()
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

    with _bar("preparing") as advance:
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
            print(f"{title}: {_clean(name)}: {_clean(reason)}", file=sys.stderr)
    print(
        f"{len(report.prepared)} cases prepared ({len(report.kept)} already done), {len(report.rejected)} not taken, "
        f"{len(report.failed)} failed: {_shown(out)}"
    )
    raise typer.Exit(1 if report.failed or not report.prepared else 0)


@app.command()
def drr(
    ct: Annotated[Path, typer.Argument(help="A CT: NIfTI, NRRD, MHA or a DICOM folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for <view>.dcm, .png, .npy and geometry.json.")],
    views: Annotated[list[str] | None, typer.Option("--view", help="PA, AP, LAT, RLAT; any number.")] = None,
    preset: Annotated[
        str, typer.Option(help="Where source and panel stand: chest, chest-224, x2ct, xctnet-paper, xctnet-code, ear.")
    ] = "chest",
    pixels: Annotated[int | None, typer.Option(help="Pixels a side of the panel.")] = None,
    keep_table: Annotated[bool, typer.Option("--keep-table", help="Leave the scanner's table in.")] = False,
    spectrum: Annotated[
        str | None, typer.Option(help="Tube and filter, such as 120KV_AL43; without it line integrals at 60 keV.")
    ] = None,
    photons: Annotated[float | None, typer.Option(help="Quantum noise of so many photons a pixel in air.")] = None,
    scatter: Annotated[float | None, typer.Option(help="Scatter to primary behind a slab of 1/e; 0.1: a grid.")] = None,
    detector: Annotated[str | None, typer.Option(help="energy, photon or csi.")] = None,
    focal_spot: Annotated[float | None, typer.Option(help="The focal spot's side, mm.")] = None,
    blur: Annotated[float | None, typer.Option(help="The panel's own blur, full width at half maximum, mm.")] = None,
    field: Annotated[tuple[float, float] | None, typer.Option(help="Height and width left open, mm.")] = None,
    metal: Annotated[str | None, typer.Option(help="titanium or steel: what is above 3000 HU; else bone.")] = None,
    transition: Annotated[float | None, typer.Option(help="Mix tissues over so many HU at their thresholds.")] = None,
    values: Annotated[
        str | None, typer.Option(help="With these: intensity, or line_integral, which is estimated from it.")
    ] = None,
    jitter_source: Annotated[float, typer.Option(help="Move the source at random by up to so many mm.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of noise and jitter.")] = 0,
) -> None:
    """Make X-rays of a CT, as files that say by themselves how they were taken."""
    from raylift.data.drr import make_drr
    from raylift.data.exposure import exposure_of

    exposure = exposure_of(
        preset,
        spectrum=spectrum,
        photons=photons,
        scatter=scatter,
        detector=detector,
        focal_spot_mm=focal_spot,
        blur_mm=blur,
        field_mm=field,
        metal=metal,
        transition_hu=transition,
        values=values,
    )
    with _busy("projecting"):
        xrays = make_drr(
            ct,
            out,
            views=views or ("PA", "LAT"),
            preset=preset,
            pixels=pixels,
            keep_table=keep_table,
            exposure=exposure,
            jitter_source_mm=jitter_source,
            seed=seed,
        )
    kind = {"intensity": "intensities, 1 in air", "line_integral": "line integrals"}[xrays[0].values]
    print(f"{', '.join(xray.view for xray in xrays)} ({kind}) and geometry.json: {_shown(out)}")


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="A name; `raylift models` lists them.")],
    data: Annotated[Path, typer.Option("--data", help="A data set that `raylift prepare` made.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of recipe or net, any number.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    steps: Annotated[int | None, typer.Option(help="So many updates in place of the recipe's epochs.")] = None,
    device: Device = None,
) -> None:
    """Train a model on a data set; the run's folder holds recipe, log, weights and card."""
    from raylift import models
    from raylift import train as training

    chosen = models.get(model).with_settings(_settings(settings or []))
    if chosen.recipe is None:
        raise BadInput(f"{chosen.name} has nothing to train; give it to `raylift reconstruct --model {chosen.name}`")
    with training.progress_bar(f"training {chosen.name}") as progress:
        run = training.train(
            chosen, chosen.recipe, data, out, resume=resume, steps=steps, device=device, progress=progress
        )
    best = f", lowest loss {run.best_loss:.5g}" if run.best_loss is not None else ""
    print(f"{run.step} of {run.steps} updates{best}: {_shown(run.folder)}")
    if not run.finished:
        print("stopped before its end; the same command with --resume goes on")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A name (`raylift models`) or a run's folder.")],
    data: Annotated[Path, typer.Option("--data", help="A data set that `raylift prepare` made.")],
    split: Annotated[str, typer.Option(help="Which of its splits.")] = "test",
    window: Annotated[tuple[float, float], typer.Option(help="HU, from and to.")] = CHEST_WINDOW,
    refine: Annotated[
        bool | None, typer.Option("--refine/--no-refine", help="Agree with the X-rays; on where rays are complete.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A folder for scores.json and scores.csv.")] = None,
    as_json: AsJson = False,
    device: Device = None,
) -> None:
    """Judge a model on a data set's split: each case, mean, SD and interval."""
    from raylift.evaluate import evaluate as judge

    with _bar("evaluating") as advance:
        scores = judge(model, data, split=split, window=window, refine=refine, device=device, progress=advance)
    if out is not None:
        scores.write(out)
    if as_json:
        print(_json(scores.record()))
    else:
        print(_clean(scores.header()))
        _print_table(*scores.table())
    for case, reason in scores.failed.items():
        print(f"failed: {_clean(case)}: {_clean(reason)}", file=sys.stderr)
    raise typer.Exit(1 if scores.failed else 0)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="One model, in detail.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the models: paper, views, size, cost, weights."""
    from raylift.report import catalogue

    rows = catalogue.model_rows(name)
    if as_json:
        print(_json(rows if name is None else rows[0]))
        return
    head = {"name": "name", "views": "views", "size": "side", "parameters": "parameters", "gmac": "GMAC"}
    head |= {"weights": "weights ship", "paper": "paper"}
    _print_table(list(head.values()), [[_cell(row[key]) for key in head] for row in rows])
    if name is not None:
        print(catalogue.model_page(name))


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="A CT, an X-ray, geometry.json, a data set or a run.")],
    as_json: AsJson = False,
) -> None:
    """Say what a file is: kind, size, spacing, orientation, geometry."""
    from raylift.report import catalogue

    found = catalogue.describe(file)
    print(_json(found)) if as_json else _print_pairs(found)


@app.command()
def phantom(
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder: each torso gets one inside.")],
    number: Annotated[int, typer.Option("-n", help="How many.")] = 1,
    seed: Annotated[int, typer.Option(help="Where the lots begin.")] = 0,
    spacing: Annotated[float, typer.Option(help="A voxel's side, mm.")] = 2.5,
) -> None:
    """Draw randomised torsos: CTs that nobody was scanned for, with label maps and exact truth."""
    from raylift.data.phantom import save_phantoms

    with _bar("drawing") as advance:
        done = iter(range(1, number + 1))
        save_phantoms(
            number, out, seed=seed, spacing=spacing, on_done=lambda folder: advance(next(done), number, folder.name)
        )
    print(f"{number} in {_shown(out)}: ct.nii.gz, labels.nii.gz and truth.json each")


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
    4 not enough memory.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        app(args=arguments, prog_name="raylift")
        return 0
    except SystemExit as stop:  # typer's own way out: help, a wrong option, `typer.Exit`
        return stop.code if isinstance(stop.code, int) else 0
    except RayliftError as error:
        return _told(str(error), error.exit_code)
    except MemoryError:
        return _told("not enough memory; a smaller model or file may fit", 4)
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        return 0
    except OSError as error:
        return _told(f"{_clean(Path(error.filename or '').name or 'a file')}: {error.strerror or error}", 2)
    except KeyboardInterrupt:
        return _told("stopped", 130)


def _told(text: str, code: int) -> int:
    """`text` as one line on stderr; `code`."""
    print(f"error: {_clean(text)}", file=sys.stderr)
    return code


def _clean(text: object) -> str:
    """`text` on one line, with what a terminal would obey written out."""
    return "".join(c if c.isprintable() else " " if c == "\n" else repr(c)[1:-1] for c in str(text))


def _shown(path: Path) -> str:
    """A path as a message may show it."""
    return _clean(path)


def _settings(texts: Sequence[str]) -> dict[str, str]:
    """`--set key=value` as a mapping."""
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise BadInput(f"--set {wrong[0]}: give it as key=value")
    return dict(text.split("=", 1) for text in texts)


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, default=str)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return _clean(" ".join(map(str, value))) or "–"
    return _clean(value)


def _print_pairs(found: Mapping[str, Any]) -> None:
    """Names and values in two columns; the items of a list or mapping a line each."""
    width = max(len(key) for key in found)
    for key, value in found.items():
        if isinstance(value, Mapping):
            value = [f"{name}: {inner}" for name, inner in value.items()]
        lines = (
            value if isinstance(value, list) and any(isinstance(x, str) and " " in x for x in value) else [_cell(value)]
        )
        for k, line in enumerate(lines or ["–"]):
            print(f"{key if k == 0 else '':<{width}}  {_clean(line)}")


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: no markup is read out of a file's name
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _busy(title: str):
    """A spinner on stderr while the block runs, where stderr is a terminal."""
    from rich.console import Console

    return Console(stderr=True).status(title)


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr; what it gives takes how many are done, of how many, and the last one's name."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)

        def advance(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total)
            bar.console.print(Text(f"{done}/{total} {_clean(name)}"))

        yield advance


if __name__ == "__main__":
    sys.exit(main())
