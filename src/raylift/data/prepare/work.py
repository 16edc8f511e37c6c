"""One worker's piece: a source read, each of its CTs prepared, and a record of it, so that it is not done twice."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from raylift import io
from raylift.data.atomic import write_json
from raylift.data.prepare.find import Source
from raylift.data.prepare.profiles import Profile
from raylift.data.prepare.steps import Rejected, prepare_volume
from raylift.errors import RayliftError


@dataclass(frozen=True, kw_only=True)
class Task:
    """A source and all that decides what its cases will be."""

    source: Source
    out: Path
    profile: Profile
    allow_short: bool
    settings: str
    patient: str | None  # None: nobody said


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a source: its cases with their scans' hashes, and the reasons for what was left."""

    source: str
    cases: dict[str, str]  # case id -> content hash
    patient: str
    rejected: list[tuple[str, str]]
    failed: list[tuple[str, str]]
    kept: bool = False  # finished by an earlier run


def prepare_source(task: Task) -> Outcome:
    """Prepare the CTs of one source, or keep what an earlier run made of it."""
    record = task.out / "sources" / f"{task.source.id}.json"
    name = task.source.path.name
    try:
        key = {"fingerprint": task.source.fingerprint(), "settings": task.settings, "patient": task.patient}
        kept = _finished(record, key, task)
        if kept is not None:
            return kept
        volumes = io.read_cts(task.source.path)
        patient = task.patient or io.patient_of(task.source.path) or task.source.id
    except (RayliftError, OSError) as error:  # not recorded: it may be whole next time
        reason = str(error) if isinstance(error, RayliftError) else (error.strerror or "cannot be read")
        return Outcome(source=name, cases={}, patient="", rejected=[], failed=[(_where(task), _bare(reason, name))])
    outcome = _prepare_volumes(task, volumes, patient)
    if not outcome.failed:
        write_json(record, key | {"cases": outcome.cases, "owner": patient, "rejected": outcome.rejected})
    return outcome


def _prepare_volumes(task: Task, volumes: list, patient: str) -> Outcome:
    cases: dict[str, str] = {}
    rejected, failed = [], []
    while volumes:
        volume = volumes.pop(0)  # one CT in memory at a time
        case = task.source.id if not cases else f"{task.source.id}-series-{len(cases) + 1}"
        try:
            content = prepare_volume(
                volume,
                task.out / "cases" / case,
                profile=task.profile,
                allow_short=task.allow_short,
                patient=patient,
                settings=task.settings,
            )
            cases[case] = content
        except Rejected as reason:
            rejected.append((_where(task), str(reason)))
        except RayliftError as error:
            failed.append((_where(task), str(error)))
    return Outcome(source=task.source.path.name, cases=cases, patient=patient, rejected=rejected, failed=failed)


def _finished(record: Path, key: dict, task: Task) -> Outcome | None:
    """The outcome that `record` tells of, if it is of the same files and settings and its cases are there."""
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
        same = all(told[k] == v for k, v in key.items())
        metas = [json.loads((task.out / "cases" / c / "meta.json").read_text(encoding="utf-8")) for c in told["cases"]]
        same = same and all(m["settings"] == task.settings and m["patient"] == told["owner"] for m in metas)
        outcome = Outcome(
            source=task.source.path.name,
            cases=told["cases"],
            patient=told["owner"],
            rejected=[tuple(r) for r in told["rejected"]],
            failed=[],
            kept=True,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return replace(outcome, kept=True) if same else None


def _where(task: Task) -> str:
    """The file's name with the folder it lies in: enough to find it, and no more of the machine."""
    return "/".join(task.source.path.parts[-2:])


def _bare(reason: str, name: str) -> str:
    return reason.removeprefix(f"{name}: ")
