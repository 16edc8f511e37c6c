"""Files that are whole or not there: each is written beside its place, flushed to the disk, and moved in."""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PARTIAL = ".partial"


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


def _mine() -> str:
    host = "".join(c if c.isalnum() else "_" for c in socket.gethostname())
    return f"{PARTIAL}-{host}-{os.getpid()}-"


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then put it there in one step; an earlier file stays until then."""
    partial = path.with_name(_mine() + path.name)
    try:
        write(partial)
        flush(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    flush(path.parent)


def write_json(path: Path, content: Any) -> None:
    """`content` as a JSON file, whole or not at all."""
    write_file(path, lambda partial: partial.write_text(as_json(content), encoding="utf-8"))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; on leaving it takes the place of `path` in one step, or is gone if filling it failed.

    Where another process put the same folder there meanwhile, the later one stays.
    """
    partial = path.with_name(_mine() + path.name)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in sorted(partial.iterdir()):
            flush(file)
        flush(partial)
        _replace_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    flush(path.parent)


def _replace_folder(new: Path, place: Path) -> None:
    """Folders cannot replace one another, so the old one is moved aside first."""
    old = new.with_name(new.name + ".old")
    while True:
        with suppress(FileNotFoundError):
            os.rename(place, old)
        try:
            os.rename(new, place)
            break
        except OSError:
            if not place.exists():
                raise
            shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left half-written in `folder`."""
    host = _mine().rsplit("-", 2)[0] + "-"
    for partial in folder.glob(f"{host}*"):
        pid = partial.name.removeprefix(host).split("-")[0]
        if pid.isdigit() and int(pid) != os.getpid() and not _alive(int(pid)):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
