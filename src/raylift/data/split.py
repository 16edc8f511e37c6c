"""Who is in which split: patients are divided, never their scans, and never two copies of one scan."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

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
) -> dict[str, list[str]]:
    """Case ids of each split, sorted; `patients` says whose each case is, `fixed` which split a patient must be in.

    Cases with equal `content` (a hash of the scan) stay together, as one patient's do. The number of patients in
    each split comes as near to `ratios` as the fixed ones allow, and none with a ratio stays empty where there
    are enough.
    """
    check_ratios(ratios)
    groups = _groups(patients, content or {})
    placed = {group: _fixed_split(group, groups[group], patients, fixed or {}) for group in groups}
    free = [group for group in sorted(groups) if placed[group] is None]
    counts = _counts(len(groups), ratios)
    room = [max(0, counts[k] - sum(where == name for where in placed.values())) for k, name in enumerate(SPLITS)]
    order = [free[k] for k in np.random.default_rng(seed).permutation(len(free))]
    for k in (2, 1, 0):  # test and val first: train takes what is over
        take = room[k] if k else len(order)
        placed |= dict.fromkeys(order[:take], SPLITS[k])
        order = order[take:]
    splits = {name: sorted(c for g in groups if placed[g] == name for c in groups[g]) for name in SPLITS}
    check_split(splits, patients, content)
    return splits


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
