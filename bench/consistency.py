"""How many rounds SART needs on the shipped real case: PSNR and re-projection error against rounds.

`python bench/consistency.py`. Both at 5 mm and at 2.5 mm, from the shipped DICOM X-rays.
"""

from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F

from raylift import io
from raylift.consistency import cut, mismatch, sart
from raylift.data.prepare.resample import resampled
from raylift.geometry import canonical, support
from raylift.metrics import psnr
from raylift.physics import CHEST_WINDOW, mu_to_hu
from raylift.types import Grid

CASE = Path(__file__).parents[1] / "examples" / "lidc-idri-0001"


def main() -> None:
    """Print one line for each side and number of rounds."""
    truth = canonical(io.read_ct(CASE / "ct.nii.gz"))
    xrays = [io.read_xray(CASE / f"{view}.dcm") for view in ("PA", "LAT")]
    pixels = torch.from_numpy(np.stack([xray.pixels for xray in xrays]))
    centre = tuple(xrays[0].isocentre_mm)
    print("side  rounds  PSNR dB  re-projection error  seconds")
    for side in (64, 128):
        cube = Grid.canonical((side,) * 3, 320 / side, centre)
        wanted = torch.from_numpy(resampled(truth, cube).hu)
        beams = [xray.beam.resized(side, side) for xray in xrays]
        seen, whole = F.adaptive_avg_pool2d(pixels, side), support(cube, beams, spacing_mm=320 / side)
        for rounds in (1, 3, 6, 12, 25, 50):
            start = perf_counter()
            mu = sart(seen, beams, whole, rounds=rounds)
            seconds = perf_counter() - start
            score = float(psnr(mu_to_hu(cut(mu, whole, cube)), wanted, window=CHEST_WINDOW))
            errors = "  ".join(f"{100 * e:6.2f} %" for e in mismatch(mu, seen, whole, beams))
            print(f"{side:4d}  {rounds:6d}  {score:7.2f}  {errors}  {seconds:7.1f}", flush=True)


if __name__ == "__main__":
    main()
