"""Preparation: whatever the file's orientation a case is upright, the table goes and the arms stay, and each input is
prepared, rejected with its reason or named as damaged, with the same bytes however it was run.
"""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raylift import io, models
from raylift.data import augment
from raylift.data.prepare import Splitting, body, check, find, prepare, profiles, resample, steps
from raylift.data.split import split_hash
from raylift.data.store import load_batch, open_case, open_dataset
from raylift.errors import BadInput, UnknownName
from raylift.physics import MU_WATER, Unit, hu_to_mu
from raylift.projector import project
from raylift.types import Grid, View, Volume

SMALL = replace(
    profiles.CHEST, name="small", size=32, spacing=10.0, pixels=32, source_spacing=5.0, thickest_mm=12.0
)  # steps as for a chest, in few voxels
MARKER = (-70.0, -50.0, 100.0)  # right, front, top of the middle


@pytest.fixture(autouse=True)
def small_profile(monkeypatch):
    monkeypatch.setitem(profiles.PROFILES, "small", SMALL)


def _torso(
    *, lungs=True, table=True, marker=True, spine=True, half=(150.0, 100.0), length=340.0, centre=(20.0, -200.0, 900.0)
):
    """A torso of water, canonical, at 5 mm; its middle is `centre`."""
    grid = Grid.canonical((round(length / 5), 56, 2 * round(half[0] / 5) + 20), 5.0, centre)
    z, y, x = (
        grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)) - np.array(centre)
    ).transpose(3, 0, 1, 2)[::-1]
    hu = np.where((x / half[0]) ** 2 + (y / half[1]) ** 2 <= 1, 0.0, -1000.0)
    if lungs:
        for side in (-70, 70):
            hu[((x - side) / 50) ** 2 + (y / 65) ** 2 + (z / 120) ** 2 <= 1] = -850
    if spine:
        hu[(x**2 + (y - 75) ** 2 <= 15**2)] = 700
    if marker:
        hu[np.abs(np.stack([x, y, z], -1) - MARKER).max(-1) <= 12] = 3000
    if table:
        hu[(np.abs(y - half[1] - 22) <= 6) & (np.abs(x) <= half[0])] = 200
    return Volume(hu=hu.astype(np.int16), grid=grid, source="torso")


def _stored(volume: Volume, order, flips) -> Volume:
    """The same volume with its array's axes in another order and direction."""
    from raylift.geometry import canonical

    hu = volume.hu.transpose(order)
    affine = volume.grid.affine.copy()
    affine[:3, :3] = volume.grid.affine[:3, list(order)]
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (hu.shape[axis] - 1)
        affine[:3, axis] *= -1
    stored = Volume(hu=np.ascontiguousarray(np.flip(hu, flips)), grid=Grid(hu.shape, affine), source=volume.source)
    np.testing.assert_array_equal(canonical(stored).hu, volume.hu)
    return stored


def _case(volume, tmp_path, name="case", **settings):
    profile = replace(SMALL, **settings)
    steps.prepare_cases(volume, tmp_path / name, profile=profile, allow_short=False, patient="p", settings="s")
    return open_case(tmp_path / name)


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), ()), ((2, 1, 0), (0, 2)), ((1, 0, 2), (1,))])
def test_a_marker_at_the_right_front_top_is_there_in_cube_and_xrays(tmp_path, order, flips):
    case = _case(_stored(_torso(), order, flips), tmp_path)
    d, h, w = np.unravel_index(np.argmax(case.ct()), case.ct().shape)
    assert d < 10 and h < 16 and w < 14
    place = case.grid.world([d, h, w]) - case.grid.centre_mm
    assert np.abs(place - np.array(MARKER)).max() < 12
    without = _case(_stored(_torso(marker=False), order, flips), tmp_path, "without")
    for view, picture, bare in zip(case.views, case.xrays(), without.xrays(), strict=True):
        row, column = np.unravel_index(np.argmax(picture - bare), picture.shape)
        assert row < 12 and column < 14, view  # the top, and the viewer's left: right in frontal, front in lateral


def test_water_attenuates_by_its_thickness(tmp_path):
    case = _case(_torso(lungs=False, marker=False, spine=False), tmp_path)
    middle = case.xrays()[:, 15:17, 15:17].mean((1, 2))
    np.testing.assert_allclose(middle, [MU_WATER * 200, MU_WATER * 300], rtol=0.03)


def test_the_cube_is_centred_on_the_body_and_the_isocentre_on_the_cube(tmp_path):
    case = _case(_torso(), tmp_path)
    np.testing.assert_allclose(case.grid.centre_mm, (20, -200, 900), atol=4)
    for beam in case.beams:
        along = np.subtract(beam.detector_centre_mm, beam.source_mm)
        np.testing.assert_allclose(np.array(beam.source_mm) + along * 1500 / 1800, case.grid.centre_mm, atol=1e-6)


def test_the_table_goes_and_a_detached_arm_stays():
    volume = _torso(half=(150.0, 100.0))
    arm = volume.hu.copy()
    arm[:, 20:34, 1:9] = 40
    volume = replace(volume, hu=np.where(volume.hu == 200, volume.hu, arm))
    whole = replace(volume, hu=volume.hu.astype(np.float32))
    whole = steps.resample.upright(whole, 5.0, multiple=2)
    mask = body.body_mask(body.coarse(whole))
    clean = body.without_table(whole, mask).hu
    table, flesh = volume.hu == 200, arm == 40
    at = np.rint(whole.grid.index(volume.grid.world(np.argwhere(table)))).astype(int)
    assert (clean[tuple(at.T)] > -500).mean() < 0.02
    at = np.rint(whole.grid.index(volume.grid.world(np.argwhere(flesh)))).astype(int)
    assert (clean[tuple(at.T)] > -500).mean() > 0.9


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda v: replace(v, hu=(v.hu > 0).astype(np.int16) * 3), "whole numbers from 0 to 3 and no air: a label map"),
        (lambda v: replace(v, hu=(v.hu + 1000).clip(0) * 2), "no air near -1000 HU: not a CT in HU"),
        (lambda v: replace(v, hu=v.hu * 0 - 1000), "an empty image"),
        (lambda v: Volume(hu=v.hu[:40], grid=Grid.canonical(v.hu[:40].shape, 5.0)), "200 mm long, shorter than 280"),
        (lambda v: replace(v, hu=np.ascontiguousarray(v.hu[:, ::-1])), "front and back are exchanged"),
        (lambda v: Volume(hu=v.hu, grid=Grid.canonical(v.hu.shape, (14.0, 5.0, 5.0))), "14.0 mm between slices"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_rejected_with_the_reason(tmp_path, change, reason):
    with pytest.raises(steps.Rejected, match=reason):
        _case(change(_torso(table=False, marker=False)), tmp_path, source_spacing=2.5)
    assert not (tmp_path / "case").exists()


def test_a_body_behind_the_panel_is_rejected(tmp_path):
    wide = _torso(half=(320.0, 100.0), lungs=False, marker=False)
    with pytest.raises(steps.Rejected, match="the body reaches behind the panel of the LAT view"):
        _case(wide, tmp_path)
    _case(wide, tmp_path, rays="cube")  # what lies in the cube is before the panel


def test_a_short_scan_is_padded_and_marked_where_that_is_allowed(tmp_path):
    short = _torso(length=200.0)
    steps.prepare_cases(short, tmp_path / "a", profile=SMALL, allow_short=True, patient="p", settings="s")
    case = open_case(tmp_path / "a")
    filled = case.valid()
    assert filled[6:26, 4:28, 4:28].all() and not filled[:6].any() and not filled[26:].any()
    assert (case.ct()[~filled] == -1000).all()


def test_rays_of_the_cube_see_nothing_beyond_it(tmp_path):
    long = _torso(length=640.0, lungs=False, marker=False, table=False)
    whole = _case(long, tmp_path, "whole").xrays()
    inside = _case(long, tmp_path, "cube", rays="cube").xrays()
    np.testing.assert_allclose(whole[:, 16, 16], inside[:, 16, 16], rtol=0.02)
    assert (inside[:, 0] < 0.75 * whole[:, 0]).all(where=whole[:, 0] > 1)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder as it is found: NIfTI, MHA, DICOM, a label map, a truncated file, a copy under another name, notes."""
    folder = tmp_path_factory.mktemp("inputs")
    torso = _torso()
    for k in range(3):
        (folder / f"p{k}").mkdir()
        moved = Volume(hu=np.roll(torso.hu, k, 0), grid=torso.grid)
        io.write_ct(_stored(moved, (0, 1, 2), (1,) if k else ()), folder / f"p{k}" / "ct.nii.gz")
    io.write_ct(Volume(hu=(torso.hu > 0).astype(np.int16), grid=torso.grid), folder / "p0" / "bones.nii.gz")
    io.write_ct(Volume(hu=np.roll(torso.hu, 3, 0), grid=torso.grid), folder / "other.mha")
    io.write_ct(torso, folder / "p0-as-dicom")
    (folder / "short").mkdir()
    io.write_ct(_torso(length=200.0), folder / "short" / "ct.nii.gz")
    whole = (folder / "p1" / "ct.nii.gz").read_bytes()
    (folder / "broken.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "readme.txt").write_text("notes")
    (folder / "patients.csv").write_text("path,patient,split\np0,Ann,test\np1,Bob,\np2,Bob,\nother.mha,Cy,val\n")
    return folder


def _prepare(inputs, out, **settings):
    return prepare(inputs, out, profile="small", patients=inputs / "patients.csv", **settings)


def test_one_call_prepares_what_can_be_and_names_the_rest(inputs, tmp_path):
    heard = []
    report = _prepare(inputs, tmp_path / "out", progress=heard.append)
    assert report.prepared == ["other", "p0", "p0-as-dicom", "p1", "p2"] and not report.kept and not report.left_out
    assert [file for file, _ in report.failed] == [f"{inputs.name}/broken.nii.gz"]
    assert dict(report.rejected).keys() == {"p0/bones.nii.gz", "short/ct.nii.gz"}
    assert [h.done for h in heard] == list(range(1, 9)) and heard[-1].prepared == 5 and heard[-1].total == 8
    with open(tmp_path / "out" / "rejected.csv") as file:
        assert [row["kind"] for row in csv.DictReader(file)] == ["failed", "rejected", "rejected"]
    dataset = open_dataset(tmp_path / "out")
    assert dataset.patients["p1"] == dataset.patients["p2"] == "Bob"
    assert {"p0", "p0-as-dicom"} <= set(dataset.splits["test"]) and "other" in dataset.splits["val"]
    assert dataset.splits["train"] == ["p1", "p2"]
    batch = load_batch(dataset.cases("train"), views=(View.PA, View.LAT), size=16)
    assert batch.hu.shape == (2, 1, 16, 16, 16) and batch.beams[0] == batch.beams[1] and torch.isfinite(batch.hu).all()


def test_dicom_and_nifti_of_one_scan_are_one_scan(inputs, tmp_path):
    _prepare(inputs, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "dataset.json").read_text())["sources"]
    assert told["p0"] == told["p0-as-dicom"] and len(set(told.values())) == 4
    dataset = open_dataset(tmp_path / "out")
    assert dataset.split_hash == split_hash(dataset.splits, dataset.patients, told)


def test_interrupted_and_begun_again_gives_the_same_bytes(inputs, tmp_path):
    _prepare(inputs, tmp_path / "once")
    _prepare(inputs, tmp_path / "twice")
    for lost in ("cases/p1/ct.npy", "cases/p1/meta.json", "sources/p2.json", "splits.json", "dataset.json"):
        (tmp_path / "twice" / lost).unlink()
    report = _prepare(inputs, tmp_path / "twice")
    assert report.kept == ["other", "p0", "p0-as-dicom"]
    assert _tree(tmp_path / "once") == _tree(tmp_path / "twice")
    assert _prepare(inputs, tmp_path / "twice").kept == report.prepared


@pytest.mark.slow
def test_many_workers_give_the_same_bytes(inputs, tmp_path):
    _prepare(inputs, tmp_path / "one")
    _prepare(inputs, tmp_path / "two", jobs=2)
    assert _tree(tmp_path / "one") == _tree(tmp_path / "two")


def test_another_setting_prepares_again_and_another_profile_is_refused(inputs, tmp_path):
    _prepare(inputs, tmp_path / "out")
    report = _prepare(inputs, tmp_path / "out", allow_short=True)
    assert not report.kept and "short" in report.prepared
    with pytest.raises(BadInput, match="holds a data set of profile small with geometry chest"):
        _prepare(inputs, tmp_path / "out", preset="x2ct")


def test_a_case_whose_source_is_not_named_any_more_is_left_out(inputs, tmp_path):
    _prepare(inputs, tmp_path / "out")
    report = prepare([inputs / "p1", inputs / "p2"], tmp_path / "out", profile="small")
    assert report.prepared == ["p1", "p2"] and report.left_out == ["other", "p0", "p0-as-dicom"]
    assert sorted(open_dataset(tmp_path / "out").patients) == ["p1", "p2"]


def test_what_cannot_be_prepared_is_told_before_anything_is_written(inputs, tmp_path):
    with pytest.raises(UnknownName, match="no profile 'chset'; did you mean 'chest'"):
        prepare(inputs, tmp_path / "out", profile="chset")
    with pytest.raises(UnknownName, match="no geometry preset 'x2cd'; did you mean 'x2ct'"):
        prepare(inputs, tmp_path / "out", preset="x2cd")
    with pytest.raises(BadInput, match="no such file or folder"):
        prepare(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(BadInput, match="ratios"):
        _prepare(inputs, tmp_path / "out", ratios=(1, 2))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"no DICOM folder and no \.nii\.gz"):
        prepare(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.docx").write_text("x")
    with pytest.raises(BadInput, match="holds other files"):
        _prepare(inputs, tmp_path / "full")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("path,patient,split\na,P,train\nb,P,test\n", "line 3: P is in train and in test"),
        ("path,patient,split\na,P,tset\n", "did you mean 'test'"),
        ("file,name\na,P\n", "line 2: each row needs a path and a patient"),
        ("", "no rows"),
    ],
)
def test_a_wrong_table_of_patients_is_refused(inputs, tmp_path, text, reason):
    table = tmp_path / "patients.csv"
    table.write_text(text)
    with pytest.raises(BadInput, match=reason):
        prepare(inputs, tmp_path / "out", profile="small", patients=table)


def test_sources_are_named_by_their_place(inputs):
    assert {s.id for s in find.find_sources([inputs])} == {
        "p0", "p0-bones", "p1", "p2", "other", "short", "broken", "p0-as-dicom"
    }  # fmt: skip
    assert [s.id for s in find.find_sources([inputs / "p1", inputs / "p2" / "ct.nii.gz"])] == ["p1", "p2"]


def test_every_profile_and_preset_fits_together():
    for name in profiles.PROFILES:
        for preset in (None, "chest", "x2ct", "xctnet-paper"):
            profile = profiles.get(name, preset)
            assert profile.pixels % profile.size == 0
            assert (profile.rays == "cube") == (preset in profiles.PAPERS)
    assert profiles.settings_hash(profiles.get("chest"), False) != profiles.settings_hash(
        profiles.get("chest", "x2ct"), False
    )


@pytest.mark.parametrize("floor", [-80.0, -600.0])
def test_what_lies_below_the_floor_adds_nothing_and_the_rest_what_it_is_above_it(tmp_path, floor):
    plain = dict(marker=False, spine=False)
    middle = _case(_torso(lungs=False, **plain), tmp_path, "water", floor_hu=floor).xrays()[:, 15:17, 15:17]
    np.testing.assert_allclose(middle.mean((1, 2)), MU_WATER * np.array([200, 300]) * -floor / 1000, rtol=0.03)
    dense = _torso(**plain)
    light = replace(dense, hu=np.where(dense.hu == -850, -700, dense.hu))
    both = [_case(v, tmp_path, name, floor_hu=floor) for name, v in (("dense", dense), ("light", light))]
    bare = [_case(v, tmp_path, f"{name}-bare") for name, v in (("dense", dense), ("light", light))]
    assert np.abs(both[0].ct() - both[1].ct()).max() > 100
    apart = [np.abs(one.xrays() - other.xrays()).mean() for one, other in (both, bare)]
    assert apart[0] < 0.1 * apart[1]  # what is left are voxels half lung, half flesh


def test_xctnets_preset_is_a_declaration_that_travels_with_the_data(tmp_path):
    io.write_ct(_torso(), tmp_path / "ct.nii.gz")
    prepare(tmp_path / "ct.nii.gz", tmp_path / "set", profile="small", preset="xctnet-paper", ratios=(1, 0, 0))
    dataset = open_dataset(tmp_path / "set")
    (case,) = dataset.cases("train")
    assert dataset.floor_hu == case.floor_hu == -80 and dataset.rays == "cube"
    assert not dataset.complete_rays  # a CT cannot be refined by X-rays that are no line integrals
    assert dataset.target == models.get("xctnet").target == Unit((-1000.0, 2000.0))
    source = case.source()
    mu = hu_to_mu(torch.from_numpy(np.array(source.hu, np.float32)), floor_hu=-80.0)
    np.testing.assert_array_equal(case.xrays(), project(mu, source.grid, list(case.beams), backend="cpu").numpy())
    still = dict(cube=case.grid, beams=case.beams, rays="cube", floor_hu=case.floor_hu)
    _, again = augment.apply(augment.Movement(), torch.from_numpy(np.array(source.hu)), source.grid, **still)
    assert np.abs(again.numpy() - case.xrays()).mean() < 0.03 * case.xrays().mean()
    assert profiles.settings_hash(profiles.get("chest", "xctnet-paper"), False) != profiles.settings_hash(
        profiles.get("chest", "xctnet-paper", floor_hu=-1000.0), False
    )


def test_a_floor_that_cannot_be_meant_is_refused():
    with pytest.raises(BadInput, match="between -1000 and 1000 HU, not at -2000"):
        profiles.get("chest", floor_hu=-2000.0)
    with pytest.raises(BadInput, match="keeps the skeleton alone"):
        profiles.get("spine-bone", floor_hu=-80.0)
    assert profiles.get("spine-bone", "xctnet-paper").floor_hu == -1000


def test_infinite_voxels_are_refused():
    volume = _torso()
    hu = volume.hu.astype(np.float32)
    hu[3, 3, 3] = np.nan
    assert "not finite" in check.not_a_ct(replace(volume, hu=hu))


@pytest.mark.real
@pytest.mark.slow
def test_real_scans_in_one_call(tmp_path):
    if "RAYLIFT_DATA" not in os.environ:
        pytest.skip("RAYLIFT_DATA names no folder of real CTs")
    folder = Path(os.environ["RAYLIFT_DATA"])
    scans = [folder / "ct" / name for name in ("lidc-idri-0002", "lung-dx-a0001", "cmb-crc-01068")]
    report = prepare(scans, tmp_path / "out", patients=folder / "patients.csv")
    assert report.prepared == ["lidc-idri-0002", "lung-dx-a0001"] and not report.failed
    assert "250 mm long" in dict(report.rejected)["cmb-crc-01068/ct.nii.gz"]
    for name in report.prepared:
        case = open_dataset(tmp_path / "out").case(name)
        ct = case.ct().astype(float)
        air = ct < -600
        assert air[:, 40:90, 30:60].mean() > 0.2 and air[:, 40:90, 70:100].mean() > 0.2  # both lungs
        bone = ct > 300
        assert np.argwhere(bone)[:, 1].mean() > np.argwhere(ct > -500)[:, 1].mean()  # the spine is at the back
        frontal = case.xrays()[0]
        assert frontal[-80:-40].mean() > frontal[60:120].mean()  # the belly lies below the lungs


def _told(inputs, out, *words):
    from raylift.cli import main

    return main(["prepare", str(inputs / "p0"), str(inputs / "p1"), "-o", str(out), "--profile", "small", *words])


def test_json_tells_each_source_and_the_report(inputs, tmp_path, capsys):
    assert _told(inputs, tmp_path / "out", "--json") == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in said] == ["progress", "progress", "progress", "done"]
    assert [line["done"] for line in said[:-1]] == [1, 2, 3] and said[0]["a_minute"] > 0 == said[2]["seconds_left"]
    assert said[-1]["prepared"] == ["p0", "p1"] and "a label map" in said[-1]["rejected"][0][1]


def test_quiet_prints_what_is_wrong_and_the_last_line(inputs, tmp_path, capsys):
    assert _told(inputs, tmp_path / "out", "--quiet") == 0
    said = capsys.readouterr()
    assert said.out.startswith("2 cases prepared (0 already done), 1 not taken, 0 failed")
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["not taken"]


def test_a_list_of_splits_is_taken_and_checked(inputs, tmp_path, capsys):
    (tmp_path / "list.csv").write_text("p0,test\np1,train\nlidc-9,val\n")
    assert _told(inputs, tmp_path / "out", "--quiet", "--split-file", str(tmp_path / "list.csv")) == 0
    assert open_dataset(tmp_path / "out").splits == {"train": ["p1"], "val": [], "test": ["p0"]}
    assert "'lidc-9' is no case or patient" in (tmp_path / "out" / "notes.csv").read_text()
    (tmp_path / "one.csv").write_text("path,patient,split\np0,Ann,\np1,Ann,\n")
    (tmp_path / "p0").symlink_to(inputs / "p0")
    (tmp_path / "p1").symlink_to(inputs / "p1")
    words = ("--quiet", "--split-file", str(tmp_path / "list.csv"), "--patients", str(tmp_path / "one.csv"))
    capsys.readouterr()
    assert _told(inputs, tmp_path / "out", *words) == 2
    assert "patient Ann is on two sides of the split" in capsys.readouterr().err


def test_a_column_to_stratify_by_must_be_there(inputs, tmp_path):
    with pytest.raises(UnknownName, match=r"no column of patients\.csv to stratify by 'sex'"):
        _prepare(inputs, tmp_path / "out", splitting=Splitting(stratify="sex"))
    with pytest.raises(BadInput, match="2 patients cannot be divided into 5 folds"):
        prepare([inputs / "p1", inputs / "p2"], tmp_path / "out", profile="small", splitting=Splitting(fold=(0, 5)))


def _noise(shape, affine) -> Volume:
    hu = np.random.default_rng(0).normal(0.0, 300.0, shape).astype(np.float32)
    return Volume(hu=hu, grid=Grid(shape, affine))


def _in_general(monkeypatch, volume: Volume, grid: Grid, **settings) -> np.ndarray:
    """`resampled` without its short cuts: the whole volume, in the way that suits any two grids."""
    with monkeypatch.context() as patch:
        patch.setattr(resample, "WORTH", 0.0)
        patch.setattr(resample, "STRAIGHT", -1.0)
        return resample.resampled(volume, grid, **settings).hu


@pytest.mark.parametrize("turned_deg", [0.0, 20.0])
def test_a_part_resampled_is_that_part_of_the_whole_resampled(monkeypatch, turned_deg):
    c, s = np.cos(np.radians(turned_deg)), np.sin(np.radians(turned_deg))
    affine = np.eye(4)
    affine[:3, :3] = [[0, s, c], [0, c, -s], [1, 0, 0]]  # D H W to x y z, about z
    volume = _noise((70, 60, 80), affine)
    for centre in (volume.grid.world((34, 29, 40)), volume.grid.world((5, 50, 78))):  # within, and over the edge
        grid = Grid.canonical((9, 9, 9), 2.0, tuple(centre))
        part, whole = resample.resampled(volume, grid).hu, _in_general(monkeypatch, volume, grid)
        assert part.shape == whole.shape and np.abs(part - whole).max() < 1e-3


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [((30, 40, 50), (2.5, 0.7, 0.9)), ((60, 3, 50), (0.6, 4.0, 1.5)), ((1, 20, 20), (3.0, 1.4, 1.6))],
)
@pytest.mark.parametrize("flips", [(), (0,), (1, 2)])
def test_axis_after_axis_is_the_same_as_all_at_once(monkeypatch, shape, spacing_mm, flips):
    volume = _stored_noise(shape, spacing_mm, flips)
    for grid in (
        Grid.canonical((24, 25, 26), 1.5, tuple(volume.grid.centre_mm + 0.3)),
        Grid.canonical((8, 9, 10), 3.0, tuple(volume.grid.corners_mm[0] + 0.1)),  # mostly outside
    ):
        quick = resample.resampled(volume, grid, outside=-77.0).hu
        plain = _in_general(monkeypatch, volume, grid, outside=-77.0)
        assert quick.dtype == plain.dtype and np.abs(quick - plain).max() < 0.005  # HU of 300 SD
        np.testing.assert_array_equal(quick != -77.0, resample.inside(grid, volume.grid))


def _stored_noise(shape, spacing_mm, flips) -> Volume:
    affine = Grid.canonical(shape, spacing_mm, (5.0, -200.0, 900.0)).affine.copy()
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
        affine[:3, axis] *= -1
    return _noise(shape, affine)
