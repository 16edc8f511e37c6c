"""CTSpine1K: CTs under `data/`, vertebrae under `label/` with `_seg` behind the same name.

The files do not say whose they are: each is its own patient unless patients.csv or equal voxels say otherwise.
"""

from pathlib import Path

from raylift.data.importers.source import Found, Source, stem, volume_files

CTS, LABELS = "data", "label"
ENDS = ("_seg", "_label", "")


def recognises(folder: Path) -> bool:
    """True where volumes lie under `data`, and `label` holds one that is named after one of them."""
    cts, labels = folder / CTS, folder / LABELS
    if not (cts.is_dir() and labels.is_dir()):
        return False
    names = {stem(p) for p in volume_files(cts)}
    return any(_owner(p, names) for p in volume_files(labels))


def sources(folder: Path) -> Found:
    """The CTs, each with its vertebrae where they are labelled."""
    cts = volume_files(folder / CTS)
    names = {stem(p) for p in cts}
    masks = {_owner(p, names): p for p in volume_files(folder / LABELS)}
    return Found(sources=tuple(Source(path=p, id=stem(p), labels=masks.get(stem(p))) for p in cts))


def _owner(label: Path, names: set[str]) -> str | None:
    """The CT that a label map is named after."""
    return next((stem(label).removesuffix(end) for end in ENDS if stem(label).removesuffix(end) in names), None)
