"""Leave one patient out on real CTs: phantoms and all other patients to train on, one patient to judge, in turn."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from raylift.compare import Comparison, Row, compare
from raylift.data.split import split_hash
from raylift.data.store import Dataset, open_dataset
from raylift.errors import BadInput
from raylift.experiments.reduced import entrant_of
from raylift.experiments.spec import WINDOW, Experiment, Size
from raylift.io.files import write_json


def over_patients(
    experiment: Experiment,
    size: Size,
    phantoms: Dataset,
    real: Path,
    room: Path,
    *,
    device: str | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """The experiment's rows over all real patients, each judged by nets that never saw that patient.

    `real` is a prepared data set of the phantoms' profile. A training for each patient and row: hours; resumable.
    """
    dataset = open_dataset(real)
    if dataset.profile != phantoms.profile:
        raise BadInput(f"{real}: its profile is '{dataset.profile}', {experiment.name} needs '{phantoms.profile}'")
    patients = sorted(set(dataset.patients.values()))
    if len(patients) < 2:
        raise BadInput(f"{real}: leaving one patient out needs two patients, it has {len(patients)}")
    folds = []
    for number, patient in enumerate(patients):
        tell(f"patient {number + 1} of {len(patients)}: {patient}")
        fold = _fold(phantoms, dataset, patient, room / f"fold-{number:02d}" / f"without-{number:02d}")
        entrants = [entrant_of(variant, fold, size) for variant in experiment.rows]
        place = room / f"fold-{number:02d}"
        folds.append(
            compare(
                entrants,
                fold.folder,
                place,
                window=WINDOW,
                columns=experiment.columns,
                steps=size.steps,
                reference=experiment.reference,
                device=device,
                tell=tell,
            )
        )
    return merged(folds, f"{dataset.folder.name}, leave one of {len(patients)} patients out")


def _fold(phantoms: Dataset, real: Dataset, patient: str, folder: Path) -> Dataset:
    """The data set that leaves `patient` out; its cases are links."""
    out = [case for case, whose in real.patients.items() if whose == patient]
    rest = [case for case, whose in real.patients.items() if whose != patient]
    splits = {"train": [*phantoms.splits["train"], *rest], "test": out}
    if "val" in phantoms.splits:
        splits["val"] = list(phantoms.splits["val"])
    patients = {**{case: case for case in phantoms.patients}, **real.patients}
    if len(patients) < len(phantoms.patients) + len(real.patients):
        raise BadInput(f"{real.folder}: a case is named as a phantom is")
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    for base, names in ((phantoms, phantoms.patients), (real, real.patients)):
        for name in names:
            link = folder / "cases" / name
            if not link.is_symlink():
                os.symlink((base.folder / "cases" / name).resolve(), link)
    told = {"splits": splits, "patients": patients, "hash": split_hash(splits, patients, {})}
    write_json(folder / "splits.json", told)
    write_json(folder / "dataset.json", json.loads((phantoms.folder / "dataset.json").read_text(encoding="utf-8")))
    return open_dataset(folder)


def merged(folds: Sequence[Comparison], data: str) -> Comparison:
    """One comparison over the cases of all folds; a row that failed in one fold has that fold's cases as failed."""
    rows = [_merged_row([fold.rows[k] for fold in folds]) for k in range(len(folds[0].rows))]
    return replace(folds[0], data=data, split="all patients", split_hash=f"{len(folds)} folds", rows=tuple(rows))


def _merged_row(parts: Sequence[Row]) -> Row:
    whole = [part for part in parts if part.scores is not None]
    if not whole:
        return parts[0]
    failed = {f"fold {k}": part.failure or "failed" for k, part in enumerate(parts) if part.scores is None}
    cases = {case: row for part in whole for case, row in part.scores.cases.items()}
    failed |= {case: reason for part in whole for case, reason in part.scores.failed.items()}
    return replace(whole[0], scores=replace(whole[0].scores, cases=cases, failed=failed), run="fold-*/" + whole[0].run)
