"""Splits: by patient, with the stated ratio and seed, and never one patient or one scan on two sides."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylift.data.split import SPLITS, check_split, listed_splits, split_hash, split_patients
from raylift.errors import BadInput, UnknownName

PATIENTS = {f"case-{k:02d}": f"patient-{k // 2:02d}" for k in range(40)}


@settings(max_examples=60, deadline=None)
@given(
    owners=st.lists(st.integers(0, 12), min_size=1, max_size=30),
    scans=st.lists(st.integers(0, 40), min_size=30, max_size=30),
    seed=st.integers(0, 99),
    ratios=st.tuples(*[st.floats(0.01, 1)] * 3),
)
def test_every_case_once_and_no_patient_or_scan_on_two_sides(owners, scans, seed, ratios):
    patients = {f"c{k}": f"p{owner}" for k, owner in enumerate(owners)}
    content = {case: f"scan{scan}" for case, scan in zip(patients, scans, strict=False)}
    splits = split_patients(patients, ratios=ratios, seed=seed, content=content)
    assert sorted(c for cases in splits.values() for c in cases) == sorted(patients)
    check_split(splits, patients, content)


def test_the_ratio_is_of_patients():
    splits = split_patients(PATIENTS, ratios=(0.5, 0.25, 0.25))
    assert [len({PATIENTS[c] for c in splits[name]}) for name in SPLITS] == [10, 5, 5]


def test_the_seed_decides_and_the_order_does_not():
    backwards = dict(reversed(PATIENTS.items()))
    assert split_patients(PATIENTS, seed=3) == split_patients(backwards, seed=3)
    assert split_patients(PATIENTS, seed=3) != split_patients(PATIENTS, seed=4)


def test_a_fixed_patient_stays_where_it_must():
    for seed in range(5):
        splits = split_patients(PATIENTS, seed=seed, fixed={"patient-07": "test", "patient-08": "val"})
        assert {"case-14", "case-15"} <= set(splits["test"]) and {"case-16", "case-17"} <= set(splits["val"])


def test_three_patients_fill_three_splits():
    splits = split_patients({"a": "1", "b": "2", "c": "3"})
    assert [len(splits[name]) for name in SPLITS] == [1, 1, 1]


def test_one_patient_fixed_in_two_splits_through_a_copy_is_refused():
    with pytest.raises(BadInput, match="they are one patient or one scan"):
        split_patients({"a": "1", "b": "2"}, fixed={"1": "train", "2": "test"}, content={"a": "same", "b": "same"})


def test_an_imported_list_with_a_patient_on_two_sides_is_refused():
    with pytest.raises(BadInput, match="patient p is on two sides of the split: 'a' in train, 'b' in test"):
        check_split({"train": ["a"], "test": ["b"]}, {"a": "p", "b": "p"})
    with pytest.raises(BadInput, match="one scan is on two sides"):
        check_split({"train": ["a"], "test": ["b"]}, {"a": "p", "b": "q"}, {"a": "x", "b": "x"})
    with pytest.raises(BadInput, match="case a is on two sides"):
        check_split({"train": ["a"], "test": ["a"]}, {"a": "p"})


def test_wrong_names_and_ratios():
    with pytest.raises(UnknownName, match="did you mean 'test'"):
        split_patients({"a": "1"}, fixed={"1": "tset"})
    with pytest.raises(BadInput, match="ratios"):
        split_patients({"a": "1"}, ratios=(1, -1, 1))


def test_the_hash_tells_who_is_where_and_of_what():
    splits, patients, content = {"train": ["a", "b"], "test": ["c"]}, {"a": "1", "b": "2", "c": "3"}, {"a": "x"}
    same = split_hash({"test": ["c"], "train": ["b", "a"]}, patients, content)
    assert split_hash(splits, patients, content) == same
    assert split_hash({"train": ["a"], "test": ["c", "b"]}, patients, content) != same
    assert split_hash(splits, patients, {"a": "y"}) != same


KINDS = {f"patient-{k:02d}": "ill" if k % 4 == 0 else "well" for k in range(20)}


def test_each_split_has_its_share_of_each_kind():
    for seed in range(5):
        splits = split_patients(PATIENTS, ratios=(0.6, 0.2, 0.2), seed=seed, strata=KINDS)
        ill = [sum(KINDS[PATIENTS[case]] == "ill" for case in splits[name]) / 2 for name in SPLITS]
        assert ill == [3, 1, 1]
    loose = [split_patients(PATIENTS, ratios=(0.6, 0.2, 0.2), seed=seed) for seed in range(5)]
    assert any(sum(KINDS[PATIENTS[case]] == "ill" for case in splits["test"]) != 2 for splits in loose)


@pytest.mark.parametrize("strata", [None, KINDS])
def test_every_patient_is_in_test_once_over_the_folds(strata):
    tests, vals = [], []
    for k in range(5):
        splits = split_patients(PATIENTS, seed=1, fold=(k, 5), strata=strata)
        check_split(splits, PATIENTS)
        assert sorted(c for cases in splits.values() for c in cases) == sorted(PATIENTS)
        tests += splits["test"]
        vals.append(splits["val"])
        if strata:
            assert sum(KINDS[PATIENTS[case]] == "ill" for case in splits["test"]) == 2
    assert sorted(tests) == sorted(PATIENTS)
    assert vals[0] == split_patients(PATIENTS, seed=1, fold=(1, 5), strata=strata)["test"]


@pytest.mark.parametrize("fold", [(0, 2), (3, 3), (0, 21)])
def test_folds_that_cannot_be_made(fold):
    with pytest.raises(BadInput, match="folds"):
        split_patients(PATIENTS, fold=fold)


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_an_imported_list_may_name_cases_patients_or_files(tmp_path, suffix):
    patients = {"lidc-1": "A", "lidc-2": "A", "lidc-3": "B", "lidc-4-ct": "C", "lidc-5": "D"}
    told = {"train": ["A"], "val": ["lidc-3"], "test": ["data/LIDC-4_ct.nii.gz", "lidc-99"]}
    path = tmp_path / f"list.{suffix}"
    rows = [f"{name},{split}" for split, names in told.items() for name in names]
    path.write_text(json.dumps(told) if suffix == "json" else "name,split\n" + "\n".join(rows))
    splits, unknown = listed_splits(path, patients)
    assert splits == {"train": ["lidc-1", "lidc-2"], "val": ["lidc-3"], "test": ["lidc-4-ct"]}
    assert unknown == ["lidc-99"]


def test_a_data_sets_own_splits_can_be_imported(tmp_path):
    splits = split_patients(PATIENTS, seed=2)
    (tmp_path / "splits.json").write_text(json.dumps({"splits": splits, "hash": "x"}))
    assert listed_splits(tmp_path / "splits.json", PATIENTS) == (splits, [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"train": ["a"], "test": ["b"]}', "patient p is on two sides of the split: 'a' in train, 'b' in test"),
        ('{"train": ["a"], "test": ["c"]}', "one scan is on two sides"),
        ('{"train": ["a"], "tset": ["c"]}', "did you mean 'test'"),
        ('{"train": ["x"]}', "none of its names is a case or a patient"),
        ('["a"]', "cannot be read as a list of splits"),
    ],
)
def test_an_imported_list_is_checked(tmp_path, text, reason):
    """C-39: by patient, and by the voxels of a scan that is there under two names."""
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(BadInput, match=reason):
        listed_splits(tmp_path / "list.json", {"a": "p", "b": "p", "c": "q"}, {"a": "x", "c": "x"})
