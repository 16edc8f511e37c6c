"""What is written when all cases are done: rejected.csv, splits.json, and last dataset.json."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from raylift.data.atomic import write_file, write_json
from raylift.data.prepare.profiles import Profile
from raylift.data.prepare.work import Outcome
from raylift.data.records import target_record
from raylift.data.split import split_hash, split_patients
from raylift.data.store import VERSION
from raylift.errors import BadInput


def write_manifest(
    out: Path,
    outcomes: Sequence[Outcome],
    *,
    profile: Profile,
    settings: str,
    fixed: Mapping[str, str],
    ratios: tuple[float, ...],
    seed: int,
) -> list[str]:
    """Write the three files and return the cases in the folder that belong to none of the outcomes."""
    patients = {case: o.patient for o in outcomes for case in o.cases}
    content = {case: scan for o in outcomes for case, scan in o.cases.items()}
    splits = split_patients(patients, ratios=ratios, seed=seed, fixed=fixed, content=content)
    _write_rejected(out / "rejected.csv", outcomes)
    write_json(
        out / "splits.json",
        {
            "splits": splits,
            "patients": patients,
            "ratios": list(ratios),
            "seed": seed,
            "hash": split_hash(splits, patients, content),
        },
    )
    write_json(
        out / "dataset.json",
        {
            "version": VERSION,
            "profile": profile.name,
            "preset": profile.preset,
            "rays": profile.rays,
            "spacing": profile.spacing,
            "size": profile.size,
            "pixels": profile.pixels,
            "views": [str(v) for v in profile.views],
            "target": target_record(profile.target),
            "complete_rays": profile.complete_rays,
            "settings": settings,
            "sources": content,
        },
    )
    here = {p.name for p in (out / "cases").iterdir() if not p.name.startswith(".")}
    return sorted(here - set(patients))


def _write_rejected(path: Path, outcomes: Sequence[Outcome]) -> None:
    rows = [(file, "rejected", reason) for o in outcomes for file, reason in o.rejected]
    rows += [(file, "failed", reason) for o in outcomes for file, reason in o.failed]

    def write(partial: Path) -> None:
        with open(partial, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("file", "kind", "reason"))
            table.writerows(sorted(rows))

    write_file(path, write)


def refuse_another(out: Path, profile: Profile) -> None:
    """Raises where `out` holds a data set of another profile or geometry."""
    try:
        told = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
        there = (told["profile"], told["preset"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if there != (profile.name, profile.preset):
        raise BadInput(
            f"{out} holds a data set of profile {there[0]} with geometry {there[1]}; "
            f"name another folder for {profile.name} with {profile.preset}"
        )
