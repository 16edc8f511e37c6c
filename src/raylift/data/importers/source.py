"""What an importer gives: where a CT lies, whose it is as far as the layout says, and its label map."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
EDGE = 65536  # bytes of each file's beginning and end that its fingerprint reads


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file or a DICOM folder that may hold CTs."""

    path: Path
    id: str = ""  # the name that its case will have; '': after its path
    patient: str | None = None  # None: the layout does not say
    study: str | None = None  # what the patient's scans of one visit share
    labels: Path | None = None  # the label map on the same grid

    @property
    def files(self) -> list[Path]:
        """The files it consists of, the label map last."""
        own = [self.path] if self.path.is_file() else [p for p in visible(self.path) if p.is_file()]
        return own + ([self.labels] if self.labels else [])

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


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies in a folder: CTs to be read, and (file, reason) of what the layout itself says is none."""

    sources: tuple[Source, ...] = ()
    others: tuple[tuple[str, str], ...] = ()

    def __add__(self, more: "Found") -> "Found":
        return Found(sources=self.sources + more.sources, others=self.others + more.others)


def visible(folder: Path) -> list[Path]:
    """What lies in the folder itself, sorted, without hidden files (which archives made on a Mac are full of)."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def volume_files(folder: Path) -> list[Path]:
    """The volume files in the folder and below it, sorted."""
    found = (p for p in folder.rglob("*") if p.name.lower().endswith(SUFFIXES) and p.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def stem(path: Path) -> str:
    """The file's name without its suffix; '.nii.gz' counts as one.

    >>> stem(Path("a/sub-1_ct.nii.gz"))
    'sub-1_ct'
    """
    name = path.name
    suffix = next((s for s in SUFFIXES if name.lower().endswith(s)), path.suffix)
    return name[: len(name) - len(suffix)]


def where(path: Path) -> str:
    """The file's name with the folder it lies in: enough to find it, and no more of the machine."""
    return "/".join(path.parts[-2:])
