"""Many CTs at once: whoever is killed and whenever, each case is there once, and the bytes are those of a quiet run.

And CTs that are larger than the memory: averaged while they are read, the same from either end and in either format.
"""

import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from scipy import ndimage

from raylift import geometry, io
from raylift.data.importers import Source
from raylift.data.prepare import prepare, profiles
from raylift.data.prepare.run import run_all
from raylift.data.prepare.work import Task, prepare_source
from raylift.errors import BadInput
from raylift.io import large
from raylift.types import Grid, Volume

SMALL = replace(
    profiles.CHEST, name="small", size=16, spacing=20.0, pixels=16, source_spacing=10.0, thickest_mm=20.0
)  # steps as for a chest, in few voxels
KILLS = 50


@pytest.fixture(autouse=True)
def small_profile(monkeypatch):
    monkeypatch.setitem(profiles.PROFILES, "small", SMALL)


def body(seed: int) -> Volume:
    """A block of flesh that changes slowly, with noise, 300 mm long, canonical."""
    lots = np.random.default_rng(seed)
    grid = Grid.canonical((30, 44, 50), (10.0, 9.0, 9.0))
    slow = ndimage.gaussian_filter(lots.normal(size=grid.shape), 3)
    hu = np.full(grid.shape, -1000.0)
    hu[:, 14:30, 14:36] = (30 + 80 * slow / slow.std() + lots.normal(0, 5, grid.shape))[:, 14:30, 14:36]
    return Volume(hu=hu.astype(np.int16), grid=grid)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for k in range(6):
        io.write_ct(body(k), folder / f"p{k}.nii.gz")
    io.write_ct(replace(body(0), hu=(body(0).hu > 0).astype(np.int16)), folder / "bones.nii.gz")
    return folder


@pytest.fixture(scope="module")
def quiet(inputs, tmp_path_factory) -> dict[str, bytes]:
    """What one process makes of them, undisturbed."""
    folder = tmp_path_factory.mktemp("quiet")
    _prepared(inputs, folder / "out")
    return tree(folder / "out")


def _prepared(inputs: Path, out: Path, **settings):
    profiles.PROFILES["small"] = SMALL
    return prepare(inputs, out, profile="small", **settings)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def tasks_of(inputs: Path, out: Path) -> list[Task]:
    for folder in ("cases", "sources"):
        (out / folder).mkdir(parents=True)
    sources = [Source(path=path, id=path.stem.split(".")[0]) for path in sorted(inputs.iterdir())]
    return [Task(source=s, out=out, profile=SMALL, allow_short=False, settings="s", patient=None) for s in sources]


def test_progress_counts_and_tells_the_rate_of_what_is_new(inputs, tmp_path):
    heard = []
    _prepared(inputs, tmp_path / "out", progress=heard.append)
    assert [now.done for now in heard] == list(range(1, 8))
    last = heard[-1]
    assert (last.prepared, last.rejected, last.failed, last.kept) == (6, 1, 0, 0) and last.seconds_left == 0
    assert last.a_minute == pytest.approx(60 * 7 / last.seconds)
    _prepared(inputs, tmp_path / "out", progress=heard.append)
    assert heard[-1].kept == 7 and heard[-1].a_minute == 0


@pytest.mark.slow
def test_fifty_kills_and_the_same_bytes(inputs, quiet, tmp_path):
    """C-30: a process is killed at a random moment, the next one goes on; what one left behind hinders none."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["raylift.data.prepare", "raylift.projector.cpu", "SimpleITK"])
    lots, killed, k = np.random.default_rng(0), 0, 0
    while killed < KILLS:
        out = tmp_path / f"run-{k}"
        for _ in range(20):  # of one run, before it is let through
            child = context.Process(target=_prepared, args=(inputs, out))
            child.start()
            child.join(float(lots.uniform(0.0, 1.5)))
            if not child.is_alive():
                break
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            killed += 1
        _prepared(inputs, out)
        assert tree(out) == quiet
        k += 1


@pytest.mark.slow
def test_a_killed_worker_costs_nothing(inputs, quiet, tmp_path):
    heard = []

    def kill_one(now):
        if not heard:
            workers = [p for p in psutil.Process().children() if any("popen_loky" in word for word in p.cmdline())]
            workers[0].kill()
        heard.append(now.source)

    report = _prepared(inputs, tmp_path / "out", jobs=2, progress=kill_one)
    assert sorted(heard) == sorted({*heard}) and len(heard) == 7 and not report.failed
    assert tree(tmp_path / "out") == quiet


@dataclass(frozen=True, kw_only=True)
class Deadly(Source):
    """A source that takes whoever reads it with it, as one that needs too much memory does."""

    def fingerprint(self) -> str:
        """Never returns."""
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_case_that_kills_its_worker_stops_nobody_else(inputs, tmp_path):
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    tasks = tasks_of(inputs, tmp_path)
    tasks[2] = replace(tasks[2], source=Deadly(path=tasks[2].source.path, id="deadly"))
    outcomes = run_all(tasks, jobs=2, scheduler=None, progress=None)
    assert [bool(o.failed) for o in outcomes] == [k == 2 for k in range(7)]
    assert "was killed, most likely for want of memory" in outcomes[2].failed[0][1]


@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker_gives_the_same_bytes(inputs, quiet, tmp_path):
    """C-38: two processes, one killed; every case once, the manifest the same."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        pids = [worker.pid for worker in cluster.workers.values()]
        heard = []

        def kill_one(now):
            if not heard:
                os.kill(pids[0], signal.SIGKILL)
            heard.append(now.source)

        report = _prepared(inputs, tmp_path / "out", scheduler=cluster.scheduler_address, progress=kill_one)
    assert len(heard) == len({*heard}) == 7 and not report.failed
    assert tree(tmp_path / "out") == quiet


def test_a_scheduler_that_is_not_there_is_told(inputs, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("raylift.data.prepare.run.CONNECT_SECONDS", 0.2)
    with pytest.raises(BadInput, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        _prepared(inputs, tmp_path / "out", scheduler="tcp://127.0.0.1:9")


def test_without_dask_the_extra_is_named(inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BadInput, match=r"pip install 'raylift\[cluster\]'"):
        _prepared(inputs, tmp_path / "out", scheduler="tcp://127.0.0.1:9")


def test_a_process_has_one_ct_in_memory_whatever_it_is_given(inputs, tmp_path, monkeypatch):
    """A Dask worker with several threads reads one CT after the other."""
    from concurrent.futures import ThreadPoolExecutor

    from raylift.data.prepare import work

    inside, most = [], []

    def counted(task, survey, patient):
        inside.append(task)
        most.append(len(inside))
        outcome = original(task, survey, patient)
        inside.remove(task)
        return outcome

    original = work._prepare_cts
    monkeypatch.setattr(work, "_prepare_cts", counted)
    with ThreadPoolExecutor(3) as threads:
        outcomes = list(threads.map(prepare_source, tasks_of(inputs, tmp_path)))
    assert max(most) == 1 and len(outcomes) == 7


def flipped(volume: Volume, axes: tuple[int, ...]) -> Volume:
    """The same body in a file whose axes run the other way."""
    affine = volume.grid.affine.copy()
    for axis in axes:
        affine[:3, 3] += affine[:3, axis] * (volume.hu.shape[axis] - 1)
        affine[:3, axis] *= -1
    return Volume(hu=np.ascontiguousarray(np.flip(volume.hu, axes)), grid=Grid(volume.hu.shape, affine))


@pytest.mark.parametrize("bins", [(1, 1, 1), (2, 3, 2), (7, 1, 4)])
def test_averages_are_the_same_from_either_end_and_stay_in_place(bins):
    volume = body(1)
    hu = large.gathered(iter(volume.hu), volume.grid, bins)
    grid = large.binned_grid(volume.grid, bins)
    d, h, w = (slice(0, n // b * b) for n, b in zip(volume.hu.shape, bins, strict=True))
    shape = [m for n, b in zip(volume.hu.shape, bins, strict=True) for m in (n // b, b)]
    plain = volume.hu[d, h, w].reshape(shape).mean((1, 3, 5))
    assert np.abs(hu - plain).max() <= 0.5
    np.testing.assert_allclose(grid.world((0, 0, 0)), volume.grid.world([(b - 1) / 2 for b in bins]))
    for axes in ((0,), (1, 2), (0, 1, 2)):
        other = flipped(volume, axes)
        back = Volume(hu=large.gathered(iter(other.hu), other.grid, bins), grid=large.binned_grid(other.grid, bins))
        back = geometry.canonical(back)
        assert np.array_equal(back.hu, hu)
        np.testing.assert_allclose(back.grid.affine, grid.affine, atol=1e-9)


def test_only_what_is_large_is_averaged_and_no_further_than_asked():
    fine = Grid.canonical((1500, 1024, 1024), 0.4)
    assert large.bins_for(fine, None) == large.bins_for(Grid.canonical((512, 512, 512), 0.4), 1.5) == (1, 1, 1)
    assert large.bins_for(fine, 1.5) == (2, 2, 2)
    assert large.bins_for(fine, 0.5) == (1, 1, 1)
    with pytest.raises(BadInput, match="the limit is 800,000,000"):
        large.check_size(fine.shape, (1, 1, 1), "big.nii")


@pytest.mark.parametrize("suffix", ["nii.gz", "nii", "mha", ""])
def test_a_large_file_is_averaged_while_it_is_read(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(large, "LARGE_VOXELS", 6000)
    path = tmp_path / (f"ct.{suffix}" if suffix else "series")
    io.write_ct(body(2), path)
    (ct,) = io.survey_cts(path).cts
    bins = large.bins_for(body(2).grid, 20.0)
    assert np.prod(bins) > 1
    wanted = large.gathered(iter(body(2).hu), body(2).grid, bins)
    assert np.array_equal(geometry.canonical(ct.read(20.0)).hu, wanted)
    assert np.array_equal(geometry.canonical(ct.read()).hu, body(2).hu)
