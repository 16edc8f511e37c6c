"""Whose each scan is, and which split a patient must be in: `patients.csv` (path, patient, split)."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from raylift.data.split import SPLITS
from raylift.errors import BadInput, unknown_name

COLUMNS = ("path", "patient", "split")


@dataclass(frozen=True, kw_only=True)
class Patients:
    """The rows of a patients.csv; `fixed` is the split of a patient who must be in one."""

    paths: dict[Path, str] = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)  # patient -> what else his first row says

    def of(self, path: Path) -> str | None:
        """The patient of the file or folder `path`: the row that names it or the nearest folder above it."""
        return next((self.paths[p] for p in (path, *path.parents) if p in self.paths), None)

    def strata(self, column: str | None) -> dict[str, str]:
        """Each patient's entry in that column of the table."""
        if column is None:
            return {}
        known = {name for row in self.columns.values() for name in row}
        if column not in known:
            raise unknown_name("column of patients.csv to stratify by", column, known)
        return {patient: row.get(column, "") for patient, row in self.columns.items()}


def read_patients(path: Path | str | None) -> Patients:
    """The patients of a CSV file whose paths are relative to its folder; none where there is no file."""
    if path is None:
        return Patients()
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: cannot be read as a table of patients ({error})") from None
    paths: dict[Path, str] = {}
    fixed: dict[str, str] = {}
    columns: dict[str, dict[str, str]] = {}
    for k, row in enumerate(rows, 2):
        where, patient = (row.get("path") or "").strip(), (row.get("patient") or "").strip()
        split = (row.get("split") or "").strip()
        if not where or not patient:
            raise BadInput(f"{path}, line {k}: each row needs a path and a patient (columns path, patient, split)")
        if split and split not in SPLITS:
            raise unknown_name(f"split ({path.name}, line {k})", split, SPLITS)
        if split and fixed.setdefault(patient, split) != split:
            raise BadInput(
                f"{path}, line {k}: {patient} is in {fixed[patient]} and in {split}; give one split a patient"
            )
        paths[(path.parent / where).resolve()] = patient
        rest = {name: (value or "").strip() for name, value in row.items() if name and isinstance(value, str | None)}
        columns.setdefault(patient, {name: value for name, value in rest.items() if name not in COLUMNS})
    if not paths:
        raise BadInput(f"{path}: no rows (columns path, patient, split)")
    return Patients(paths=paths, fixed=fixed, columns=columns)
