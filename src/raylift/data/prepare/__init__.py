"""From CT files to a data set: find, read, check, clean, crop, resample, project, split, write."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from raylift.data.prepare import finish, profiles
from raylift.data.prepare.find import find_all
from raylift.data.prepare.finish import Splitting
from raylift.data.prepare.patients import read_patients
from raylift.data.prepare.run import Progress, run_all
from raylift.data.prepare.work import Task
from raylift.data.split import RATIOS, check_ratios
from raylift.errors import BadInput
from raylift.io.files import sweep

__all__ = ["Progress", "Report", "Splitting", "prepare"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of each source: case ids, and (file, reason) of what did not fit and of what could not be read."""

    prepared: list[str]
    rejected: list[tuple[str, str]]  # read, but not what the profile takes
    failed: list[tuple[str, str]]  # damaged or unreadable
    kept: list[str]  # those of `prepared` that an earlier run had finished
    left_out: list[str]  # cases in the folder that none of the sources made; they are in no split
    noted: list[tuple[str, str]]  # (file or case, what was noticed): taken all the same, or no CT in the first place


def prepare(
    sources: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    profile: str = "chest",
    preset: str | None = None,
    patients: Path | str | None = None,
    allow_short: bool = False,
    jobs: int = 1,
    scheduler: str | None = None,
    seed: int = 0,
    ratios: Sequence[float] = RATIOS,
    splitting: Splitting | None = None,
    progress: Callable[[Progress], None] | None = None,
    **making,
) -> Report:
    """Make the data set `out` of the CTs in `sources`, and say what became of each.

    A second call keeps what is finished and unchanged; the files are the same bytes however often it was interrupted
    and whatever `jobs` or the Dask cluster at `scheduler` is. `splitting` stands for `seed` and `ratios` where they are
    not enough; `making` are the profile's own settings, see `profiles.get`.
    """
    declared = profiles.get(profile, preset, **making)
    settings = profiles.settings_hash(declared, allow_short)
    check_ratios(ratios)
    listed = read_patients(patients)
    splitting = splitting or Splitting(ratios=tuple(ratios), seed=seed)
    splitting = replace(splitting, fixed=listed.fixed, strata=listed.strata(splitting.stratify))
    found = find_all([sources] if isinstance(sources, Path | str) else sources)
    out = Path(out).absolute()  # a cluster's workers stand elsewhere
    _make_room(out, declared)
    tasks = [
        Task(source=s, out=out, profile=declared, allow_short=allow_short, settings=settings, patient=listed.of(s.path))
        for s in found.sources
    ]
    outcomes = run_all(tasks, jobs=jobs, scheduler=scheduler, progress=progress)
    told = {case for task, o in zip(tasks, outcomes, strict=True) if task.patient for case in o.cases}
    written = finish.write_manifest(
        out, outcomes, profile=declared, settings=settings, splitting=splitting, told=told, others=found.others
    )
    return Report(
        prepared=sorted(case for o in outcomes for case in o.cases),
        rejected=[r for o in outcomes for r in o.rejected],
        failed=[f for o in outcomes for f in o.failed],
        kept=sorted(case for o in outcomes if o.kept for case in o.cases),
        left_out=written.left_out,
        noted=written.noted,
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
