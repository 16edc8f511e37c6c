"""Prints the table of docs/physics.md: how grey our X-rays of a chest CT are, and how grey real ones.

    RAYLIFT_DATA=... python scripts/xray_statistics.py

RAYLIFT_DATA is a folder with ct/lidc-idri-0001/ct.nii.gz and the real X-rays in xray/. Every picture is averaged to
256 pixels a side and brought to [0, 1] between its 0.5 and 99.5 percentiles (`physics.xray_to_input`). Only numbers
come out.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from xray_pictures import local, pictures

from raylift import io
from raylift.panels import averaged
from raylift.physics import xray_to_input
from raylift.types import View

SIDE = 256
REAL = {  # folder in xray/, files, view
    "real, frontal (Hannover)": ("hannover", "*.png", View.PA),
    "real, frontal (NIH)": ("nih", "*.png", View.PA),
    "real, frontal (pneumocystis)": ("pneumocystis-2", "*-PA.png", View.PA),
    "real, lateral (pneumocystis)": ("pneumocystis-2", "*-L.png", View.LAT),
}
HEAD = ("", "pictures", "mean", "SD", "5 %", "25 %", "50 %", "75 %", "95 %", "step", "grain")


def row(picture: np.ndarray) -> np.ndarray:
    """Mean, SD, five percentiles, mean step to the next pixel, and grain: the SD of a 3 x 3 Laplacian / 6.

    The grain is a robust one (from the median absolute value), and that of white noise of SD 1 is 1.
    """
    unit = xray_to_input(torch.from_numpy(averaged(picture, SIDE, SIDE))).numpy()
    step = (np.abs(np.diff(unit, axis=0)).mean() + np.abs(np.diff(unit, axis=1)).mean()) / 2
    across = unit[:, :-2] - 2 * unit[:, 1:-1] + unit[:, 2:]
    laplacian = across[:-2] - 2 * across[1:-1] + across[2:]
    grain = 1.4826 * np.median(np.abs(laplacian)) / 6
    return np.array([unit.mean(), unit.std(), *np.percentile(unit, [5, 25, 50, 75, 95]), step, grain])


def line(title: str, rows: list[np.ndarray]) -> str:
    """One line of the table: the means over `rows`."""
    mean = np.mean(rows, 0)
    cells = [f"{x:.2f}" for x in mean[:7]] + [f"{x:.4f}" for x in mean[7:]]
    return f"| {' | '.join([title, str(len(rows)), *cells])} |\n"


def main() -> None:
    """Write the table to standard output."""
    data = Path(os.environ["RAYLIFT_DATA"])
    rule = "| " + " | ".join("---" for _ in HEAD) + " |"
    sys.stdout.write(f"| {' | '.join(HEAD)} |\n{rule}\n")
    for view, pair in pictures(str(data / "ct" / "lidc-idri-0001" / "ct.nii.gz")).items():
        for kind, picture in zip(("60 keV", "exposed", "as shown"), (*pair, local(pair[1])), strict=True):
            sys.stdout.write(line(f"ours, {view}, {kind}", [row(picture)]))
    for title, (folder, names, view) in REAL.items():
        files = sorted((data / "xray" / folder).glob(names))
        sys.stdout.write(line(title, [row(io.read_xray(f, spacing=0.5, view=view).pixels) for f in files]))


if __name__ == "__main__":
    if "RAYLIFT_DATA" not in os.environ:
        sys.exit(__doc__)
    main()
