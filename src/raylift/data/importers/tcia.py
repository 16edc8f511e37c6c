"""A download of The Cancer Imaging Archive: `metadata.csv` with one row a series, and a folder for each.

Only the CT series are read; scouts among their slices are found by the DICOM reader. A series that the table names but
that is not there is told, and so is each that is no CT. Patients are known by the files' own PatientID.
"""

import csv
import hashlib
from pathlib import Path

from raylift.data.importers import plain
from raylift.data.importers.source import Found, Source, visible

TABLE = "metadata.csv"
NEEDED = ("File Location", "Modality")


def recognises(folder: Path) -> bool:
    """True where `metadata.csv` says where each series is and of which modality."""
    return bool(_rows(folder))


def sources(folder: Path) -> Found:
    """The folders of the CT series that the table names, and DICOM folders that it does not."""
    found, others, named = [], [], set()
    for row in _rows(folder):
        told = (row["File Location"] or "").strip().replace("\\", "/").removeprefix("./")
        place, modality = folder / told, (row["Modality"] or "").strip().upper()
        where = "/".join(Path(told).parts[-2:])
        named.add(place.resolve())
        if modality != "CT":
            others.append((where, f"a series of modality {modality or 'unknown'}, not a CT"))
        elif not told or not place.is_dir() or not place.resolve().is_relative_to(folder.resolve()):
            others.append((where, f"{TABLE} names this CT series, but its folder is not there"))
        else:
            found.append(Source(path=place, study=_anonymous(row.get("Study UID"))))
    for place in _folders(folder):
        if place.resolve() not in named:
            found += [source for source in plain.sources(place).sources if source.path == place]
    return Found(sources=tuple(found), others=tuple(others))


def _rows(folder: Path) -> list[dict[str, str]]:
    try:
        with open(folder / TABLE, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            return list(table) if set(NEEDED) <= set(table.fieldnames or ()) else []
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _folders(folder: Path):
    for below in visible(folder):
        if below.is_dir():
            yield below
            yield from _folders(below)


def _anonymous(uid: str | None) -> str | None:
    """16 hex digits that stand for a study, never its UID."""
    return hashlib.sha256(uid.strip().encode()).hexdigest()[:16] if uid and uid.strip() else None
