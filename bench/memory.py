"""Memory of one training step on a CPU: what `raylift train` says beforehand against what the process takes.

    python bench/memory.py [--model NAME ... | --all] [--size 64] [--batch 4] [--set width=16 ...]

"counted" is the bytes of tensors, "held" what a real step takes where malloc gives back what is freed (glibc,
MALLOC_MMAP_THRESHOLD_=65536); "said" is what is checked before a training, "taken" what a step takes as malloc comes.
Each number is of a process of its own, in its third step, weights and the optimiser's state included; the nets are
reduced as in training.py. Linux only. Rows are appended to history.csv, with the seconds of the step.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from measure import HISTORY, append, ball, machine, mib, peak_mib, print_head, print_row, reduced, seconds_of, systems
from training import busy, held, players_of

from raylift import models
from raylift.data.store import Batch
from raylift.train.memory import needed, taken
from raylift.train.step import update

NAMES = ("psr", "sit", "e2e", "x2ct-gan", "ear", "xctnet")
OPTIONS = {"psr": ["width=0.5"], "sit": ["width=16"], "e2e": ["width=8"], "x2ct-gan": ["width=16"]}  # ours
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
HEAD = ["model", "size", "batch", "options", "counted", "held", "ratio", "said", "taken", "ratio"]


def child(name: str, size: int, batch: int, settings: Sequence[str]) -> None:
    """Prints as JSON what is counted and said, and what a step of this process takes, MiB."""
    torch.set_num_threads(1)
    model = reduced(models.get(name), size, settings)
    recipe = replace(model.recipe, batch_size=batch, accumulate=1, ema=0.0, precision="no")
    found = {"counted": needed(model, recipe, batch), "said": needed(model, recipe, batch, taken(torch.device("cpu")))}
    found = {name: count / 2**20 for name, count in found.items()}
    players, shown = players_of(replace(model, recipe=recipe), "float32"), ball(model, batch)
    for _ in range(2):
        update(players, [shown])
    peak = peak_mib(lambda: found.update(seconds=seconds_of(lambda: update(players, [shown]))))
    if peak is None:
        raise SystemExit("this system does not tell a process's peak memory")
    found["measured"] = peak + mib(held(players)) + mib(of_batch(shown))
    print(json.dumps(found))


def of_batch(batch: Batch) -> list[torch.Tensor]:
    """What a batch holds."""
    return [batch.xrays, batch.hu]


def asked(name: str, size: int, batch: int, settings: Sequence[str], around: dict[str, str]) -> dict[str, float]:
    """What a process of its own says of this model."""
    words = [sys.executable, __file__, "--child", name, "--size", str(size), "--batch", str(batch)]
    words += ["--set", *settings] if settings else []
    done = subprocess.run(words, env={**os.environ, **around}, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def row_of(name: str, size: int, batch: int, settings: Sequence[str], history: Path) -> None:
    """One line of the table, also appended to the history."""
    exact, usual = (asked(name, size, batch, settings, around) for around in (GIVES_BACK, {}))
    counted, said = exact["counted"], usual["said"]
    numbers = [counted, exact["measured"], counted / exact["measured"], said, usual["measured"]]
    cells = [f"{numbers[0]:.0f}", f"{numbers[1]:.0f}", f"{numbers[2]:.2f}", f"{said:.0f}", f"{usual['measured']:.0f}"]
    kind = " ".join(["tiny", *settings])
    print_row([name, f"{size}³", batch, kind, *cells, f"{said / usual['measured']:.2f}"])
    about = f"training memory cpu {kind} batch {batch}{busy()}"
    told = {"counted": counted, "held": exact["measured"], "said": said, "taken": usual["measured"]}
    append(history, [(name, size, f"{about} {what}", usual["seconds"], amount) for what, amount in told.items()])


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", nargs="+", default=NAMES, metavar="NAME")
    parser.add_argument("--all", action="store_true", help="the first of each file in models/ that is trained")
    parser.add_argument("--size", type=int, default=64, help="voxels a side of the reduced copies")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--set", nargs="+", default=None, metavar="KEY=VALUE", help="options of the net")
    parser.add_argument("--child", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("--history", type=Path, default=HISTORY)
    options = parser.parse_args(words)
    if options.child:
        child(options.child, options.size, options.batch, options.set or [])
        return
    print(f"{machine()}; MiB\n")
    print_head(HEAD)
    known = [m.name for m in systems(False) if m.recipe and not m.told_geometry] if options.all else options.model
    for name in known:
        settings = OPTIONS.get(name, []) if options.set is None else options.set
        row_of(name, options.size, options.batch, settings, options.history)


if __name__ == "__main__":
    main()
