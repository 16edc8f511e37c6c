"""What the assessment's numbers are worth: phantoms of stated volumes, their true CTs and what two X-rays make of them.

`python bench/assess.py` prints the tables of docs/assessment.md: errors on `--cases` phantoms with and some without a
pneumothorax, true and reconstructed, and time and memory of one 224³ volume. `--volumes 6` prints instead the table of
20 to 2000 ml on true CTs, on so many persons and every posture, of voxels of `--spacing` mm and noise of `--noise` HU.
`--dark SEED` prints what is found beside one person's dark lungs. `--write` leaves what the other two say of errors
where `raylift assess` reads it.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np
from measure import cell, machine, peak_mib, print_head, print_row, seconds_of

from raylift import io
from raylift.assess import working
from raylift.data.drr import make_drr
from raylift.data.phantom import Phantom, pneumothorax, torso
from raylift.data.prepare.resample import resampled
from raylift.errors import BadInput
from raylift.reconstruct import reconstruct
from raylift.report.known import keep, known
from raylift.segment.agreement import agreement
from raylift.segment.chest import segment_chest
from raylift.segment.quantities import dices, quantities
from raylift.types import Grid

FIRST_SEED = 9000  # the rules were fixed on 1000 to 1021 and 2000 to 2003
FIRST_PERSON = 8300  # fixed on 1100 to 1240, 3000 to 3021, 7310, 7500, 7700, 8200 to 8226; seen: 7600 to 8105
NOISE_HU = 10.0
DARK_ML = (20.0, 50.0, 250.0)
VOLUMES_ML = (20.0, 50.0, 100.0, 200.0, 400.0, 1000.0, 2000.0)
ONE_SIDE_ML = 1000.0  # more does not fit into one lung of every person
PLACES = (
    ("right", "supine"), ("left", "upright"), ("left", "right-down"), ("both", "supine"), ("right", "upright"),
    ("right", "left-down"), ("both", "upright"), ("right", "right-down"), ("left", "left-down"),
)  # fmt: skip
FIELD_MM = (340.0, 250.0, 340.0)  # the chest, without most of the arms
VOLUMES_HEAD = [
    "stated, both sides", "pneumothoraces", "found", "error of those, ml", "largest, %", "not found",
    "where there is none",
]  # fmt: skip
VOLUMES = "Pneumothorax, ml, each side by itself: phantoms' true CTs of {:g} mm with noise of {:g} HU"
AGREEMENT = "Air and lungs, ml: phantoms of 2.5 mm, their true CTs and what {} made of two X-rays of each"
HEAD = (
    "phantom", "air", "on the true CT", "Dice", "on the reconstruction", "lungs", "on the true CT",
    "on the reconstruction", "Dice of the lungs",
)  # fmt: skip


def phantoms(count: int) -> list[tuple[str, Phantom]]:
    """So many with a pneumothorax, and a third as many without."""
    leaky = [(f"{FIRST_SEED + k}", pneumothorax(FIRST_SEED + k, noise_hu=NOISE_HU)) for k in range(count)]
    whole = [(f"{FIRST_SEED + 500 + k}", torso(FIRST_SEED + 500 + k, noise_hu=NOISE_HU)) for k in range(count // 3)]
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


def summary(found: dict[str, list[list[float]]], model: str) -> dict:
    """Prints the agreement over the phantoms, and returns the table."""
    rows = []
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
        limits = " to ".join(f"{v:+.0f}" for v in row["limits"])
        rows.append([title, str(row["cases"]), *cells, f"{row['bias']:+.1f}", limits])
    return _printed(
        AGREEMENT.format(model), ["", "cases", "r", "concordance", "bias, ml", "limits of agreement, ml"], rows
    )


def _printed(caption: str, head: list[str], rows: list[list[str]]) -> dict:
    """Prints a table, and returns it as `raylift.report.known` keeps it."""
    print_head(head)
    for row in rows:
        print_row(row)
    return {"caption": caption, "head": head, "rows": rows}


def volumes(persons: int, spacing: float, noise_hu: float) -> dict:
    """Prints a row a stated volume, and returns the table: how the found ones are off over all persons, each in another
    place and posture.
    """
    field = _field(spacing)
    rows: dict[float, list[tuple[float, float, str]]] = {ml: [] for ml in VOLUMES_ML}
    for seed in range(FIRST_PERSON, FIRST_PERSON + persons):
        for k, ml in enumerate(VOLUMES_ML):
            side, posture = PLACES[(seed - FIRST_PERSON + 4 * k) % len(PLACES)]
            side = side if ml <= ONE_SIDE_ML else "both"
            try:
                phantom = pneumothorax(
                    seed, grid=field, ml=ml, side=side, posture=posture, arms_up=True, noise_hu=noise_hu
                )  # fmt: skip
            except BadInput as error:
                print(f"left out: {seed}, {error}")
                continue
            found = quantities(segment_chest(phantom.volume))
            for which in ("right", "left"):
                true = phantom.truth[f"pneumothorax_{which}_ml"]
                rows[ml].append((true, found[which]["pneumothorax_ml"] or 0.0, f"{seed}, {side}, {posture}"))
    lines = []
    for ml, sides in rows.items():
        there = [(true, found) for true, found, _ in sides if true]
        seen = np.array([pair for pair in there if pair[1]]).reshape(-1, 2)
        off = seen[:, 1] - seen[:, 0]
        missed = ", ".join(f"{true:.0f} ml ({where})" for true, found, where in sides if true and not found) or "–"
        wrong = sum(found for true, found, _ in sides if not true)
        worst = f"{100 * np.abs(off / seen[:, 0]).max():.1f}" if len(seen) else "–"
        span = f"{off.min():+.1f} to {off.max():+.1f}" if len(seen) else "–"
        cells = [span, worst, missed, f"{wrong:.0f} ml"]
        lines.append([f"{ml:.0f} ml", str(len(there)), str(len(seen)), *cells])
    return _printed(VOLUMES.format(spacing, noise_hu), VOLUMES_HEAD, lines)


def dark(seed: int) -> None:
    """Prints what is found beside lungs that are as dark as -980 HU in front: emphysema, and a steep gradient."""
    field = _field(2.5)
    lungs = {"lung_hu": -895.0, "lung_gradient": 0.7, "emphysema": 0.5}
    print_head(["posture", "side", *(f"of {ml:g} ml" for ml in DARK_ML)])
    for posture, side in itertools.product(("supine", "upright"), ("left", "right")):
        cells = []
        for ml in DARK_ML:
            phantom = pneumothorax(
                seed, grid=field, ml=ml, side=side, posture=posture, arms_up=True, noise_hu=NOISE_HU, **lungs
            )  # fmt: skip
            cells.append(f"{quantities(segment_chest(phantom.volume))['total']['pneumothorax_ml']:.0f} ml")
        print_row([posture, side, *cells])


def _field(spacing: float) -> Grid:
    """The chest, of voxels of so many mm."""
    return Grid.canonical(tuple(round(mm / spacing) for mm in FIELD_MM), spacing, (0.0, 10.0, 0.0))


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
    parser.add_argument("--volumes", type=int, metavar="PERSONS", help="the table of 20 to 2000 ml on true CTs")
    parser.add_argument("--spacing", type=float, default=1.6, help="mm, of --volumes; 1.6 are what is worked on")
    parser.add_argument("--noise", type=float, default=NOISE_HU, help="HU, of --volumes")
    parser.add_argument("--dark", type=int, metavar="SEED", help="print instead what is found beside dark lungs")
    parser.add_argument("--write", action="store_true", help="leave the errors where the program reads them")
    asked = parser.parse_args()
    print(machine() + "\n")
    told = {}
    if asked.dark is not None:
        dark(asked.dark)
    elif asked.volumes:
        noisy = "" if asked.noise == NOISE_HU else f", noise of {asked.noise:g} HU"
        told = {f"volumes at {asked.spacing:g} mm{noisy}": volumes(asked.volumes, asked.spacing, asked.noise)}
    else:
        print_head(HEAD)
        agreed = lines(asked.cases, asked.model)
        print()
        told = {"agreement": summary(agreed, asked.model or "raylift")}
        print()
        cost()
    if asked.write and told:
        print("\nwritten:", keep("chest", known("chest") | told).name)
