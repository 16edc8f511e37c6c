"""Writing: a file or folder is whole or as it was, whatever fails or kills; nothing half-written is left behind."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import stat
import time
from pathlib import Path

import numpy as np
import pytest

from raylift.errors import BadInput
from raylift.io import files


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_written_comes_back_the_same(tmp_path):
    content = {"b": [1.5, None], "a": "ä"}
    files.write_json(tmp_path / "new" / "a.json", content)
    assert json.loads((tmp_path / "new" / "a.json").read_text(encoding="utf-8")) == content
    assert files.as_json({"b": 1, "a": 2}) == files.as_json({"a": 2, "b": 1})
    with files.whole_file(tmp_path / "x.nii.gz") as beside:
        assert beside.name.endswith(".nii.gz") and beside.parent == tmp_path
    assert names(tmp_path) == {"new", "x.nii.gz"}


@pytest.mark.parametrize("writer", [files.whole_file, files.whole_folder, files.filled_folder])
def test_a_failure_leaves_what_was_there(tmp_path, writer):
    place = tmp_path / "above" / "a"
    for _ in range(2):  # with nothing there, then with something
        before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
        with pytest.raises(ZeroDivisionError), writer(place) as beside:
            (beside / "ct" if beside.is_dir() else beside).write_text("half")
            raise ZeroDivisionError
        left = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
        assert [p for p in left if p != Path("above")] == [p for p in before if p != Path("above")]
        with writer(place) as beside:
            (beside / "ct" if beside.is_dir() else beside).write_text("whole")
    assert names(tmp_path / "above") == {"a"}


@pytest.mark.parametrize("writer", [files.whole_file, files.whole_folder, files.filled_folder])
def test_a_name_that_cannot_be_is_refused_before_the_work(tmp_path, writer):
    (tmp_path / "file").touch()
    for place in (tmp_path / ("x" * 300), tmp_path / "a\0b", tmp_path / "file" / "a"):
        with pytest.raises(BadInput, match=r"cannot be written|such a name"), writer(place):
            pytest.fail("the work began")
    assert names(tmp_path) == {"file"}


def test_a_full_disk_is_told_in_one_line_that_names_the_file(tmp_path):
    for writer in (files.whole_file, files.whole_folder, files.filled_folder):
        with (
            pytest.raises(BadInput, match=r"^a: cannot be written \(No space left on device\)$"),
            writer(tmp_path / "a"),
        ):
            raise OSError(28, "No space left on device")
    assert not names(tmp_path)


def test_a_new_file_has_the_permissions_that_any_new_file_has(tmp_path):
    (tmp_path / "any").touch()
    files.write_text(tmp_path / "ours", "")
    (tmp_path / "anyfolder").mkdir()
    with files.whole_folder(tmp_path / "ourfolder"):
        pass
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names(tmp_path)}
    assert modes["any"] == modes["ours"] and modes["anyfolder"] == modes["ourfolder"]


def fill(place: Path, text: str, **settings) -> None:
    with files.whole_folder(place, **settings) as beside:
        (beside / "slice-1").write_text(text)


def test_a_folder_gives_way_to_its_next_and_is_kept_where_that_is_asked_for(tmp_path):
    for text in "abc":
        fill(tmp_path / "last", text, keep=True)
    assert (tmp_path / "last" / "slice-1").read_text() == "c"
    assert (tmp_path / "last.previous" / "slice-1").read_text() == "b"
    fill(tmp_path / "last", "d")
    assert names(tmp_path) == {"last", "last.previous"}


def test_a_folder_with_somebody_elses_files_does_not_give_way(tmp_path):
    fill(tmp_path / "ct", "a", replaceable="slice-*")
    fill(tmp_path / "ct", "b", replaceable="slice-*")
    (tmp_path / "ct" / "thesis.txt").touch()
    with pytest.raises(BadInput, match="other files"):
        fill(tmp_path / "ct", "c", replaceable="slice-*")
    assert (tmp_path / "ct" / "slice-1").read_text() == "b"
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="other files"):
        fill(tmp_path / "file", "a")


def test_a_filled_folder_keeps_other_files(tmp_path):
    for text in "ab":
        with files.filled_folder(tmp_path / "out") as beside:
            (beside / "ct").mkdir()
            (beside / "ct" / text).touch()
            (beside / "manifest.json").write_text(text)
        (tmp_path / "out" / "mine.txt").touch()
    assert names(tmp_path / "out") == {"ct", "manifest.json", "mine.txt"} and names(tmp_path / "out" / "ct") == {"b"}
    assert (tmp_path / "out" / "manifest.json").read_text() == "b" and names(tmp_path) == {"out"}


def write_for_ever(place: Path) -> None:
    """A folder whose two files always agree."""
    rng = np.random.default_rng(os.getpid())
    while True:
        text = str(rng.integers(10**9)) * 20000
        with files.whole_folder(place) as beside:
            (beside / "a").write_text(text)
            (beside / "b").write_text(text)


def agree(place: Path) -> bool:
    return (place / "a").read_bytes() == (place / "b").read_bytes() != b""


def test_a_kill_leaves_whole_files_and_what_it_left_is_swept(tmp_path):
    context, rng, seen = multiprocessing.get_context("fork"), np.random.default_rng(0), 0
    for _ in range(10):
        writer = context.Process(target=write_for_ever, args=(tmp_path / "a",))
        writer.start()
        time.sleep(rng.uniform(0.02, 0.1))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        if (tmp_path / "a").exists():
            assert agree(tmp_path / "a")
            seen += 1
        files.sweep(tmp_path)
        assert names(tmp_path) <= {"a"}
    assert seen


def test_two_processes_that_write_one_folder_leave_one_whole(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_for_ever, args=(tmp_path / "a",)) for _ in range(2)]
    for writer in writers:
        writer.start()
    time.sleep(1)
    assert all(writer.is_alive() for writer in writers)
    for writer in writers:
        os.kill(writer.pid, signal.SIGSTOP)
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    if (tmp_path / "a").exists():
        assert agree(tmp_path / "a")


def move_for_ever(place: Path) -> None:
    """What a writer does that puts its folder at `place`, at the worst of times."""
    aside = place.with_name("aside")
    while True:
        with contextlib.suppress(OSError):
            os.rename(place, aside)
            os.rename(aside, place)
        shutil.rmtree(aside, ignore_errors=True)


@pytest.mark.parametrize("replaceable", [None, "*"])
def test_a_folder_that_comes_and_goes_is_written_all_the_same(tmp_path, replaceable):
    mover = multiprocessing.get_context("fork").Process(target=move_for_ever, args=(tmp_path / "a",))
    mover.start()
    try:
        for _ in range(300):
            with files.whole_folder(tmp_path / "a", replaceable) as beside:
                (beside / "x").touch()
        assert mover.is_alive()
    finally:
        mover.kill()
        mover.join()


def test_what_a_living_process_writes_is_not_swept(tmp_path):
    with files.whole_folder(tmp_path / "a") as beside:
        files.sweep(tmp_path)
        (beside / "x").touch()
    assert names(tmp_path) == {"a"}
