"""Which CTs lie in the folders that were named: DICOM folders and volume files, told by content, in a fixed order."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raylift.errors import BadInput

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
PLAIN = ("ct", "image", "volume", "scan")  # file names that say less than their folder's
EDGE = 65536  # bytes of each file's beginning and end that its fingerprint reads


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file or a DICOM folder that may hold CTs, and the name that its case will have."""

    path: Path
    id: str

    @property
    def files(self) -> list[Path]:
        """The files it consists of."""
        return [self.path] if self.path.is_file() else _files(self.path)

    def fingerprint(self) -> str:
        """A hash of names, sizes and both ends of its files; it changes when they do."""
        total = hashlib.sha256()
        for file in self.files:
            size = file.stat().st_size
            total.update(f"{file.name}\n{size}\n".encode())
            with open(file, "rb") as content:
                total.update(content.read(EDGE))
                if size > EDGE:
                    content.seek(-min(EDGE, size - EDGE), os.SEEK_END)
                    total.update(content.read())
        return total.hexdigest()


def find_sources(paths: Sequence[Path | str]) -> list[Source]:
    """What lies under `paths`, each once, with names that depend on the paths alone."""
    found: dict[Path, str] = {}
    for given in map(Path, paths):
        if not given.exists():
            raise BadInput(f"{given}: no such file or folder")
        for path in [given] if given.is_file() else _under(given):
            found.setdefault(path.resolve(), _name(path, given))
    if not found:
        raise BadInput(f"{', '.join(map(str, paths))}: no DICOM folder and no {', '.join(SUFFIXES)} file in it")
    sources, taken = [], set()
    for path, name in sorted(found.items()):
        unique, k = name, 2
        while unique in taken:
            unique, k = f"{name}-{k}", k + 1
        taken.add(unique)
        sources.append(Source(path=path, id=unique))
    return sources


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def _under(folder: Path) -> list[Path]:
    """Volume files under `folder`, and folders that hold DICOM files themselves (their own subfolders go with them)."""
    files = _files(folder)
    found = [file for file in files if file.name.lower().endswith(SUFFIXES)]
    rest = [f for f in files if not f.name.lower().endswith(SUFFIXES) and f.name.upper() != "DICOMDIR"]
    if any(_is_dicom(file) for file in rest):
        return [*found, folder]
    for below in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        found += _under(below)
    return found


def _is_dicom(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


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
    name = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")
    return name[:80] or "case"
