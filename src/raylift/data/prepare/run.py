"""All tasks of a data set: one after the other, on this machine's cores, or on a Dask cluster, each counted once.

A worker that is killed costs its current case only: that is begun again, by another one. A case that takes its worker
with it each time is given up and told, so that it stops nobody else's.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from raylift.data.prepare.work import Outcome, Task, failed, prepare_source
from raylift.errors import BadInput

DEATHS = 2  # in a row without a case between them, before the rest runs one by one  # ours
CONNECT_SECONDS = 10  # ours
WORKERS_SECONDS = 600  # a batch system may take its time to give the first worker  # ours
LOST = "the process that prepared it was killed, most likely for want of memory; try it alone, with more of it"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is: `done` of `total` sources, the last one's name, and the counts so far."""

    done: int
    total: int
    source: str
    prepared: int
    rejected: int
    failed: int
    kept: int  # sources that an earlier run had finished: they say nothing about the rate
    seconds: float  # since the run began

    @property
    def a_minute(self) -> float:
        """Sources prepared a minute."""
        return 60 * (self.done - self.kept) / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float:
        """What the rest takes at this rate."""
        return self.seconds / max(self.done - self.kept, 1) * (self.total - self.done)


def run_all(
    tasks: Sequence[Task], *, jobs: int, scheduler: str | None, progress: Callable[[Progress], None] | None
) -> list[Outcome]:
    """Every task's outcome in the order of the tasks; `progress` hears of each as it comes."""
    start, done = monotonic(), {}
    for k, outcome in _coming(tasks, jobs, scheduler):
        done[k] = outcome
        if progress is not None:
            progress(_progress(done, tasks, k, monotonic() - start))
    return [done[k] for k in range(len(tasks))]


def _progress(done: dict[int, Outcome], tasks: Sequence[Task], last: int, seconds: float) -> Progress:
    return Progress(
        done=len(done),
        total=len(tasks),
        source=tasks[last].source.id,
        prepared=sum(len(o.cases) for o in done.values()),
        rejected=sum(len(o.rejected) for o in done.values()),
        failed=sum(len(o.failed) for o in done.values()),
        kept=sum(o.kept for o in done.values()),
        seconds=seconds,
    )


def _coming(tasks: Sequence[Task], jobs: int, scheduler: str | None) -> Iterator[tuple[int, Outcome]]:
    """(index, outcome) of each task, once, in any order."""
    if jobs == 1 and scheduler is None:
        yield from ((k, prepare_source(task)) for k, task in enumerate(tasks))
        return
    left = dict(enumerate(tasks))
    if scheduler is None:
        yield from _on_this_machine(left, jobs)
    else:
        with _cluster(scheduler):  # which begins the tasks of a killed worker again by itself, three times
            for k, outcome in _parallel(dict(left), None):
                del left[k]
                yield k, outcome
    yield from ((k, failed(task, LOST)) for k, task in left.items())


def _on_this_machine(left: dict[int, Task], jobs: int) -> Iterator[tuple[int, Outcome]]:
    """The outcomes of what is `left`, which is emptied on the way; what stays in it killed its own process."""
    fruitless = 0
    while left and fruitless < DEATHS:
        before = len(left)
        yield from _until_a_death(left, jobs, dict(left))
        fruitless = fruitless + 1 if len(left) == before else 0
    for k, task in sorted(left.items()):  # alone, so that none dies of another's need
        yield from _until_a_death(left, 1, {k: task})


def _until_a_death(left: dict[int, Task], jobs: int, some: dict[int, Task]) -> Iterator[tuple[int, Outcome]]:
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    if not some:
        return
    try:
        for k, outcome in _parallel(some, jobs):
            del left[k]
            yield k, outcome
    except TerminatedWorkerError:
        return


def _parallel(some: dict[int, Task], jobs: int | None) -> Iterator[tuple[int, Outcome]]:
    """In processes of their own, even where it is one; without `jobs` as many as the cluster has."""
    from joblib import Parallel, delayed

    workers = 2 if jobs == 1 else jobs  # joblib takes 1 as 'in this process'
    ahead = 1 if jobs == 1 else "2 * n_jobs"
    pool = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch=ahead)
    yield from pool(delayed(_numbered)(k, task) for k, task in some.items())


def _numbered(k: int, task: Task) -> tuple[int, Outcome]:
    return k, prepare_source(task)


@contextmanager
def _cluster(scheduler: str) -> Iterator[None]:
    """joblib's work goes to the Dask cluster at that address while this is open."""
    try:
        from distributed import Client
    except ImportError:
        raise BadInput("--scheduler needs one more part: pip install 'raylift[cluster]'") from None
    from joblib import parallel_config

    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise BadInput(f"no Dask scheduler answers at {scheduler} ({type(error).__name__}); start one first") from None
    with client, parallel_config(backend="dask", client=client, wait_for_workers_timeout=WORKERS_SECONDS):
        yield
