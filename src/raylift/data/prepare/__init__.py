"""From CT files to a data set: find, read, check, clean, crop, resample, project, split, write."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from raylift.data.atomic import sweep
from raylift.data.prepare import finish, profiles
from raylift.data.prepare.find import find_sources
from raylift.data.prepare.patients import read_patients
from raylift.data.prepare.work import Outcome, Task, prepare_source
from raylift.data.split import RATIOS, check_ratios
from raylift.errors import BadInput

__all__ = ["Progress", "Report", "prepare"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of each source: case ids, and (file, reason) of what did not fit and of what could not be read."""

    prepared: list[str]
    rejected: list[tuple[str, str]]  # read, but not what the profile takes
    failed: list[tuple[str, str]]  # damaged or unreadable
    kept: list[str]  # those of `prepared` that an earlier run had finished
    left_out: list[str]  # cases in the folder that none of the sources made; they are in no split


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is: `done` of `total` sources, the last one's name, and the counts so far."""

    done: int
    total: int
    source: str
    prepared: int
    rejected: int
    failed: int


def prepare(
    sources: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    profile: str = "chest",
    preset: str | None = None,
    patients: Path | str | None = None,
    allow_short: bool = False,
    jobs: int = 1,
    seed: int = 0,
    ratios: Sequence[float] = RATIOS,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Make the data set `out` of the CTs in `sources`, and say what became of each.

    A second call keeps what is finished and unchanged; the files are the same bytes however often it was interrupted
    and whatever `jobs` is.
    """
    declared = profiles.get(profile, preset)
    settings = profiles.settings_hash(declared, allow_short)
    check_ratios(ratios)
    listed = read_patients(patients)
    found = find_sources([sources] if isinstance(sources, Path | str) else sources)
    out = Path(out)
    _make_room(out, declared)
    tasks = [
        Task(source=s, out=out, profile=declared, allow_short=allow_short, settings=settings, patient=listed.of(s.path))
        for s in found
    ]
    outcomes = _all_outcomes(tasks, jobs, progress)
    left_out = finish.write_manifest(
        out, outcomes, profile=declared, settings=settings, fixed=listed.fixed, ratios=tuple(ratios), seed=seed
    )
    return Report(
        prepared=sorted(case for o in outcomes for case in o.cases),
        rejected=[r for o in outcomes for r in o.rejected],
        failed=[f for o in outcomes for f in o.failed],
        kept=sorted(case for o in outcomes if o.kept for case in o.cases),
        left_out=left_out,
    )


def _make_room(out: Path, profile: profiles.Profile) -> None:
    """The data set's folders; refuses one that holds something else."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; name a folder for the data set")
    if out.exists() and any(out.iterdir()) and not (out / "cases").is_dir():
        raise BadInput(f"{out} holds other files; name a new folder for the data set")
    finish.refuse_another(out, profile)
    for folder in (out / "cases", out / "sources"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{out} cannot be written ({error.strerror})") from None
    for folder in (out, out / "cases", out / "sources"):
        sweep(folder)


def _all_outcomes(tasks: list[Task], jobs: int, progress: Callable[[Progress], None] | None) -> list[Outcome]:
    """Every task's outcome in the order of the tasks; `progress` hears of each as it comes."""
    from joblib import Parallel, delayed

    if jobs == 1:
        coming = ((k, prepare_source(task)) for k, task in enumerate(tasks))
    else:
        pool = Parallel(n_jobs=jobs, return_as="generator_unordered")
        coming = pool(delayed(_numbered)(k, task) for k, task in enumerate(tasks))
    done: dict[int, Outcome] = {}
    for k, outcome in coming:
        done[k] = outcome
        if progress is not None:
            progress(
                Progress(
                    done=len(done),
                    total=len(tasks),
                    source=tasks[k].source.id,
                    prepared=sum(len(o.cases) for o in done.values()),
                    rejected=sum(len(o.rejected) for o in done.values()),
                    failed=sum(len(o.failed) for o in done.values()),
                )
            )
    return [done[k] for k in range(len(tasks))]


def _numbered(k: int, task: Task) -> tuple[int, Outcome]:
    return k, prepare_source(task)
