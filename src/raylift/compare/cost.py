"""What one volume costs: seconds and memory, measured here, parameters and operations, counted."""

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import nn

from raylift.data import store
from raylift.data.store import Case
from raylift.estimate import infer
from raylift.models.counts import counts
from raylift.models.spec import Model

ROUNDS = 3  # ours


def cost(model: Model, net: nn.Module, case: Case, *, device: torch.device) -> dict[str, float | int | None]:
    """Parameters, `gmac` (multiply-accumulates, 1e9; None where they are not counted), `seconds` (median) and `mib`
    (peak above what was held before, without the weights; None where the system does not tell) of one volume,
    consistency left out unless the method is nothing else.
    """
    batch = store.load_batch([case], views=model.views, size=model.size).to(device)
    work = lambda: infer(model, net, batch.xrays[0], batch.beams[0], refine=model.recipe is None and model.consistent)  # noqa: E731
    work()  # compiles
    peak = peak_mib(work, device)
    counted = counts(model) if model.recipe is not None else {"parameters": 0}
    return {
        "parameters": counted["parameters"],
        "gmac": None if counted.get("true") is None else counted["true"] / 1e9,
        "seconds": median(seconds_of(work, device) for _ in range(ROUNDS)),
        "mib": peak,
    }


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """How long `work` takes, the GPU's part included."""
    begun = perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - begun


def peak_mib(work: Callable[[], Any], device: torch.device) -> float | None:
    """What `work` takes at its highest above what was held before, MiB; None where the system does not tell.

    On a GPU the tensors; else the process's resident memory (Linux: its high-water mark is reset before).
    """
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        seconds_of(work, device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back, so that using it again counts
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _status_kib("VmRSS")
        work()
        return (_status_kib("VmHWM") - before) / 1024
    except (OSError, AttributeError):
        work()
        return None


def _status_kib(field: str) -> int:
    """A field of this process's status."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(rf"{field}:\s+(\d+)", text).group(1))
