"""A folder as it is: volume files beside one another, each perhaps with a label map, or the files of DICOM series."""

import re
from pathlib import Path

from raylift.data.importers.source import SUFFIXES, Found, Source, stem, visible
from raylift.errors import RayliftError

LABEL_WORDS = ("vertebrae", "vert", "msk", "mask", "masks", "label", "labels", "seg", "segmentation")  # the best first


def sources(folder: Path) -> Found:
    """The volume files in `folder` itself, and `folder` where DICOM files lie in it.

    A label map goes with its CT; one of no CT is a source as any other, and refused when it is read.
    """
    files = [p for p in visible(folder) if p.is_file()]
    volumes = [p for p in files if p.name.lower().endswith(SUFFIXES)]
    ranks = {p: rank for p in volumes if (rank := _label_rank(p)) is not None}
    cts = [p for p in volumes if p not in ranks] or volumes
    found = [Source(path=ct, labels=_labels_of(ct, cts, ranks)) for ct in cts]
    used = {source.labels for source in found}
    found += [Source(path=p) for p in volumes if p not in cts and p not in used]
    rest = [p for p in files if p not in volumes and p.name.upper() != "DICOMDIR"]
    if any(_is_dicom(p) for p in rest):
        found.append(Source(path=folder))
    return Found(sources=tuple(found))


def _labels_of(ct: Path, cts: list[Path], ranks: dict[Path, int]) -> Path | None:
    """The best label map on the grid of `ct`: of those named after it, or of all beside a lone CT."""
    base = re.sub(r"[-_. ]?(ct|image|scan|volume)$", "", stem(ct).lower())
    near = [p for p in ranks if p not in cts and (len(cts) == 1 or (base and p.name.lower().startswith(base)))]
    return min((p for p in near if _same_shape(p, ct)), key=lambda p: (ranks[p], p.name), default=None)


def _label_rank(path: Path) -> int | None:
    """How well the name says that it is a label map, 0 the best; None: it does not."""
    words = re.split(r"[^a-z0-9]+", stem(path).lower())
    return min((LABEL_WORDS.index(word) for word in words if word in LABEL_WORDS), default=None)


def _same_shape(one: Path, other: Path) -> bool:
    from raylift import io

    try:
        grids = [io.survey_cts(path).cts[0].grid for path in (one, other)]
    except RayliftError:
        return False
    return grids[0].shape == grids[1].shape


def _is_dicom(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"
