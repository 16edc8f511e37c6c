"""What is written when all cases are done: rejected.csv, notes.csv, splits.json, and last dataset.json."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raylift.data.prepare.alike import same_scans
from raylift.data.prepare.profiles import Profile
from raylift.data.prepare.scores import training_target
from raylift.data.prepare.work import Outcome
from raylift.data.records import target_record
from raylift.data.split import RATIOS, listed_splits, split_hash, split_patients
from raylift.data.store import VERSION
from raylift.errors import BadInput
from raylift.io.files import whole_file, write_json
from raylift.physics import VACUUM_HU


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """How the patients are divided; `fixed` says where a patient must be, and `listed` is a file that says it all."""

    ratios: tuple[float, ...] = RATIOS
    seed: int = 0
    fold: tuple[int, int] | None = None  # k, of n
    listed: Path | None = None
    stratify: str | None = None  # a column of patients.csv
    strata: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)

    def record(self) -> dict:
        """What splits.json says of it."""
        told = {"ratios": list(self.ratios), "seed": self.seed}
        told |= {"stratified_by": self.stratify} if self.stratify else {}
        told |= {"fold": list(self.fold)} if self.fold else {}
        return {"listed": self.listed.name} if self.listed else told


@dataclass(frozen=True, kw_only=True)
class Written:
    """What the last step found: cases in the folder that none of the sources made, and what was noticed."""

    left_out: list[str]
    noted: list[tuple[str, str]]


def write_manifest(
    out: Path,
    outcomes: Sequence[Outcome],
    *,
    profile: Profile,
    settings: str,
    splitting: Splitting,
    told: set[str],
    others: Sequence[tuple[str, str]] = (),
) -> Written:
    """Write the four files; `told` are the cases whose patients.csv has a row for, `others` what is no CT."""
    patients = {case: o.patient for o in outcomes for case in o.cases}
    content = {case: scan for o in outcomes for case, scan in o.cases.items()}
    looks = {case: look for o in outcomes for case, look in o.looks.items()}
    scans = same_scans(content, looks, told)
    splits, missing = _divided(patients, scans, splitting)
    noted = [*others, *(n for o in outcomes for n in o.noted), *_shared(scans, content, splitting)]
    noted += [(str(splitting.listed), f"'{name}' is no case or patient of this data set") for name in missing]
    noted += [(case, "in no split: the list does not name it") for case in _unlisted(patients, splits)]
    _write_rejected(out / "rejected.csv", outcomes)
    _write_table(out / "notes.csv", ("file or case", "note"), sorted(set(noted)))
    kept = {case: patients[case] for case in sorted(patients)}
    write_json(
        out / "splits.json",
        {"splits": splits, "patients": kept, "hash": split_hash(splits, patients, content)} | splitting.record(),
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
            "target": target_record(training_target(profile.target, out / "cases", splits["train"])),
            "complete_rays": profile.complete_rays and profile.floor_hu <= VACUUM_HU,
            "floor_hu": profile.floor_hu,
            "keeps": profile.keeps,
            "gamma": profile.gamma,
            "angle_deg": profile.angle_deg,
            "poses": profile.poses,
            "between_deg": list(profile.between_deg),
            "settings": settings,
            "sources": content,
        },
    )
    here = {p.name for p in (out / "cases").iterdir() if not p.name.startswith(".")}
    return Written(left_out=sorted(here - set(patients)), noted=sorted(set(noted)))


def _divided(
    patients: Mapping[str, str], scans: Mapping[str, str], splitting: Splitting
) -> tuple[dict[str, list[str]], list[str]]:
    """The splits, and the names of an imported list that no case has."""
    if splitting.listed is None:
        return split_patients(
            patients,
            ratios=splitting.ratios,
            seed=splitting.seed,
            fixed=splitting.fixed,
            content=scans,
            strata=splitting.strata,
            fold=splitting.fold,
        ), []
    splits, missing = listed_splits(splitting.listed, patients, scans)
    for split, cases in splits.items():
        for case in cases:
            if splitting.fixed.get(patients[case], split) != split:
                raise BadInput(
                    f"{splitting.listed.name} puts '{case}' in {split}, patients.csv puts its patient in "
                    f"{splitting.fixed[patients[case]]}"
                )
    return splits, missing


def _unlisted(patients: Mapping[str, str], splits: Mapping[str, Sequence[str]]) -> list[str]:
    listed = {case for cases in splits.values() for case in cases}
    return sorted(set(patients) - listed)


def _shared(scans: Mapping[str, str], content: Mapping[str, str], splitting: Splitting) -> list[tuple[str, str]]:
    """A note on each case whose scan is there under another name already."""
    first: dict[str, str] = {}
    notes = []
    for case, scan in sorted(scans.items()):
        one = first.setdefault(scan, case)
        if one != case:
            how = "the same voxels as" if content[one] == content[case] else "like a copy with other voxels of"
            notes.append((case, f"{how} '{one}'; both are in one split"))
    return notes


def _write_rejected(path: Path, outcomes: Sequence[Outcome]) -> None:
    rows = [(file, "rejected", reason) for o in outcomes for file, reason in o.rejected]
    rows += [(file, "failed", reason) for o in outcomes for file, reason in o.failed]
    _write_table(path, ("file", "kind", "reason"), sorted(rows))


def _write_table(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with whole_file(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(head)
        table.writerows(rows)


def refuse_another(out: Path, profile: Profile) -> None:
    """Raises where `out` holds a data set of another profile or geometry."""
    try:
        told = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
        there = (told["profile"], told["preset"], told["rays"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if there != (profile.name, profile.preset, profile.rays):
        raise BadInput(
            f"{out} holds a data set of profile {there[0]} with geometry {there[1]} and rays of {there[2]}; "
            f"name another folder for {profile.name} with {profile.preset} and rays of {profile.rays}"
        )
