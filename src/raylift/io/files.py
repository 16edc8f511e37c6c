"""Whole files or none: sizes that are asked for before anything is read, and writes that cannot be half done."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raylift.errors import BadInput

MAX_VOXELS = 800_000_000  # ours: 512 x 512 x 3000, 1.6 GB in memory; a header that declares more is refused
MAX_PIXELS = 100_000_000  # ours: the largest panels have 20 million

PathLike = str | os.PathLike


def existing(path: PathLike) -> Path:
    """`path` as a Path, or the error that says nothing is there."""
    path = Path(path)
    try:
        found = path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL in it
        found = False
    if not found:
        raise BadInput(f"{shown(path)}: no such file or folder")
    return path


def shown(path: PathLike) -> str:
    """The file's name as it may stand in a message: one line, no control characters, at most 120 letters."""
    name = Path(path).name or str(path)
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    return name if len(name) <= 120 else f"{name[:117]}..."


def check_voxels(shape, name: str, limit: int | None = None) -> None:
    """Raises where a header declares more voxels than `limit` (MAX_VOXELS), or none; nothing is allocated before."""
    limit = MAX_VOXELS if limit is None else limit
    count = 1
    for n in shape:
        count *= int(n)
    if count < 1 or min(int(n) for n in shape) < 1:
        raise BadInput(f"{name}: declares an empty picture ({' x '.join(map(str, shape))})")
    if count > limit:
        raise BadInput(f"{name}: declares {' x '.join(map(str, shape))} values, the limit is {limit:,}")


@contextmanager
def whole_file(path: PathLike) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path` when the block ends well, and vanishes when not."""
    path = Path(path)
    suffixes = "".join(path.suffixes[-2:])  # a writer that looks at the suffix sees the same one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".raylift-", suffix=suffixes)
    except OSError as error:
        raise BadInput(f"{shown(path)}: cannot be written ({error.strerror})") from None
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        _sync(beside)
        os.chmod(beside, 0o666 & ~umask())  # mkstemp makes it private
        os.replace(beside, path)
        _sync(path.parent)
    except OSError as error:
        raise BadInput(f"{shown(path)}: cannot be written ({error.strerror or 'disk error'})") from None
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: PathLike, replaceable: str) -> Iterator[Path]:
    """A folder beside `path` to write to; it becomes `path` when the block ends well, and vanishes when not.

    A folder that is there already gives way only if all its files match the pattern `replaceable`.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(not p.match(replaceable) or p.is_dir() for p in path.iterdir())):
        raise BadInput(f"{shown(path)}: exists and holds other files; choose another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=".raylift-"))
    except OSError as error:
        raise BadInput(f"{shown(path)}: cannot be written ({error.strerror})") from None
    old = beside.with_name(beside.name + "-old")
    try:
        yield beside
        for file in beside.iterdir():
            _sync(file)
        os.chmod(beside, 0o777 & ~umask())
        if path.exists():
            os.replace(path, old)
        os.replace(beside, path)
        _sync(path.parent)
    except OSError as error:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise BadInput(f"{shown(path)}: cannot be written ({error.strerror or 'disk error'})") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def umask() -> int:
    """The permissions that new files go without."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
