"""How wrong a spine's measurements are: on phantoms of stated angles, and on label maps of real CTs.

    python bench/spine.py                                 phantoms: true labels, found in the CT, reconstructed
    python bench/spine.py --write                         the same, and left where `raylift assess` and docs read it
    python bench/spine.py --ct CT --labels LABELS         one CT with its label map: truth, and SART of its X-rays
    python bench/spine.py --ct CT --labels LABELS --run RUN   and a trained run of the profile vertebra

Seeds begin at 100: thresholds were chosen on others. Tables are those of docs/spine.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from measure import print_head, print_row

from raylift.data.phantom import spine
from raylift.errors import BadInput
from raylift.geometry import canonical
from raylift.io import read_ct
from raylift.report.known import keep
from raylift.report.spine_errors import KINDS, table
from raylift.segment.column import from_bone
from raylift.segment.measure import angles, cobb_deg, measure_all, sagittal_deg
from raylift.segment.vertebrae import VERSE, Vertebrae, from_label_map
from raylift.spine import study

FIRST_SEED = 100
HEIGHTS = ("anterior_mm", "middle_mm", "posterior_mm", "wedge_deg")
WAYS = ("true labels", "found in the CT by its bone", "reconstructed by SART (end levels and apex)")
CT_HEAD = ("case, levels", "model", "rays", "place off, voxels", "centroid off, voxels", "Dice", "ASSD, mm", "seconds")


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


def on_phantoms(count: int, reconstruct: bool) -> dict:
    """The errors of each way to the vertebrae, over all phantoms, as `raylift.report.known` reads them."""
    ways: dict[str, dict[str, list[float]]] = {way: {"asked": []} for way in WAYS[: 3 if reconstruct else 2]}
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        drawn = spine(seed, noise_hu=20.0)
        truth = Vertebrae(labels=drawn.labels, grid=drawn.volume.grid, how="phantom")
        all_levels = len(truth.levels)
        _add(ways[WAYS[0]], all_levels, lambda truth=truth, drawn=drawn: errors(measure_all(truth)[0], drawn.truth))
        _add(ways[WAYS[1]], all_levels, lambda drawn=drawn: _found(drawn))
        if reconstruct:
            _add(ways[WAYS[2]], len(_levels(drawn, truth)), lambda drawn=drawn, truth=truth: _rebuilt(drawn, truth))
    told = {way: _told(kinds) for way, kinds in ways.items()}
    return {"phantoms": count, "first_seed": FIRST_SEED, "spacing_mm": drawn.volume.grid.spacing_mm[0], "ways": told}


def _told(kinds: dict[str, list[float]]) -> dict:
    """One way's numbers: errors by kind, Dice where labels were found, how many vertebrae were measured, seconds."""
    rows = {kind: np.array(kinds[kind]) for kind in KINDS if kinds.get(kind)}
    told: dict = {
        "errors": {
            kind: {
                "mean": round(float(v.mean()), 3),
                "mean_abs": round(float(np.abs(v).mean()), 3),
                "max_abs": round(float(np.abs(v).max()), 3),
                "n": len(v),
            }
            for kind, v in rows.items()
        },
        "measured": len(kinds.get("anterior_mm", ())),
        "asked": int(sum(kinds["asked"])),
        "seconds": round(float(np.mean(kinds["seconds"])), 1),
    }
    return told | {name: round(float(np.mean(kinds[name])), 3) for name in ("dice", "assd_mm") if kinds.get(name)}


def _found(drawn) -> dict[str, list[float]]:
    found = from_bone(drawn.volume, lowest="L5")
    return errors(measure_all(found)[0], drawn.truth) | {"dice": dice(found, drawn.labels)}


def _levels(drawn, truth: Vertebrae) -> list[str]:
    """The curve's two end levels and its apex."""
    upper, lower = (drawn.truth["posture"][end] for end in ("upper", "lower"))
    return [upper, truth.levels[(truth.levels.index(upper) + truth.levels.index(lower)) // 2], lower]


def _rebuilt(drawn, truth: Vertebrae) -> dict[str, list[float]]:
    told = study(drawn.volume, truth, model="sart", levels=_levels(drawn, truth))
    rows = told.manifest["table"]
    return errors(told.bodies, drawn.truth) | {k: [row[k] for row in rows if k in row] for k in ("dice", "assd_mm")}


def _add(kinds: dict[str, list[float]], asked: int, measured) -> None:
    began = perf_counter()
    try:
        found = measured()
    except BadInput as error:
        found = {}
        print(f"refused: {error}")
    for kind, values in (found | {"asked": [asked], "seconds": [perf_counter() - began]}).items():
        kinds.setdefault(kind, []).extend(values)


def on_ct(ct: Path, labels: Path, structures: Path | None, levels: list[str] | None, runs: Sequence[Path]) -> None:
    """Print placement, Dice and surface distances of one CT with its label map: by the truth, by SART, by runs."""
    volume, truth = canonical(read_ct(ct)), from_label_map(canonical(read_ct(labels)), structures=structures)
    print("measured on the label map:", angles(measure_all(truth)[0]), "\n")
    ways = [("truth", "vertebra"), ("sart", "vertebra"), ("sart", "whole"), *((str(run), "vertebra") for run in runs)]
    done = []
    print_head(CT_HEAD)
    for model, rays in ways:
        told = study(volume, truth, model=model, rays=rays, levels=levels).manifest
        done.append((Path(model).name, rays, told))
        print_row(_row(ct.resolve().parent.name, Path(model).name, rays, told))
    for model, rays, told in done:
        print(f"\n{model}, rays: {rays}; heights (mm) and wedge (degrees):", told["beside"]["errors"])
        print("  not measured:", told["not_measured"])
        print("  angles:", told["beside"]["angles"], "\n  true:", told["beside"]["true_angles"])
        print("  Cobb angle at the true curve's levels:", told["beside"].get("cobb_at_true_levels_deg"))
        for row in told["table"]:
            print("  " + "  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


def _row(case: str, model: str, rays: str, told: dict) -> list[str]:
    rows = told["table"]
    ends = f"{case}, {rows[0]['level']} to {rows[-1]['level']}"
    spans = [_span([row[k] for row in rows if k in row], n) for k, n in (("placed_voxels", 3), ("centroid_voxels", 2))]
    spans += [_span([row[k] for row in rows if k in row], n) for k, n in (("dice", 3), ("assd_mm", 2))]
    return [ends, model, "" if model == "truth" else rays, *spans, f"{told['runtime_s']['total']:.0f}"]


def _span(values: list[float], digits: int) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}, mean {np.mean(values):.{digits}f}" if values else "–"


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--phantoms", type=int, default=4)
    parse.add_argument("--no-reconstruction", action="store_true")
    parse.add_argument("--write", action="store_true", help="leave the errors where the program reads them")
    parse.add_argument("--ct", type=Path)
    parse.add_argument("--labels", type=Path)
    parse.add_argument("--structures", type=Path, help="the label map's table of numbers")
    parse.add_argument("--levels", help="such as T11,L2")
    parse.add_argument("--run", type=Path, action="append", default=[], help="a run of the profile vertebra")
    asked = parse.parse_args()
    if asked.ct and asked.labels:
        levels = asked.levels.split(",") if asked.levels else None
        on_ct(asked.ct, asked.labels, asked.structures, levels, asked.run)
        return
    known = on_phantoms(asked.phantoms, not asked.no_reconstruction)
    head, *rows = table(known)
    print_head(head)
    for row in rows:
        print_row(row)
    for way, told in known["ways"].items():
        print(f"\n{way}: {told}")
    if asked.write:
        print("\nwritten:", keep("spine", known).name)


if __name__ == "__main__":
    main()
