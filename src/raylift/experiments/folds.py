"""Leave one patient out on real CTs: phantoms and all other patients to train on, one patient to judge, in turn."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from raylift.compare import Comparison, Row, compare
from raylift.data import store
from raylift.data.split import split_hash
from raylift.data.store import Case, Dataset, open_dataset
from raylift.errors import BadInput
from raylift.experiments.reduced import entrant_of
from raylift.experiments.spec import WINDOW, Experiment, Size
from raylift.io.files import write_json
from raylift.panels import averaged
from raylift.types import Grid, Volume

WHOLE = 1e-6  # ours: what rounding may take from a voxel that is known as a whole


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

    `real` is a prepared data set of the phantoms' profile; patients of its test split are judged, and never trained on.
    A training for each patient and row: hours; resumable.
    """
    dataset = open_dataset(real)
    if dataset.profile != phantoms.profile:
        raise BadInput(f"{real}: its profile is '{dataset.profile}', {experiment.name} needs '{phantoms.profile}'")
    patients = sorted(set(dataset.patients.values()))
    if len(patients) < 2:
        raise BadInput(f"{real}: leaving one patient out needs two patients, it has {len(patients)}")
    cases = at_size(dataset, phantoms.size, room / "patients")
    folds = []
    for number, patient in enumerate(patients):
        tell(f"patient {number + 1} of {len(patients)}: {patient}")
        fold = _fold(phantoms, dataset, cases, patient, room / f"fold-{number:02d}" / f"without-{number:02d}")
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
    counted = f"{len(dataset.patients)} cases of {len(patients)} patients"
    whole = f"{counted} of {dataset.folder.name}, one left out at a time"
    return merged(dict(zip(patients, folds, strict=True)), whole)


def _fold(phantoms: Dataset, real: Dataset, cases: Path, patient: str, folder: Path) -> Dataset:
    """The data set that leaves `patient` out, and all of the real test split; its cases are links, the real ones to
    those in `cases`.
    """
    out = [case for case, whose in real.patients.items() if whose == patient]
    kept = {patient} | {real.patients[case] for case in real.splits.get("test", ())}
    rest = [case for case, whose in real.patients.items() if whose not in kept]
    splits = {"train": [*phantoms.splits["train"], *rest], "test": out}
    if "val" in phantoms.splits:
        splits["val"] = list(phantoms.splits["val"])
    patients = {**{case: case for case in phantoms.patients}, **real.patients}
    if len(patients) < len(phantoms.patients) + len(real.patients):
        raise BadInput(f"{real.folder}: a case is named as a phantom is")
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    for place, names in ((phantoms.folder / "cases", phantoms.patients), (cases, real.patients)):
        for name in names:
            link = folder / "cases" / name
            if not link.is_symlink():
                os.symlink((place / name).resolve(), link)
    told = {"splits": splits, "patients": patients, "hash": split_hash(splits, patients, {})}
    write_json(folder / "splits.json", told)
    write_json(folder / "dataset.json", json.loads((phantoms.folder / "dataset.json").read_text(encoding="utf-8")))
    return open_dataset(folder)


def at_size(real: Dataset, size: int, folder: Path) -> Path:
    """Where the cases lie that can be averaged to `size` voxels a side: the data set's own, or copies in `folder`."""
    if not real.size % size:
        return real.folder / "cases"
    for name in real.patients:
        if not (folder / name).is_dir():
            coarser(real.case(name), folder / name, size)
    return folder


def coarser(case: Case, folder: Path, size: int) -> None:
    """Write `case` at `size` voxels and pixels a side, each the mean of what it covers; no source, no labels."""
    valid = case.valid()
    spacing = tuple(np.multiply(case.grid.spacing_mm, case.grid.shape) / size)
    grid = Grid.canonical((size,) * 3, spacing, tuple(case.grid.centre_mm))
    store.write_case(
        folder,
        patient=case.patient,
        ct=Volume(hu=averaged(np.asarray(case.ct(), np.float32), size, size, size), grid=grid, source=case.id),
        xrays=np.stack([averaged(xray, size, size) for xray in case.xrays()]),
        beams={view: beam.resized(size, size) for view, beam in zip(case.views, case.beams, strict=True)},
        valid=None if valid is None else averaged(valid.astype(np.float32), size, size, size) > 1 - WHOLE,
    )


def merged(folds: Mapping[str, Comparison], data: str) -> Comparison:
    """One comparison of all folds, patient by patient: a value is the mean over a patient's cases, which are no
    independent ones. A row that failed in a fold has that patient as failed.
    """
    first, *_ = folds.values()
    rows = [_merged_row({patient: fold.rows[k] for patient, fold in folds.items()}) for k in range(len(first.rows))]
    split_hash = f"{len(folds)} folds"
    return replace(first, data=data, split="all patients", split_hash=split_hash, rows=tuple(rows), each="patient")


def _merged_row(parts: Mapping[str, Row]) -> Row:
    whole = [part for part in parts.values() if part.scores is not None]
    if not whole:
        return next(iter(parts.values()))
    failed = {patient: part.failure or "failed" for patient, part in parts.items() if part.scores is None}
    failed |= {case: reason for part in whole for case, reason in part.scores.failed.items()}
    means = {
        patient: {metric: part.mean(metric) for metric in part.scores.columns}
        for patient, part in parts.items()
        if part.scores is not None and part.scores.cases
    }
    return replace(whole[0], scores=replace(whole[0].scores, cases=means, failed=failed), run="fold-*/" + whole[0].run)
