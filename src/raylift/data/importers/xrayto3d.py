"""The lists of xrayto3D: a CSV table with columns ap, lat and seg (and perhaps ct), one row a cut-out.

Its CTs lie beside the label maps, in `ct_roi` where those are in `seg_roi`. Paths are of the machine that wrote the
list; what of them exists below the list's folder is taken.
"""

import csv
from pathlib import Path

from raylift.data.importers.source import SUFFIXES, Found, Source, stem, visible

NEEDED = {"ap", "lat", "seg"}
MASK_ENDS = ("-seg-vert_msk", "_seg-vert_msk", "_msk", "-seg")


def recognises(folder: Path) -> bool:
    """True where a table of that kind lies in the folder."""
    return any(_rows(path) for path in _tables(folder))


def sources(folder: Path) -> Found:
    """The CTs of all rows, each with its label map."""
    found, others = {}, []
    for table in _tables(folder):
        for row in _rows(table):
            labels = _placed(row["seg"], folder)
            ct = _placed(row["ct"], folder) if row.get("ct") else _ct_beside(labels)
            if ct is None:
                others.append(("/".join(Path(row["seg"]).parts[-2:]), f"{table.name} names it, but no CT is there"))
                continue
            found[ct] = Source(path=ct, id=stem(ct), patient=_subject(ct), labels=labels)
    return Found(sources=tuple(found[path] for path in sorted(found)), others=tuple(others))


def _tables(folder: Path) -> list[Path]:
    return [p for p in visible(folder) if p.suffix.lower() == ".csv" and p.is_file()]


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            return [row for row in table if row["seg"]] if set(table.fieldnames or ()) >= NEEDED else []
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _placed(told: str, folder: Path) -> Path | None:
    """The longest end of the path `told` that exists below `folder`."""
    parts = [part for part in Path(told.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    ends = (folder.joinpath(*parts[k:]) for k in range(len(parts)))
    return next((end for end in ends if end.is_file()), None)


def _ct_beside(labels: Path | None) -> Path | None:
    """The cut-out CT of a label map: in `ct_roi`, under the same name with 'ct' for what says 'mask'."""
    if labels is None:
        return None
    base = next((stem(labels).removesuffix(end) for end in MASK_ENDS if stem(labels).endswith(end)), stem(labels))
    names = (f"{base}{joint}ct{suffix}" for joint in "_-" for suffix in SUFFIXES)
    places = (labels.parent.with_name("ct_roi") / name for name in names)
    return next((place for place in places if place.is_file()), None)


def _subject(ct: Path) -> str | None:
    """The folder above `derivatives`: one subject's."""
    parts = ct.parts
    return parts[parts.index("derivatives") - 1].split("_")[0] if "derivatives" in parts[1:] else None
