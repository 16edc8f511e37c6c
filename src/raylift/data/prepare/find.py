"""Which CTs lie in the folders that were named: by their layout or by content, in a fixed order, each with a name."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from raylift.data.importers import Found, Source, look
from raylift.data.importers.source import SUFFIXES
from raylift.errors import BadInput

PLAIN = ("ct", "image", "volume", "scan", "ct_xray_data")  # file names that say less than their folder's

__all__ = ["Source", "find_all", "find_sources"]


def find_sources(paths: Sequence[Path | str]) -> list[Source]:
    """What lies under `paths` and may be a CT, each once, with names that depend on the paths alone."""
    return list(find_all(paths).sources)


def find_all(paths: Sequence[Path | str]) -> Found:
    """The same, and what the layouts themselves say is no CT."""
    found: dict[Path, Source] = {}
    others: dict[tuple[str, str], None] = {}
    for given in map(Path, paths):
        if not given.exists():
            raise BadInput(f"{given}: no such file or folder")
        here = Found(sources=(Source(path=given),)) if given.is_file() else look(given)
        for source in here.sources:
            name = _plain(source.id) if source.id else _name(source.path, given)
            found.setdefault(source.path.resolve(), _anywhere(replace(source, id=name)))
        others |= dict.fromkeys(here.others)
    if not found:
        known = ", ".join((*SUFFIXES, ".h5"))
        raise BadInput(f"{', '.join(map(str, paths))}: no DICOM folder and no {known} file in it")
    return Found(sources=tuple(_unique(found)), others=tuple(sorted(others)))


def _anywhere(source: Source) -> Source:
    """The source with whole paths, since a cluster's workers stand elsewhere."""
    labels = None if source.labels is None else source.labels.resolve()
    return replace(source, path=source.path.resolve(), labels=labels)


def _unique(found: dict[Path, Source]) -> list[Source]:
    sources, taken = [], set()
    for _, source in sorted(found.items()):
        unique, k = source.id, 2
        while unique in taken:
            unique, k = f"{source.id}-{k}", k + 1
        taken.add(unique)
        sources.append(replace(source, id=unique))
    return sources


def _name(path: Path, given: Path) -> str:
    """`path` below `given`, as a plain name; a file called 'ct' is named by its folder."""
    if path == given:
        parts = [path.resolve().name] if path.is_dir() else [path.resolve().parent.name, path.name]
        keep_folder = False
    else:
        parts = list(path.relative_to(given).parts)
        keep_folder = True
        if len(parts) == 1 and path.is_file():
            parts = [given.resolve().name, *parts]
            keep_folder = False
    if path.is_file():
        stem = next(
            (parts[-1][: -len(s)] for s in SUFFIXES if parts[-1].lower().endswith(s)), parts[-1].rsplit(".", 1)[0]
        )
        folders = parts[:-1]
        parts = folders if stem.lower() in PLAIN else [*(folders if keep_folder else []), stem]
    return _plain("-".join(parts))


def _plain(name: str) -> str:
    """Small letters, digits and hyphens; 80 at most."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80] or "case"
