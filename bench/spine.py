"""How wrong a spine's measurements are: on phantoms of stated angles, and on label maps of real CTs.

    python bench/spine.py                                 phantoms: true labels, found in the CT, reconstructed
    python bench/spine.py --ct CT --labels LABELS         one CT with its label map: truth, and SART of its X-rays

Seeds begin at 100: thresholds were chosen on others.
"""

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np

from raylift.data.phantom import spine
from raylift.errors import BadInput
from raylift.geometry import canonical
from raylift.io import read_ct
from raylift.segment.column import from_bone
from raylift.segment.measure import angles, cobb_deg, measure_all, sagittal_deg
from raylift.segment.vertebrae import VERSE, Vertebrae, from_label_map
from raylift.spine import study

FIRST_SEED = 100
HEIGHTS = ("anterior_mm", "middle_mm", "posterior_mm", "wedge_deg")


def errors(bodies, truth) -> dict[str, list[float]]:
    """Measured minus true, kind by kind; the angles between the levels that the truth names."""
    true, posture = truth["bodies"], truth["posture"]
    found = {name: [getattr(b, name) - true[k][name] for k, b in bodies.items() if k in true] for name in HEIGHTS}
    upper, lower = posture["upper"], posture["lower"]
    if upper in bodies and lower in bodies:
        found["cobb_deg"] = [cobb_deg(bodies, upper, lower) - truth["cobb_deg"]]
    for name, sign in (("kyphosis", 1), ("lordosis", -1)):
        told = truth["angles"][name]
        if told["upper"] in bodies and told["lower"] in bodies:
            found[f"{name}_deg"] = [sign * sagittal_deg(bodies, told["upper"], told["lower"]) - told["deg"]]
    return found


def dice(found: Vertebrae, labels) -> list[float]:
    """Of each level that was found, with the true labels."""
    pairs = [(found.mask(level), labels == VERSE[level]) for level in found.levels]
    return [float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in pairs]


def on_phantoms(count: int, reconstruct: bool) -> None:
    """Print the errors of each way to the vertebrae, over all phantoms."""
    ways: dict[str, dict[str, list[float]]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        drawn = spine(seed, noise_hu=20.0)
        truth = Vertebrae(labels=drawn.labels, grid=drawn.volume.grid, how="phantom")
        _add(ways, "true labels", lambda truth=truth, drawn=drawn: errors(measure_all(truth)[0], drawn.truth))
        _add(ways, "found in the CT", lambda drawn=drawn: _found(drawn))
        if reconstruct:
            _add(ways, "SART of two X-rays", lambda drawn=drawn, truth=truth: _rebuilt(drawn, truth))
    for way, kinds in ways.items():
        print(f"\n{way}, {count} phantoms of 1.5 mm")
        for kind, values in kinds.items():
            size = np.abs(values)
            told = f"mean {np.mean(values):7.2f}  mean |.| {size.mean():6.2f}  largest {size.max():6.2f}"
            print(f"  {kind:14} {told}  n {len(size)}")


def _found(drawn) -> dict[str, list[float]]:
    found = from_bone(drawn.volume, lowest="L5")
    return errors(measure_all(found)[0], drawn.truth) | {"dice": dice(found, drawn.labels)}


def _rebuilt(drawn, truth: Vertebrae) -> dict[str, list[float]]:
    posture = drawn.truth["posture"]
    apex = truth.levels[(truth.levels.index(posture["upper"]) + truth.levels.index(posture["lower"])) // 2]
    told = study(drawn.volume, truth, model="sart", levels=[posture["upper"], apex, posture["lower"]])
    table = told.manifest["table"]
    scores = {name: [row[name] for row in table if name in row] for name in ("dice", "assd_mm", "placed_mm")}
    return errors(told.bodies, drawn.truth) | scores


def _add(ways, way: str, measure) -> None:
    began = perf_counter()
    try:
        found = measure()
    except BadInput as error:
        found = {}
        print(f"{way}: {error}")
    found["seconds"] = [perf_counter() - began]
    for kind, values in found.items():
        ways.setdefault(way, {}).setdefault(kind, []).extend(values)


def on_ct(ct: Path, labels: Path, levels: list[str] | None) -> None:
    """Print placement, Dice and surface distances of one CT with its label map, by the truth and by SART."""
    volume, truth = canonical(read_ct(ct)), from_label_map(canonical(read_ct(labels)))
    print("measured on the label map:", angles(measure_all(truth)[0]))
    for model, rays in (("truth", "vertebra"), ("sart", "vertebra"), ("sart", "whole")):
        told = study(volume, truth, model=model, rays=rays, levels=levels).manifest
        print(f"\n{model}, rays: {rays}, {told['runtime_s']['total']:.0f} s")
        for row in told["table"]:
            print("  " + "  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
        print("  heights and wedge:", told["beside"]["errors"])
        print("  angles:", told["angles"], "true:", told["beside"]["true_angles"])


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--phantoms", type=int, default=4)
    parse.add_argument("--no-reconstruction", action="store_true")
    parse.add_argument("--ct", type=Path)
    parse.add_argument("--labels", type=Path)
    parse.add_argument("--levels", help="such as T11,L2")
    asked = parse.parse_args()
    if asked.ct and asked.labels:
        on_ct(asked.ct, asked.labels, asked.levels.split(",") if asked.levels else None)
    else:
        on_phantoms(asked.phantoms, not asked.no_reconstruction)


if __name__ == "__main__":
    main()
