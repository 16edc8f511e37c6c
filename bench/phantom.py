"""How many torso phantoms a second are drawn, at 128 voxels of 2.5 mm.

    python bench/phantom.py [--count 20] [--size 128]

Wall seconds say what this machine did; CPU seconds (of all threads) what it cost, whoever else was working on it. One
torso is drawn before the clock starts, for the compiler. Rows are appended to history.csv.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time


def seconds_each(count: int, size: int) -> tuple[float, float]:
    """Wall and CPU seconds of one torso, the mean over `count` different people."""
    from raylift.data.phantom import torso
    from raylift.types import Grid

    grid = Grid.canonical((size,) * 3, 320 / size)
    torso(0, grid=grid)
    wall, cpu = perf_counter(), process_time()
    for seed in range(1, count + 1):
        torso(seed, grid=grid)
    return (perf_counter() - wall) / count, (process_time() - cpu) / count


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    from measure import HISTORY, append, machine, print_head, print_row

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--history", type=Path, default=HISTORY)
    options = parser.parse_args(words)
    wall, cpu = seconds_each(options.count, options.size)
    print(f"{machine()}; {options.count} torsos of {options.size} voxels a side\n")
    print_head(["s a torso", "torsos a second", "CPU s a torso", "torsos a CPU second"])
    print_row([f"{wall:.2f}", f"{1 / wall:.2f}", f"{cpu:.2f}", f"{1 / cpu:.2f}"])
    rows = [("a torso", wall, None), ("a torso, CPU seconds", cpu, None)]
    append(options.history, [("phantom", options.size, name, seconds, memory) for name, seconds, memory in rows])


if __name__ == "__main__":
    main()
