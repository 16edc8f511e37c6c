"""What the benchmarks share: reduced copies, a synthetic batch, seconds and peak memory, and the file of all results.

`python bench/measure.py` prints the machine's line, as every table names it.
"""

import csv
import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

import raylift
from raylift import models
from raylift.compare.cost import peak_mib as peak_mib_on
from raylift.compare.cost import seconds_of as seconds_on
from raylift.data.store import Batch
from raylift.errors import BadInput
from raylift.geometry import preset_beam
from raylift.models.spec import Model
from raylift.physics import MU_WATER
from raylift.projector import project
from raylift.reconstruct import device_of
from raylift.types import Grid

HISTORY = Path(__file__).with_name("history.csv")
COLUMNS = ("date", "version", "machine", "cores", "model", "size", "setting", "seconds", "MiB")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last_3d}
PRECISIONS = {"float32": "no", "bf16": "bf16"}  # the recipe's words


def processor() -> str:
    """The processor's name, or the GPU's where torch sees one."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    except OSError:
        named = None
    return named.group(1) if named else platform.processor() or platform.machine()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Where the numbers come from, in one line."""
    return (
        f"raylift {raylift.__version__}, torch {torch.__version__}, {processor()}, {cores()} cores, "
        f"{torch.get_num_threads()} threads"
    )


def systems(every: bool) -> list[Model]:
    """The first model of each file, or every variant."""
    if every:
        return list(models.MODELS.values())
    return [file.MODELS[0] if hasattr(file, "MODELS") else file.MODEL for file in models.FILES]


def reduced(model: Model, size: int, settings: Sequence[str] = ()) -> Model:
    """`model` with the options of its tiny copy at `size` voxels a side, and `key=value` of the net on top."""
    small = replace(model, options={**model.options, **model.tiny}, size=model.tiny_size)
    small = replace(small, spacing=model.tiny.get("spacing", model.spacing * model.size / model.tiny_size))
    if model.discriminator is not None:
        options = {**model.discriminator_options, **model.tiny_discriminator}
        small = replace(small, discriminator_options=options)
    return small.with_settings({"net.size": str(size), **pairs(settings)})


def pairs(settings: Sequence[str]) -> dict[str, str]:
    """`key=value` texts as a mapping."""
    wrong = [text for text in settings if "=" not in text]
    if wrong:
        raise BadInput(f"--set {wrong[0]}: write key=value")
    return dict(text.split("=", 1) for text in settings)


def ball(model: Model, count: int = 1) -> Batch:
    """`count` times a ball of noisy water in air, with its own X-rays; the values do not matter, the shapes do."""
    n = model.size
    cube = Grid.canonical((n,) * 3, 320 / n)  # the chest cube, whatever the model's: its beams fit it
    axis = torch.linspace(-1, 1, n)
    inside = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < 0.7
    noise = torch.rand((n, n, n), generator=torch.Generator().manual_seed(0))
    beams = tuple(preset_beam(view, pixels=n) for view in model.views)
    xrays = project(inside * noise * MU_WATER * 2, cube, beams)
    hu = torch.where(inside, 2000 * noise - 1000, torch.tensor(-1000.0))
    return Batch(
        xrays=xrays.expand(count, -1, -1, -1).contiguous(),
        hu=hu.expand(count, 1, -1, -1, -1).contiguous(),
        valid=None,
        beams=(beams,) * count,
        ids=tuple(f"ball-{k}" for k in range(count)),
    )


def lay_out(tensors: Iterable[torch.Tensor], layout: str) -> None:
    """Put what has five dimensions among `tensors` into the layout, in place."""
    for tensor in tensors:
        if tensor.ndim == 5:
            tensor.data = tensor.data.contiguous(memory_format=LAYOUTS[layout])


def tensors_of(net: nn.Module | None, optimiser: torch.optim.Optimizer | None = None) -> list[torch.Tensor]:
    """Weights, buffers, and what the optimiser keeps."""
    held = [] if net is None else [*net.parameters(), *net.buffers()]
    states = [] if optimiser is None else optimiser.state.values()
    return held + [t for state in states for t in state.values() if isinstance(t, torch.Tensor)]


def mib(tensors: Iterable[torch.Tensor]) -> float:
    """What `tensors` take, MiB."""
    return sum(t.numel() * t.element_size() for t in tensors) / 2**20


def seconds_of(work: Callable[[], Any]) -> float:
    """How long `work` takes, the GPU's part included."""
    return seconds_on(work, device_of(None))


def peak_mib(work: Callable[[], Any]) -> float | None:
    """What `work` takes at its highest above what was held before, MiB; None where the system does not tell."""
    return peak_mib_on(work, device_of(None))


def interleaved(
    jobs: Mapping[str, Callable[[], Any]], rounds: int, before: Callable[[str], None] | None = None
) -> dict[str, list[float]]:
    """Seconds of each job in each round, the jobs in turn within a round; `before(name)` is not counted."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            if before is not None:
                before(name)
            times[name].append(seconds_of(job))
    return times


def ratio(times: Mapping[str, Sequence[float]], plain: str, name: str) -> float:
    """How many times faster `name` is than `plain`: the median of each round's ratio."""
    return median(a / b for a, b in zip(times[plain], times[name], strict=True))


def append(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Add rows of (model, size, setting, seconds, MiB) to the file of all results, which is begun if there is none."""
    about = (date.today().isoformat(), raylift.__version__, processor(), cores())
    fresh = not path.is_file()
    with open(path, "a", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        if fresh:
            table.writerow(COLUMNS)
        for model, size, setting, seconds, memory in rows:
            table.writerow((*about, model, size, setting, f"{seconds:.4g}", "" if memory is None else f"{memory:.0f}"))


def cell(memory: float | None) -> str:
    """Memory for a table; a dash where it is not known."""
    return "–" if memory is None else f"{memory:.0f}"


def print_row(cells: Sequence[Any]) -> None:
    """One line of a Markdown table, at once."""
    print("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |", flush=True)


def print_head(cells: Sequence[Any]) -> None:
    """A Markdown table's first two lines."""
    print_row(cells)
    print_row(["---"] * len(cells))


if __name__ == "__main__":
    print(machine())
