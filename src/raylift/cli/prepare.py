"""`raylift prepare`: CTs in, a data set out."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import Out, clean, shown
from raylift.errors import BadInput


def prepare(
    cts: Annotated[list[Path], typer.Argument(help="CT files, DICOM folders, or folders of them, in any layout.")],
    out: Out,
    profile: Annotated[str, typer.Option(help="What kind of data set.")] = "chest",
    preset: Annotated[str | None, typer.Option(help="Another X-ray geometry than the profile's, such as x2ct.")] = None,
    rays: Annotated[str | None, typer.Option(help="X-rays of the whole patient, of what is kept, or cube.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Where the automatic gamma puts a net's mean grey.")] = None,
    angle: Annotated[float | None, typer.Option(help="Degrees between the two views.")] = None,
    poses: Annotated[int | None, typer.Option(help="Further pairs of X-rays a case.")] = None,
    between: Annotated[tuple[float, float] | None, typer.Option(help="Degrees that their angles lie between.")] = None,
    floor: Annotated[float | None, typer.Option(help="In X-rays what lies below so many HU adds nothing.")] = None,
    patients: Annotated[Path | None, typer.Option(help="A CSV file: path, patient, split, and more columns.")] = None,
    allow_short: Annotated[bool, typer.Option("--allow-short", help="Pad CTs that do not fill the cube.")] = False,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="A Dask scheduler, tcp://host:port, in place of --jobs.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    ratios: Annotated[
        tuple[float, float, float], typer.Option(help="Shares of the patients in train, val and test.")
    ] = (0.8, 0.1, 0.1),
    stratify: Annotated[str | None, typer.Option(help="A column of the patients' table to keep in proportion.")] = None,
    fold: Annotated[str | None, typer.Option(help="k/n: part k (from 0) of n is test, the next one val.")] = None,
    split_file: Annotated[Path | None, typer.Option(help="JSON or CSV that says who is in which split.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress; errors and the last line only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Progress and report as one JSON object a line.")] = False,
) -> None:
    """Make a data set of CTs: cubes, their X-rays, splits by patient."""
    from raylift.data.prepare import Splitting
    from raylift.data.prepare import prepare as prepare_cts

    making = dict(rays=rays, gamma=gamma, angle_deg=angle, poses=poses, between_deg=between, floor_hu=floor)
    with _progress(quiet, as_json) as told:
        report = prepare_cts(
            cts,
            out,
            profile=profile,
            preset=preset,
            patients=patients,
            allow_short=allow_short,
            jobs=jobs,
            scheduler=scheduler,
            ratios=ratios,
            splitting=Splitting(ratios=ratios, seed=seed, stratify=stratify, fold=_fold(fold), listed=split_file),
            progress=told,
            **{name: value for name, value in making.items() if value is not None},
        )
    if as_json:
        print(json.dumps({"event": "done", **asdict(report)}))
    else:
        _print_report(report, out, quiet)
    raise typer.Exit(1 if report.failed or not report.prepared else 0)


def _fold(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    k, _, n = text.partition("/")
    if not (k.isdecimal() and n.isdecimal()):
        raise BadInput(f"--fold {text}: give it as k/n, such as 0/5")
    return int(k), int(n)


def _print_report(report, out: Path, quiet: bool) -> None:
    lines = [("not taken", report.rejected), ("failed", report.failed)] + ([] if quiet else [("noted", report.noted)])
    for title, faults in lines:
        for name, reason in faults:
            print(f"{title}: {clean(name)}: {clean(reason)}", file=sys.stderr)
    print(
        f"{len(report.prepared)} cases prepared ({len(report.kept)} already done), {len(report.rejected)} not taken, "
        f"{len(report.failed)} failed: {shown(out)}"
    )


@contextmanager
def _progress(quiet: bool, as_json: bool) -> Iterator[Callable | None]:
    """What hears of each source: nobody, a line of JSON on stdout, or a bar with rate, time left and rejections."""
    if as_json or quiet:
        yield _print_json if as_json else None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.text import Text

    words = "{task.fields[rate]:.1f} a minute, {task.fields[left]} left, {task.fields[lost]} not taken"
    columns = (TextColumn("preparing"), BarColumn(), MofNCompleteColumn(), TextColumn(words))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None, rate=0.0, left="?", lost=0)

        def told(now) -> None:
            lost = now.rejected + now.failed
            left = _clock(now.seconds_left)
            bar.update(task, completed=now.done, total=now.total, rate=now.a_minute, left=left, lost=lost)
            rate = f"{now.a_minute:.1f} a minute, {left} left, {lost} not taken"
            bar.console.print(Text(f"{now.done}/{now.total} {clean(now.source)} ({rate})"))

        yield told


def _print_json(now) -> None:
    rate = {"a_minute": round(now.a_minute, 3), "seconds_left": round(now.seconds_left, 1)}
    print(json.dumps({"event": "progress", **asdict(now), **rate}), flush=True)


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
