"""One worker's piece: a source read, each of its CTs prepared, and a record of it, so that it is not done twice."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

from raylift import io
from raylift.data.importers.source import Source, where
from raylift.data.prepare import steps, vertebrae
from raylift.data.prepare.profiles import Profile
from raylift.data.prepare.steps import Made, Rejected
from raylift.errors import RayliftError
from raylift.io.files import write_json

ONE_CT = Lock()  # a process that is given several tasks at once still has one CT in memory
RECORD = 2  # of the form of sources/<id>.json; one of another form is made again


@dataclass(frozen=True, kw_only=True)
class Task:
    """A source and all that decides what its cases will be."""

    source: Source
    out: Path
    profile: Profile
    allow_short: bool
    settings: str
    patient: str | None  # what patients.csv says; None: nothing


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a source: its cases with their scans' hashes, and the reasons for what was left."""

    source: str
    cases: dict[str, str]  # case id -> content hash
    patient: str
    rejected: list[tuple[str, str]]
    failed: list[tuple[str, str]]
    looks: dict[str, list[float]] = field(default_factory=dict)  # case id -> likeness
    noted: list[tuple[str, str]] = field(default_factory=list)  # taken or no CT at all, but to be known
    kept: bool = False  # finished by an earlier run


def prepare_source(task: Task) -> Outcome:
    """Prepare the CTs of one source, or keep what an earlier run made of it."""
    record = task.out / "sources" / f"{task.source.id}.json"
    try:
        key = {
            "fingerprint": task.source.fingerprint(),
            "settings": task.settings,
            "patient": task.patient or task.source.patient,
            "record": RECORD,
        }
        kept = _finished(record, key, task)
        if kept is not None:
            return kept
        with ONE_CT:
            survey = io.survey_cts(task.source.path)
            patient = key["patient"] or io.patient_of(task.source.path) or task.source.id
            outcome = _prepare_cts(task, survey, patient)
    except (RayliftError, OSError) as error:  # not recorded: it may be whole next time
        reason = str(error) if isinstance(error, RayliftError) else (error.strerror or "cannot be read")
        return failed(task, reason)
    if not outcome.failed:
        told = {"cases": outcome.cases, "looks": outcome.looks, "owner": patient}
        write_json(record, key | told | {"rejected": outcome.rejected, "noted": outcome.noted})
    return outcome


def failed(task: Task, reason: str) -> Outcome:
    """The outcome of a source that could not be read, or of which nobody heard again."""
    name = task.source.path.name
    told = [(where(task.source.path), reason.removeprefix(f"{name}: "))]
    return Outcome(source=name, cases={}, patient="", rejected=[], failed=told)


def _prepare_cts(task: Task, survey, patient: str) -> Outcome:
    """One CT after the other; only the one that is worked on is in memory."""
    place, name = where(task.source.path), task.source.path.name
    cases: dict[str, Made] = {}
    rejected, wrong = [], []
    noted = [(place, f"no CT: {other}") for other in survey.others]
    finest = min(task.profile.spacing, task.profile.source_spacing)
    prepare_cases = vertebrae.prepare_cases if task.profile.keeps == "vertebra" else steps.prepare_cases
    for k, ct in enumerate(survey.cts, 1):
        if ct.grid is None:
            rejected.append((place, ct.fault.removeprefix(f"{name}: ")))
            continue
        case = task.source.id if not cases else f"{task.source.id}-series-{k}"
        try:
            made = prepare_cases(
                ct.read(finest),
                task.out / "cases" / case,
                profile=task.profile,
                allow_short=task.allow_short,
                patient=patient,
                settings=task.settings,
                labels=task.source.labels,
                notes=ct.notes,
            )
            cases |= made
            noted += [(case, note) for case, one in made.items() for note in one.notes]
        except Rejected as reason:
            rejected.append((place, str(reason)))
        except RayliftError as error:
            wrong.append((place, str(error).removeprefix(f"{name}: ")))
    return Outcome(
        source=name,
        cases={case: made.content for case, made in cases.items()},
        looks={case: made.likeness for case, made in cases.items() if made.likeness},
        patient=patient,
        rejected=rejected,
        failed=wrong,
        noted=noted,
    )


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
            looks=told["looks"],
            patient=told["owner"],
            rejected=[tuple(r) for r in told["rejected"]],
            noted=[tuple(n) for n in told["noted"]],
            failed=[],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return replace(outcome, kept=True) if same else None
