"""How the skeleton that K-means finds in a CT agrees with a label map of it.

    python scripts/skeleton_agreement.py CT LABELS [--bones 25-50,69-78,91-116] [--others heart=51,aorta=52]

LABELS is a label map of the same patient; numbers are those of TotalSegmentator's 117 structures unless they are given.
The CT is taken as preparation takes it: upright at 1.5 mm, without its table.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from time import process_time

import numpy as np

from raylift import io
from raylift.data.prepare import profiles, resample, steps
from raylift.geometry import canonical
from raylift.segment.bone import skeleton
from raylift.types import Grid, Volume

BONES = "25-50,69-78,91-116"  # vertebrae, limbs and girdles, skull, ribs, sternum
OTHERS = "vertebrae=25-50,limbs=69-78,ribs=92-115,heart=51,aorta=52,canal=79"


def numbers(text: str) -> list[int]:
    """The numbers of a list such as 1,3-5."""
    ends = [(part.split("-") * 2)[:2] for part in text.split(",")]
    return [n for first, last in ends for n in range(int(first), int(last) + 1)]


def nearest(labels: Volume, grid: Grid) -> np.ndarray:
    """The label map's numbers at the voxels of `grid`; 0 outside it."""
    found = np.zeros(grid.shape, np.int32)
    inside = resample.inside(grid, labels.grid)
    at = np.rint(labels.grid.index(grid.world(np.argwhere(inside)))).astype(int)
    at = at.clip(0, np.array(labels.grid.shape) - 1)
    found[inside] = np.asarray(labels.hu)[tuple(at.T)]
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Print the Dice coefficient, and how much of each structure is in the skeleton."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ct", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--bones", default=BONES)
    parser.add_argument("--others", default=OTHERS)
    options = parser.parse_args(words)
    clean, _, _ = steps.cleaned(canonical(io.read_ct(options.ct)), profiles.get("chest"))
    start = process_time()
    mask = skeleton(clean.hu, clean.grid.spacing_mm)
    seconds = process_time() - start
    labels = nearest(canonical(io.read_ct(options.labels)), clean.grid)
    true = np.isin(labels, numbers(options.bones))
    both = (mask & true).sum()
    sys.stdout.write("| of | in the skeleton |\n| --- | --- |\n")
    for name, which in (pair.split("=") for pair in options.others.split(",")):
        there = np.isin(labels, numbers(which))
        if there.any():
            sys.stdout.write(f"| {name} | {mask[there].mean():.0%} |\n")
    sys.stdout.write(
        f"\nDice {2 * both / (mask.sum() + true.sum()):.3f}; of the skeleton {both / mask.sum():.0%} is bone, of the "
        f"bones {both / true.sum():.0%} are in it. {seconds:.1f} s of CPU time for {mask.size / 1e6:.1f} million "
        "voxels.\n"
    )


if __name__ == "__main__":
    main()
