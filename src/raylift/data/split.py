"""Who is in which split: patients are divided, never their scans, and never two copies of one scan."""

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from raylift.errors import BadInput, unknown_name

SPLITS = ("train", "val", "test")
RATIOS = (0.8, 0.1, 0.1)  # ours


def split_patients(
    patients: Mapping[str, str],
    *,
    ratios: Sequence[float] = RATIOS,
    seed: int = 0,
    fixed: Mapping[str, str] | None = None,
    content: Mapping[str, str] | None = None,
    strata: Mapping[str, str] | None = None,
    fold: tuple[int, int] | None = None,
) -> dict[str, list[str]]:
    """Case ids of each split, sorted; `patients` says whose each case is, `fixed` which split a patient must be in.

    Cases with equal `content` (a hash of the scan) stay together, as one patient's do. The number of patients in
    each split comes as near to `ratios` as the fixed ones allow, and none with a ratio stays empty where there
    are enough. `strata` names a patient's kind, and each split gets its share of each kind. With `fold` (k, of n) the
    k-th of n equal parts is test and the next one val; every patient who is not fixed is in test once.
    """
    check_ratios(ratios)
    groups = _groups(patients, content or {})
    placed = {group: _fixed_split(group, groups[group], patients, fixed or {}) for group in groups}
    free = [group for group in sorted(groups) if placed[group] is None]
    kinds = {group: (strata or {}).get(patients[groups[group][0]], "") for group in free}
    order = _mixed(free, kinds, np.random.default_rng(seed))
    if fold is not None:
        placed |= _folded(order, *fold)
    else:
        counts = _counts(len(groups), ratios)
        room = [max(0, counts[k] - sum(where == name for where in placed.values())) for k, name in enumerate(SPLITS)]
        for k in (2, 1, 0):  # test and val first: train takes what is over
            take = room[k] if k else len(order)
            placed |= dict.fromkeys(order[:take], SPLITS[k])
            order = order[take:]
    splits = {name: sorted(c for g in groups if placed[g] == name for c in groups[g]) for name in SPLITS}
    check_split(splits, patients, content)
    return splits


def _mixed(free: Sequence[str], kinds: Mapping[str, str], lots: np.random.Generator) -> list[str]:
    """`free` in random order, in which any piece holds each kind in nearly its share."""
    order = [free[k] for k in lots.permutation(len(free))]
    if len(set(kinds.values())) < 2:
        return order
    of_kind: dict[str, list[str]] = {}
    for group in order:
        of_kind.setdefault(kinds[group], []).append(group)
    place = {group: (k + 0.5) / len(members) for members in of_kind.values() for k, group in enumerate(members)}
    return sorted(order, key=place.__getitem__)


def _folded(order: Sequence[str], k: int, n: int) -> dict[str, str]:
    """Where each of `order` is in fold `k` of `n`."""
    if not (n >= 3 and 0 <= k < n):
        raise BadInput(f"fold {k} of {n}: give at least 3 folds, and one of 0 to {n - 1}")
    if len(order) < n:
        raise BadInput(f"{len(order)} patients cannot be divided into {n} folds")
    part = [n * i // len(order) for i in range(len(order))]
    named = {k: "test", (k + 1) % n: "val"}
    return {group: named.get(p, "train") for group, p in zip(order, part, strict=True)}


def check_ratios(ratios: Sequence[float]) -> None:
    """Refuse what is not three shares."""
    if len(ratios) != 3 or not all(0 <= r < np.inf for r in ratios) or sum(ratios) <= 0:
        raise BadInput(f"ratios must be three numbers of at least 0 for {', '.join(SPLITS)}, not {tuple(ratios)}")


def check_split(
    splits: Mapping[str, Iterable[str]], patients: Mapping[str, str], content: Mapping[str, str] | None = None
) -> None:
    """Refuse a split that has a case twice, or one patient or one scan on two sides."""
    for kind, owner in (("case", None), ("patient", patients), ("scan", content or {})):
        seen: dict[str, tuple[str, str]] = {}
        for name, cases in splits.items():
            for case in cases:
                key = case if owner is None else owner.get(case)
                if key is None:
                    continue
                first = seen.setdefault(key, (name, case))
                if first[0] != name:
                    what = f"{kind} {key}" if kind != "scan" else "one scan"
                    raise BadInput(
                        f"{what} is on two sides of the split: '{first[1]}' in {first[0]}, '{case}' in {name}; "
                        "put all of a patient's scans in one split"
                    )


def listed_splits(
    path: Path | str, patients: Mapping[str, str], content: Mapping[str, str] | None = None
) -> tuple[dict[str, list[str]], list[str]]:
    """The splits that a file states, and its names that no case has; a case that it leaves out is in none.

    The file is JSON ({"train": [...], ...}; a data set's own splits.json too) or CSV (name, split). A name is a case's,
    a patient's, or that of the file or folder a case is named after. One patient or scan on two sides is refused.
    """
    by_name: dict[str, list[str]] = {}
    for case, patient in sorted(patients.items()):
        for name in {case, patient}:
            by_name.setdefault(plain_name(name), []).append(case)
    told = _told(Path(path))
    splits: dict[str, set[str]] = {name: set() for name in SPLITS}
    unknown = []
    for split, names in told.items():
        if split not in SPLITS:
            raise unknown_name(f"split ({Path(path).name})", split, SPLITS)
        for name in names:
            cases = by_name.get(plain_name(name), [])
            splits[split] |= set(cases)
            unknown += [] if cases else [name]
    if not any(splits.values()):
        raise BadInput(f"{Path(path).name}: none of its names is a case or a patient of this data set")
    found = {name: sorted(cases) for name, cases in splits.items()}
    check_split(found, patients, content)
    return found, sorted(unknown)


def plain_name(name: str) -> str:
    """A name as cases have it: small letters, digits and hyphens, without folders and suffix.

    >>> plain_name("lists/LIDC-IDRI-0001_ct.nii.gz")
    'lidc-idri-0001-ct'
    """
    last = name.strip().replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower()
    for suffix in (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".h5"):
        last = last.removesuffix(suffix)
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in last).split())


def _told(path: Path) -> dict[str, list[str]]:
    """The names of each split in a file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            told = json.loads(text)
            told = told.get("splits", told)
            return {str(split): [str(name) for name in names] for split, names in told.items()}
        rows = list(csv.reader(text.splitlines()))
    except (OSError, ValueError, AttributeError, TypeError, csv.Error) as error:
        raise BadInput(f"{path}: cannot be read as a list of splits ({type(error).__name__})") from None
    rows = [row for row in rows if row and any(cell.strip() for cell in row)]
    if rows and rows[0][-1].strip() == "split":
        rows = rows[1:]
    told: dict[str, list[str]] = {}
    for row in rows:
        if len(row) < 2:
            raise BadInput(f"{path}: each row needs a name and a split")
        told.setdefault(row[-1].strip(), []).append(row[0])
    return told


def split_hash(splits: Mapping[str, Sequence[str]], patients: Mapping[str, str], content: Mapping[str, str]) -> str:
    """SHA-256 of who is where, and of the scans themselves; the order of the cases does not matter."""
    told = {name: sorted([case, patients[case], content.get(case, "")] for case in splits[name]) for name in splits}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _groups(patients: Mapping[str, str], content: Mapping[str, str]) -> dict[str, list[str]]:
    """Cases that must stay together, under the name of their first case."""
    parent = {case: case for case in sorted(patients)}

    def root(case: str) -> str:
        while parent[case] != case:
            case = parent[case]
        return case

    first: dict[tuple[str, str], str] = {}
    for case in sorted(patients):
        for key in (("patient", patients[case]), ("content", content.get(case, case))):
            one, other = sorted((root(case), root(first.setdefault(key, case))))
            parent[other] = one
    groups: dict[str, list[str]] = {}
    for case in sorted(patients):
        groups.setdefault(root(case), []).append(case)
    return groups


def _fixed_split(group: str, cases: list[str], patients: Mapping[str, str], fixed: Mapping[str, str]) -> str | None:
    wanted = {}
    for case in cases:
        split = fixed.get(patients[case])
        if split:
            if split not in SPLITS:
                raise unknown_name(f"split (for patient {patients[case]})", split, SPLITS)
            wanted.setdefault(split, case)
    if len(wanted) > 1:
        (one, a), (other, b) = sorted(wanted.items())[:2]
        raise BadInput(f"'{a}' is fixed in {one} and '{b}' in {other}, but they are one patient or one scan")
    return next(iter(wanted), None)


def _counts(n: int, ratios: Sequence[float]) -> list[int]:
    """`n` shared out by largest remainder; a split with a ratio gets at least one where there are enough."""
    share = [n * r / sum(ratios) for r in ratios]
    counts = [int(s) for s in share]
    for k in sorted(range(3), key=lambda k: counts[k] - share[k])[: n - sum(counts)]:
        counts[k] += 1
    if n >= sum(r > 0 for r in ratios):
        for k in range(3):
            if ratios[k] > 0 and counts[k] == 0:
                counts[int(np.argmax(counts))] -= 1
                counts[k] = 1
    return counts
