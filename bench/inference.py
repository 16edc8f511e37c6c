"""Time and memory of one volume from each model, and what makes X2CT-GAN fast without changing what it answers.

    python bench/inference.py [--model NAME ... | --all] [--size 32] [--full] [--x2ct-size 128] [--rounds 3]

First each model, evaluation mode, batch of 1, float32: on a CPU with the options of its tiny copy at `--size` voxels
a side, with a GPU or `--full` the paper's net. Then X2CT-GAN at the paper's widths and `--x2ct-size`: the plain
network (float32, contiguous, with the auxiliary heads that nothing reads) against channels-last volumes, bf16, the
network without those heads, and that with the layers that `raylift reconstruct` uses on a CPU, same weights, one
process, in turn in each round; ratios are medians over the rounds, differences the largest of the output (whose
window is 1 wide). Its weights are drawn, not trained. Rows are appended to history.csv.
"""

import argparse
import copy
import gc
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
from measure import (
    HISTORY,
    append,
    ball,
    cell,
    interleaved,
    lay_out,
    machine,
    mib,
    pairs,
    peak_mib,
    print_head,
    print_row,
    ratio,
    reduced,
    systems,
    tensors_of,
)
from torch import Tensor, nn

from raylift import models
from raylift.data.store import Batch
from raylift.errors import RayliftError
from raylift.models.quick import quick
from raylift.models.spec import Model

GOAL, NEAR = 2.0, 1e-3  # times the plain network's speed, and how near to its output

# name: with auxiliary heads, layout, precision, with the layers of `models.quick`
WAYS = {
    "plain": (True, "contiguous", "float32", False),
    "channels-last": (True, "channels-last", "float32", False),
    "bf16": (True, "contiguous", "bf16", False),
    "pruned heads": (False, "contiguous", "float32", False),
    "pruned, channels-last": (False, "channels-last", "float32", False),
    "pruned, channels-last, bf16": (False, "channels-last", "bf16", False),
    "pruned, quick layers": (False, "contiguous", "float32", True),
}


def device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@torch.inference_mode()
def volume_of(model: Model, net: nn.Module, batch: Batch, precision: str = "float32") -> Tensor:
    """The net's "ct", float32, on its target's scale."""
    half = precision == "bf16"
    with torch.autocast(device(), torch.bfloat16) if half else nullcontext():
        return model.run(net, batch.xrays, batch.beams)["ct"].float()


def each_model(options: argparse.Namespace) -> None:
    """A row for each model; one that fails says why."""
    kind = " ".join(["full" if options.full else "tiny", *options.set])
    print_head(["model", "size", "options", "s a volume", "volumes a s", "MiB"])
    for model in [models.get(name) for name in options.model] or systems(options.all):
        model = model.with_settings(pairs(options.set)) if options.full else reduced(model, options.size, options.set)
        try:
            seconds, memory = one_model(model, options.rounds)
        except (RayliftError, ValueError, torch.OutOfMemoryError) as error:  # too small or too large for this net
            print_row([model.name, f"{model.size}³", kind, f"did not run: {str(error).splitlines()[0]}", "–", "–"])
            continue
        print_row([model.name, f"{model.size}³", kind, f"{seconds:.3f}", f"{1 / seconds:.2f}", cell(memory)])
        append(options.history, [(model.name, model.size, f"inference {device()} {kind} float32", seconds, memory)])
        gc.collect()


def one_model(model: Model, rounds: int) -> tuple[float, float | None]:
    """Median seconds and peak MiB of one volume, the weights included."""
    net = model.build(torch.Generator().manual_seed(0)).eval().to(device())
    batch = ball(model).to(device())

    def work() -> Tensor:
        return volume_of(model, net, batch)

    work()  # compiles
    peak = peak_mib(work)
    times = interleaved({"once": work}, rounds)
    return median(times["once"]), None if peak is None else peak + mib(tensors_of(net))


def x2ct(size: int, settings: Sequence[str]) -> Model:
    """X2CT-GAN at the paper's widths, or as `settings` say, with the auxiliary heads of the released code."""
    return models.get("x2ct-gan").with_settings(
        {"net.size": str(size), "net.auxiliary_heads": "true", **pairs(settings)}
    )


def nets_of(model: Model, ways: Sequence[str]) -> dict[str, nn.Module]:
    """A net for each of the ways, all with the plain one's weights."""
    plain = model.build(torch.Generator().manual_seed(0)).eval()
    lean = model.build(torch.Generator().manual_seed(0), auxiliary_heads=False).eval()
    lean.load_state_dict({name: plain.state_dict()[name] for name in lean.state_dict()})
    nets = {}
    for name, (heads, layout, _, quicker) in WAYS.items():
        if name not in ways:
            continue
        nets[name] = copy.deepcopy(plain if heads else lean).to(device())
        lay_out(tensors_of(nets[name]), layout)
        if quicker:
            quick(nets[name])
    return nets


def ways_of(options: argparse.Namespace) -> None:
    """X2CT-GAN's table of ratios, and whether the goal is met."""
    model = x2ct(options.x2ct_size, options.x2ct_set)
    nets, batch = nets_of(model, ["plain", *options.ways]), ball(model).to(device())
    jobs, answers = {}, {}
    for name, net in nets.items():
        jobs[name] = _job(model, net, batch, WAYS[name][2], answers, name)
    memory = {name: peak_mib(job) for name, job in jobs.items()}  # compiles, too
    memory = {name: None if peak is None else peak + mib(tensors_of(nets[name])) for name, peak in memory.items()}
    times = interleaved(jobs, options.rounds)
    away = {name: float((answer - answers["plain"]).abs().max()) for name, answer in answers.items()}
    spread = float(answers["plain"].std())
    print(f"\n{model.name} at {model.size}³, {options.rounds} rounds; the plain output's SD is {spread:.3g}\n")
    print_head(["way", "s a volume", "times plain", "largest difference", "MiB"])
    rows = []
    for name in nets:
        seconds = median(times[name])
        faster = f"{ratio(times, 'plain', name):.2f}"
        print_row([name, f"{seconds:.3f}", faster, f"{away[name]:.1e}", cell(memory[name])])
        rows.append((model.name, model.size, f"inference {device()} {name}", seconds, memory[name]))
    append(options.history, rows)
    judge({name: ratio(times, "plain", name) for name in nets}, away)


def _job(model: Model, net: nn.Module, batch: Batch, precision: str, answers: dict[str, Tensor], name: str):
    """A function that makes the volume and puts it among the answers."""

    def job() -> None:
        answers[name] = volume_of(model, net, batch, precision)

    return job


def judge(faster: dict[str, float], away: dict[str, float]) -> None:
    """The fastest way that stays near enough, against the goal."""
    near = [name for name in faster if away[name] <= NEAR]
    best = max(near, key=faster.__getitem__)
    verdict = "met" if faster[best] >= GOAL else "NOT MET"
    print(f"\nWithin {NEAR:g} of the plain output, fastest: {best}, {faster[best]:.2f} times; goal {GOAL:g}: {verdict}")


def main(words: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model", nargs="+", default=[], metavar="NAME", help="default: the first of each file in models/"
    )
    parser.add_argument("--all", action="store_true", help="every variant")
    parser.add_argument("--size", type=int, default=32, help="voxels a side of the reduced copies")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of the nets")
    parser.add_argument("--full", action="store_true", default=torch.cuda.is_available(), help="the paper's size")
    parser.add_argument("--x2ct-size", type=int, default=128, help="voxels a side of X2CT-GAN's comparison; 0: none")
    parser.add_argument("--x2ct-set", nargs="+", default=[], metavar="KEY=VALUE", help="options of its net")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, help="beside the plain network")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--history", type=Path, default=HISTORY)
    options = parser.parse_args(words)
    print(f"{machine()}; {options.rounds} rounds\n")
    each_model(options)
    if options.x2ct_size:
        ways_of(options)


if __name__ == "__main__":
    main()
