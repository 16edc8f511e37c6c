"""The case store: what is written comes back, whole or not at all, and wrong folders are told so."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch

from raylift.data import store
from raylift.errors import BadInput, UnknownName
from raylift.geometry import parallel_beam, preset_beam
from raylift.io import files
from raylift.physics import Unit, ZScore
from raylift.types import Grid, View, Volume

VIEWS = (View.PA, View.LAT)


def _write(folder, *, side=8, centre=(12.3, -45.6, 789.1), filled=True, seed=0):
    rng = np.random.default_rng(seed)
    cube = Grid.canonical((side,) * 3, 2.5, centre)
    whole = Grid.canonical((side + 3, side + 1, side + 2), 1.5, centre)
    beams = {view: preset_beam(view, "chest", pixels=2 * side, isocentre_mm=centre) for view in VIEWS}
    valid = None
    if not filled:
        valid = np.ones((side,) * 3, bool)
        valid[-1] = False
    store.write_case(
        folder,
        patient="p1",
        ct=Volume(hu=rng.uniform(-1000, 1500, cube.shape), grid=cube, source="one.nii"),
        source=Volume(hu=rng.integers(-1000, 1500, whole.shape).astype(np.int16), grid=whole),
        xrays=rng.uniform(0, 9, (2, 2 * side, 2 * side)).astype(np.float32),
        beams=beams,
        valid=valid,
        notes={"preset": "chest"},
    )
    return beams


def _dataset(folder, names=("a", "b")):
    for k, name in enumerate(names):
        _write(folder / "cases" / name, seed=k, centre=(k, -k, 100.0 * k))
    described = dict(
        version=1, profile="chest", preset="chest", spacing=2.5, size=8, views=["PA", "LAT"], complete_rays=True
    )
    files.write_json(folder / "dataset.json", described | {"target": {"kind": "unit", "window": [-1024, 1476]}})
    splits = {"train": list(names), "val": [], "test": []}
    files.write_json(folder / "splits.json", {"splits": splits, "patients": dict.fromkeys(names, "p"), "hash": "0"})
    return store.open_dataset(folder)


def test_a_case_comes_back_as_it_was_written(tmp_path):
    beams = _write(tmp_path / "a", filled=False)
    case = store.open_case(tmp_path / "a")
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(case.ct(), np.rint(rng.uniform(-1000, 1500, (8, 8, 8))))
    np.testing.assert_array_equal(case.source().hu, rng.integers(-1000, 1500, (11, 9, 10)))
    np.testing.assert_array_equal(case.xrays(), rng.uniform(0, 9, (2, 16, 16)).astype(np.float32))
    assert case.beams == tuple(beams.values()) and case.views == VIEWS
    assert case.grid == Grid.canonical((8,) * 3, 2.5, (12.3, -45.6, 789.1))
    assert not case.valid()[-1].any() and case.valid()[:-1].all()
    assert case.ct().dtype == np.int16 and isinstance(case.ct(), np.memmap)


def test_a_full_cube_has_no_mask(tmp_path):
    _write(tmp_path / "a")
    assert store.open_case(tmp_path / "a").valid() is None


def test_the_same_case_is_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        _write(tmp_path / name, filled=False)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_parallel_beams_and_both_targets_come_back():
    from raylift.data import records

    beam = parallel_beam(View.RLAT, detector_mm=300, pixels=(4, 6), isocentre_mm=(1, 2, 3))
    assert records.beam_from_record(records.beam_record(beam, View.RLAT)) == beam
    for target in (Unit((-1000.0, 4096.0)), ZScore(12.5, 300.25)):
        assert records.target_from_record(records.target_record(target)) == target


def test_whole_hu_rounds_and_clips():
    hu = store.whole_hu(np.array([-3024.0, -0.6, 0.4, 40000.0]))
    assert hu.dtype == np.int16 and hu.tolist() == [-1024, -1, 0, 32767]


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_whole_hu_refuses_what_is_not_finite(wrong):
    with pytest.raises(BadInput, match=r"one\.nii: 2 voxels are not finite"):
        store.whole_hu(np.array([0.0, wrong, wrong]), "one.nii")


def test_a_batch_averages_and_centres(tmp_path):
    dataset = _dataset(tmp_path)
    cases = dataset.cases("train")
    batch = store.load_batch(cases, views=VIEWS, size=4)
    assert batch.hu.shape == (2, 1, 4, 4, 4) and batch.xrays.shape == (2, 2, 4, 4) and batch.valid is None
    assert batch.hu[1, 0, 0, 1, 2] == pytest.approx(cases[1].ct()[0:2, 2:4, 4:6].mean(), abs=1e-3)
    assert batch.xrays[1, 1, 3, 2] == pytest.approx(cases[1].xrays()[1, 12:16, 8:12].mean(), abs=1e-5)
    assert batch.beams[0] == batch.beams[1] == tuple(preset_beam(v, "chest", pixels=4) for v in VIEWS)


def test_a_batch_takes_views_in_the_order_asked(tmp_path):
    case = _dataset(tmp_path).case("b")
    batch = store.load_batch([case], views=(View.LAT, View.PA), size=16 // 2)
    both = store.load_batch([case], views=VIEWS, size=8)
    torch.testing.assert_close(batch.xrays, both.xrays.flip(1))
    assert batch.beams[0] == both.beams[0][::-1]


def test_a_batch_masks_where_any_case_is_partly_filled(tmp_path):
    _write(tmp_path / "a", filled=False)
    _write(tmp_path / "b")
    batch = store.load_batch([store.open_case(tmp_path / n) for n in "ab"], views=VIEWS, size=4)
    assert batch.valid[1].all() and not batch.valid[0, 0, -1].any() and batch.valid[0, 0, :-1].all()


def test_what_a_batch_cannot_hold_is_named(tmp_path):
    case = _dataset(tmp_path).case("a")
    with pytest.raises(BadInput, match="case a: 16 stored pixels or voxels a side cannot be averaged to 5"):
        store.load_batch([case], views=VIEWS, size=5)
    with pytest.raises(BadInput, match="case a has no view RLAT, only PA, LAT"):
        store.load_batch([case], views=(View.RLAT,), size=4)


def test_wrong_names_and_folders(tmp_path):
    with pytest.raises(BadInput, match=r"is no data set \(it has no dataset.json\)"):
        store.open_dataset(tmp_path / "nothing")
    dataset = _dataset(tmp_path)
    with pytest.raises(UnknownName, match="no split 'trian'; did you mean 'train'"):
        dataset.cases("trian")
    with pytest.raises(UnknownName, match="no case of"):
        dataset.case("c")


@pytest.mark.parametrize("file", ["ct.npy", "xrays.npy", "source.npy", "meta.json"])
def test_a_damaged_case_is_named(tmp_path, file):
    _write(tmp_path / "a")
    path = tmp_path / "a" / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInput, match=f"case a is damaged: {file}"):
        case = store.open_case(tmp_path / "a")
        case.ct(), case.xrays(), case.source()


def test_arrays_of_another_shape_are_noticed(tmp_path):
    _write(tmp_path / "a")
    np.save(tmp_path / "a" / "ct.npy", np.zeros((4, 4, 4), np.int16))
    with pytest.raises(BadInput, match=r"ct.npy holds int16 \(4, 4, 4\), meta.json says \(8, 8, 8\)"):
        store.open_case(tmp_path / "a").ct()


def test_a_failed_write_leaves_what_was_there(tmp_path):
    _write(tmp_path / "a")
    before = (tmp_path / "a" / "ct.npy").read_bytes()
    with pytest.raises(RuntimeError), files.whole_folder(tmp_path / "a") as partial:
        (partial / "ct.npy").write_bytes(b"half")
        raise RuntimeError
    assert (tmp_path / "a" / "ct.npy").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a"]


def _write_for_ever(folder):
    seed = 0
    while True:
        _write(folder / "a", side=24, seed=seed % 2)
        seed += 1


def test_a_killed_writer_leaves_a_whole_case_or_none(tmp_path):
    context = multiprocessing.get_context("fork")
    rng = np.random.default_rng(1)
    seen = 0
    for _ in range(12):
        writer = context.Process(target=_write_for_ever, args=(tmp_path,))
        writer.start()
        time.sleep(rng.uniform(0.02, 0.15))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        if (tmp_path / "a").exists():
            case = store.open_case(tmp_path / "a")
            assert case.ct().shape == (24, 24, 24) and case.xrays().shape == (2, 48, 48)
            assert case.source().hu.shape == (27, 25, 26)
            seen += 1
        files.sweep(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} <= {"a"}
    assert seen


def test_further_poses_and_labels_come_back(tmp_path):
    cube = Grid.canonical((8,) * 3, 2.5)
    poses = [
        {v: preset_beam(v, "chest", pixels=8, primary_deg=turn * (v == View.PA)) for v in VIEWS}
        for turn in (0, 20, -30)
    ]
    pictures = [np.full((2, 8, 8), k, np.float32) for k in range(3)]
    store.write_case(
        tmp_path / "a",
        patient="p",
        ct=Volume(hu=np.zeros(cube.shape, np.int16), grid=cube),
        xrays=pictures[0],
        beams=poses[0],
        further=list(zip(pictures[1:], poses[1:], strict=True)),
        labels=(np.arange(512).reshape(8, 8, 8) % 3, {"body": 1, "bone": 2}),
    )
    case = store.open_case(tmp_path / "a")
    assert case.poses == tuple(tuple(pose.values()) for pose in poses) and case.beams == case.poses[0]
    for k in range(3):
        np.testing.assert_array_equal(case.xrays(k), pictures[k])
    assert case.label_names == {"body": 1, "bone": 2} and case.labels().ravel()[:4].tolist() == [0, 1, 2, 0]
    batch = store.load_batch([case, case], views=VIEWS, size=4, poses=[2, 0])
    assert batch.xrays[:, 0, 0, 0].tolist() == [2, 0] and batch.beams[1] == tuple(b.resized(4, 4) for b in case.beams)


def test_a_case_without_labels_or_poses_has_none(tmp_path):
    _write(tmp_path / "a")
    case = store.open_case(tmp_path / "a")
    assert case.labels() is None and len(case.poses) == 1
    with pytest.raises(BadInput, match="finite"):
        store.write_case(
            tmp_path / "b",
            patient="p",
            ct=Volume(hu=case.ct(), grid=case.grid),
            xrays=case.xrays(),
            beams=dict(zip(case.views, case.beams, strict=True)),
            further=[(np.full((2, 16, 16), np.nan, np.float32), dict(zip(case.views, case.beams, strict=True)))],
        )
