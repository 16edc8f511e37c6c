"""What a training tells while it runs: a line of JSON for each update and epoch, and a value for a progress bar."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from raylift.io.files import write_text


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training stands; `seconds_left` reckons with the time of validation and of writing too."""

    step: int
    steps: int
    epoch: int
    loss: float
    waited: float  # the share of the time spent waiting for cases, [0, 1]
    seconds_left: float | None  # None: too early to say


class Clock:
    """How long the steps of this process take, all that lies between them included."""

    def __init__(self, step: int):
        self.begun, self.first, self.waited = perf_counter(), step, 0.0
        self.warm: tuple[int, float] | None = None  # the first step is slower than the rest

    def after(self, step: int, waited: float) -> None:
        """Take the update that ended just now, the number `step` counted from 1, into account."""
        self.waited += waited
        if self.warm is None:
            self.warm = (step, perf_counter())

    @property
    def seconds(self) -> float:
        """Since this process began to train."""
        return perf_counter() - self.begun

    def left(self, step: int, steps: int) -> float | None:
        """Seconds until `steps`, at the pace since the first update."""
        if self.warm is None or step <= self.warm[0]:
            return None
        return (perf_counter() - self.warm[1]) / (step - self.warm[0]) * (steps - step)


def cut_log(path: Path, step: int) -> None:
    """Drop the lines after `step`, which a killed process wrote and this one writes anew."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] > step:
                break
        except (ValueError, KeyError, TypeError):
            break  # half a line: the kill came while it was written
        kept.append(line + "\n")
    write_text(path, "".join(kept))


def as_line(row: dict[str, Any]) -> str:
    """One line of the log; a value that is not finite is null."""
    return json.dumps({key: _finite(value) for key, value in row.items()}) + "\n"


def _finite(value: Any) -> Any:
    broken = isinstance(value, float) and (value != value or value in (float("inf"), -float("inf")))
    return None if broken else value


def read_log(folder: Path | str) -> list[dict[str, Any]]:
    """The log of a run, a row for each update (kind "step") and each epoch (kind "epoch")."""
    text = (Path(folder) / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@contextmanager
def progress_bar(title: str = "training") -> Iterator[Any]:
    """A bar on the terminal; what it gives is the `progress` that `train` takes."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    told = TextColumn("epoch {task.fields[epoch]}  loss {task.fields[loss]}  {task.fields[left]}")
    with Bar(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), told) as bar:
        task = bar.add_task(title, total=None, epoch=0, loss="-", left="")

        def show(now: Progress) -> None:
            left = f"{in_words(now.seconds_left)} left" if now.seconds_left is not None else ""
            if now.waited > 0.05:
                left += f"  {now.waited:.0%} of the time waiting for cases"
            bar.update(
                task, total=now.steps, completed=now.step, epoch=now.epoch + 1, loss=f"{now.loss:.4g}", left=left
            )

        yield show


def in_words(seconds: float) -> str:
    """A duration as a person says it.

    >>> in_words(5400), in_words(75), in_words(12)
    ('1 h 30 min', '1 min 15 s', '12 s')
    """
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"
