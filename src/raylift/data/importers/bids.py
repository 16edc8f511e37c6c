"""BIDS as VerSe uses it: `rawdata/sub-*/..._ct.nii.gz` and `derivatives/sub-*/..._seg-vert_msk.nii.gz`.

A subject is a patient; VerSe's `split-` entity marks several scans of one.
"""

from pathlib import Path

from raylift.data.importers.source import Found, Source, stem, visible, volume_files

RAW, DERIVED = "rawdata", "derivatives"
CT_END, MASK_END = "_ct", "_seg-vert_msk"


def recognises(folder: Path) -> bool:
    """True where `rawdata` holds subjects."""
    raw = folder / RAW
    return raw.is_dir() and any(p.is_dir() and p.name.startswith("sub-") for p in visible(raw))


def sources(folder: Path) -> Found:
    """The subjects' CTs, each with its vertebrae where they are labelled."""
    masks = {stem(p).removesuffix(MASK_END): p for p in _below(folder / DERIVED) if stem(p).endswith(MASK_END)}
    found, others = [], []
    for path in _below(folder / RAW):
        name = stem(path)
        if not name.endswith(CT_END):
            others.append((f"{path.parent.name}/{path.name}", "not named _ct: not a CT"))
            continue
        name = name.removesuffix(CT_END)
        found.append(Source(path=path, id=name, patient=name.split("_")[0], labels=masks.get(name)))
    return Found(sources=tuple(found), others=tuple(others))


def _below(folder: Path) -> list[Path]:
    return volume_files(folder) if folder.is_dir() else []
