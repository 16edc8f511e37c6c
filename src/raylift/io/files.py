"""Whole files or none: sizes that are asked for before anything is read, and writes that cannot be half done."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from socket import gethostname
from typing import Any

from raylift.errors import BadInput

MAX_VOXELS = 800_000_000  # ours: 512 x 512 x 3000, 1.6 GB in memory; a header that declares more is refused
MAX_PIXELS = 100_000_000  # ours: the largest panels have 20 million
EXCHANGES = 1000  # ours: so often a folder is tried to be put where other processes put theirs

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
    with _reported(path), _beside(path) as beside:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch()  # where nothing can be written that is said before the work
        yield beside
        flush(beside)
        os.replace(beside, path)
        flush(path.parent)


@contextmanager
def whole_folder(path: PathLike, replaceable: str | None = None, *, keep: bool = False) -> Iterator[Path]:
    """A folder beside `path` to write to; it becomes `path` when the block ends well, and vanishes when not.

    A folder that is there already gives way, with `replaceable` only if all its files match that pattern; with `keep`
    it stays as `<name>.previous`. Of two processes that write the same folder the later one's stays.
    """
    path = Path(path)
    with _reported(path), _beside(path) as beside:
        if _holds_others(path, replaceable):
            raise BadInput(f"{shown(path)}: exists and holds other files; choose another folder")
        beside.mkdir(parents=True)
        yield beside
        _flush_all(beside)
        _exchange(beside, path, path.parent / f"{path.name}.previous" if keep else None)
        flush(path.parent)


@contextmanager
def filled_folder(path: PathLike, last: str = "manifest.json") -> Iterator[Path]:
    """A folder beside `path` to write to; what it holds is in `path` when the block ends well, else nothing is left.

    Files of the same names are replaced, the one named `last` after all others; more that are in `path` stay.
    """
    path = Path(path)
    with _reported(path), _parents(path), _beside(path) as beside:
        if path.exists() and not path.is_dir():
            raise BadInput(f"{shown(path)}: a file; name a folder for the result")
        if path.exists() and not os.access(path, os.W_OK | os.X_OK):
            raise BadInput(f"{shown(path)}: this folder cannot be written to")
        beside.mkdir()
        yield beside
        _flush_all(beside)
        if not path.exists():
            os.replace(beside, path)
            return
        for item in sorted(beside.iterdir(), key=lambda p: p.name == last):
            place = path / item.name
            if place.is_dir():
                shutil.rmtree(place)
            os.replace(item, place)


def write_text(path: PathLike, text: str) -> None:
    """`text` as a file, UTF-8, whole or not at all."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: PathLike, content: Any) -> None:
    """`content` as a JSON file, whole or not at all."""
    write_text(path, as_json(content))


def as_json(content: Any) -> str:
    """JSON text with sorted keys, the same for equal content."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def flush(path: Path) -> None:
    """Wait until the file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left half-written in `folder`."""
    host = _host()
    for beside in folder.glob(f"{host}*"):
        owner = beside.name.removeprefix(host).split("-")[0]
        if owner.isdigit() and int(owner) != os.getpid() and not _alive(int(owner)):
            _remove(beside)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name beside `path` that tells whose it is; what lies there at the end is removed."""
    try:
        path.lstat()
    except FileNotFoundError:
        pass
    except ValueError:
        raise BadInput(f"{shown(path)}: no file can have such a name") from None
    suffixes = "".join(path.suffixes[-2:])  # a writer that looks at the suffix sees the same one
    beside = path.parent / f"{_host()}{os.getpid()}-{token_hex(4)}{suffixes}"
    try:
        yield beside
    finally:
        _remove(beside)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turns what the system says into words that name `path`."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{shown(path)}: cannot be written ({error.strerror or 'disk error'})") from None


@contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Makes the folders above `path`; those that it made are gone again when the block fails."""
    above = path.absolute().parents
    missing = [parent for parent in above if not parent.exists()]
    made = []
    try:
        for parent in missing[::-1]:
            parent.mkdir(exist_ok=True)
            made.append(parent)
        yield
    except BaseException:
        for parent in made[::-1]:
            with suppress(OSError):  # somebody else's files are in it
                parent.rmdir()
        raise


def _holds_others(path: Path, replaceable: str | None) -> bool:
    """Whether `path` is a file, or a folder with more than `replaceable` files.

    One look tells: another process may move the folder aside between two.
    """
    try:
        items = list(path.iterdir())
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return True
    return replaceable is not None and any(not p.match(replaceable) or p.is_dir() for p in items)


def _exchange(new: Path, place: Path, previous: Path | None) -> None:
    """Puts `new` at `place`; folders cannot replace one another, so what is there is moved aside first."""
    aside = previous or new.with_name(f"{new.name}.old")
    for attempts_left in reversed(range(EXCHANGES)):
        if place.exists():
            shutil.rmtree(aside, ignore_errors=True)
        try:
            with suppress(FileNotFoundError):
                os.rename(place, aside)
            os.rename(new, place)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not attempts_left:
                raise
    if previous is None:
        shutil.rmtree(aside, ignore_errors=True)


def _flush_all(folder: Path) -> None:
    for path in (*sorted(folder.rglob("*")), folder):
        flush(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _host() -> str:
    """What the names of half-written files of this machine begin with."""
    return f".raylift-{''.join(c if c.isalnum() else '_' for c in gethostname())}-"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
