"""What the assessment's numbers are worth: phantoms of stated volumes, their true CTs and what two X-rays make of them.

`python bench/assess.py` prints the tables of docs/assessment.md: errors on `--cases` phantoms with and some without a
pneumothorax, true and reconstructed, and time and memory of one 224³ volume.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from measure import cell, machine, peak_mib, print_head, print_row, seconds_of

from raylift import io
from raylift.assess import working
from raylift.data.drr import make_drr
from raylift.data.phantom import Phantom, pneumothorax, torso
from raylift.data.prepare.resample import resampled
from raylift.reconstruct import reconstruct
from raylift.segment.agreement import agreement
from raylift.segment.chest import segment_chest
from raylift.segment.quantities import dices, quantities
from raylift.types import Grid

FIRST_SEED = 9000  # the rules were fixed on 1000 to 1021 and 2000 to 2003
HEAD = (
    "phantom", "air", "on the true CT", "Dice", "on the reconstruction", "lungs", "on the true CT",
    "on the reconstruction", "Dice of the lungs",
)  # fmt: skip


def phantoms(count: int) -> list[tuple[str, Phantom]]:
    """So many with a pneumothorax, and a third as many without."""
    leaky = [(f"{FIRST_SEED + k}", pneumothorax(FIRST_SEED + k, noise_hu=10.0)) for k in range(count)]
    whole = [(f"{FIRST_SEED + 500 + k}", torso(FIRST_SEED + 500 + k, noise_hu=10.0)) for k in range(count // 3)]
    return leaky + whole


def reconstructed(phantom: Phantom, model: str | None):
    """The CT that the model makes of the phantom's two X-rays."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        io.write_ct(phantom.volume, folder / "ct.nii.gz")
        make_drr(folder / "ct.nii.gz", folder / "drr")
        return reconstruct(folder / "drr" / "PA.dcm", folder / "drr" / "LAT.dcm", model=model).ct


def lines(count: int, model: str | None) -> dict[str, list[list[float]]]:
    """Prints a row a phantom; stated, found and reconstructed ml of air and of lungs."""
    found: dict[str, list[list[float]]] = {"air": [], "lungs": []}
    for name, phantom in phantoms(count):
        truth, true = phantom.truth, segment_chest(working(phantom.volume))
        ct = reconstructed(phantom, model)
        again = segment_chest(working(ct), thresholds="relative")
        beside = segment_chest(working(resampled(phantom.volume, ct.grid)), thresholds="relative")
        stated = [truth["pneumothorax_ml"], truth["lung_right_ml"] + truth["lung_left_ml"]]
        on_true, on_cube, made = (quantities(chest)["total"] for chest in (true, beside, again))
        overlap, apart = dices(true, _drawn(phantom, true)), dices(again, beside)
        air = [stated[0], on_true["pneumothorax_ml"] or 0, made["pneumothorax_ml"] or 0]
        lungs = [on_cube["lung_ml"], made["lung_ml"]]
        found["air"].append(air)
        found["lungs"].append([stated[1], on_true["lung_ml"], *lungs])
        side = f"{truth['pneumothorax_side']}, {truth['posture']}" if stated[0] else "none"
        print_row(
            [
                f"{name}: {side}",
                f"{stated[0]:.0f} ml",
                _told(air[1], stated[0]),
                _dice(overlap["air outside the lungs"]),
                f"{air[2]:.0f} ml",
                f"{stated[1]:.0f} ml",
                _told(on_true["lung_ml"], stated[1]),
                f"{lungs[1]:.0f} of {lungs[0]:.0f} ml in the cube",
                f"{_dice(apart['right lung'])}, {_dice(apart['left lung'])}",
            ]
        )
    return found


def _drawn(phantom: Phantom, like):
    """The phantom's own air as a label map."""
    x = np.arange(phantom.labels.shape[2]) >= (phantom.labels.shape[2] - 1) / 2
    air = np.where(phantom.labels == 21, np.where(x, 6, 5), 0).astype(np.uint8)
    return type(like)(labels=air, grid=phantom.volume.grid, levels=like.levels)


def _told(ml: float, stated: float) -> str:
    return f"{ml:.0f} ml ({100 * (ml / stated - 1):+.1f} %)" if stated else f"{ml:.0f} ml"


def _dice(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def summary(found: dict[str, list[list[float]]]) -> None:
    """Agreement over the phantoms."""
    print_head(["", "cases", "r", "concordance", "bias, ml", "limits of agreement, ml"])
    for title, what, true, column in (
        ("air, true CT", "air", 0, 1),
        ("air, reconstruction", "air", 0, 2),
        ("lungs, true CT", "lungs", 0, 1),
        ("lungs, reconstruction against the true CT in the cube", "lungs", 2, 3),
    ):
        values = np.array(found[what])
        row = agreement(values[:, true], values[:, column])
        r, ccc = (row[key]["value"] for key in ("pearson", "concordance"))
        cells = ["–" if v is None else f"{v:.3f}" for v in (r, ccc)]
        print_row([title, row["cases"], *cells, f"{row['bias']:+.1f}", " to ".join(f"{v:+.0f}" for v in row["limits"])])


def cost() -> None:
    """Time and memory of one volume of 224³ voxels of 1.6 mm."""
    volume = pneumothorax(FIRST_SEED, grid=Grid.canonical((224,) * 3, 1.6), ml=500.0, side="left", arms_up=True).volume
    print_head(["volume", "seconds", "peak MiB above the volume"])
    seconds = seconds_of(lambda: segment_chest(volume))
    print_row(["224³ voxels of 1.6 mm", f"{seconds:.1f}", cell(peak_mib(lambda: segment_chest(volume)))])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=9, help="phantoms with a pneumothorax")
    parser.add_argument("--model", help="what reconstructs; raylift unless told")
    asked = parser.parse_args()
    print(machine() + "\n")
    print_head(HEAD)
    agreed = lines(asked.cases, asked.model)
    print()
    summary(agreed)
    print()
    cost()
