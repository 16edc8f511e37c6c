"""Profiles that keep a part of the patient: the skeleton, one vertebra a case, masks beside the cube; and what their
X-rays hold, how they are told to a model, and where consistency is refused.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from raylift import estimate, io, models
from raylift.data.phantom import torso
from raylift.data.prepare import prepare, profiles, scores, vertebrae, views
from raylift.data.store import load_batch, open_dataset
from raylift.errors import BadInput, RayliftError, UnknownName
from raylift.models import weights
from raylift.models.spec import Recipe
from raylift.physics import ZScore, automatic_gamma, hu_to_mu, xray_to_input
from raylift.projector import project
from raylift.segment.vertebrae import VERSE, from_label_map
from raylift.train.feed import Feed
from raylift.train.start import material
from raylift.types import Grid, View, Volume

GRID = Grid.canonical((64, 48, 56), 5.0, (10.0, -20.0, 400.0))
LEVELS = ("C7", "T12", "L1", "L2", "L3")  # L3 is cut off
SMALL_BONE = replace(profiles.SPINE_BONE, name="small-bone", size=32, spacing=8.0, pixels=32, source_spacing=5.0)
SMALL_VERTEBRA = replace(
    profiles.VERTEBRA, name="small-vertebra", size=32, spacing=4.0, pixels=32, poses=3, source_spacing=5.0
)
SMALL_MASKS = replace(
    profiles.PROFILES["pneumothorax"], name="small-masks", size=64, spacing=5.0, pixels=64, source_spacing=5.0
)


@pytest.fixture(autouse=True)
def small_profiles(monkeypatch):
    for profile in (SMALL_BONE, SMALL_VERTEBRA, SMALL_MASKS):
        monkeypatch.setitem(profiles.PROFILES, profile.name, profile)


def _patient(shift=0):
    """Grainy flesh with two lungs and a column of vertebrae (body, spinous process) in air, and their label map."""
    hu = np.full(GRID.shape, -1000, np.int16)
    hu[:, 10:42, 6:50] = 40
    z, y, x = np.meshgrid(*map(np.arange, GRID.shape), indexing="ij")
    for side in (16, 39):
        hu[((z - 26) / 20) ** 2 + ((y - 25) / 12) ** 2 + ((x - side) / 8) ** 2 < 1] = -850
    hu[:] += np.random.default_rng(0).normal(0, 15, hu.shape).round().astype(np.int16)
    labels = np.zeros(GRID.shape, np.int16)
    for k, level in enumerate(LEVELS):
        top = 3 + 13 * k + shift
        for box in (
            (slice(top, top + 9), slice(30, 36), slice(24, 32)),
            (slice(top + 3, top + 6), slice(36, 41), slice(27, 29)),
        ):
            hu[box] = 900 + 20 * k
            hu[tuple(slice(b.start + 1, b.stop - 1) for b in box)] = 300  # marrow
            labels[box] = VERSE[level]
    return Volume(hu=hu, grid=GRID), Volume(hu=labels, grid=GRID)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two patients, each with a CT and its label map."""
    base = tmp_path_factory.mktemp("spines")
    for k in range(2):
        ct, labels = _patient(shift=k)
        (base / f"p{k}").mkdir()
        io.write_ct(ct, base / f"p{k}" / "ct.nii.gz")
        io.write_ct(labels, base / f"p{k}" / "mask.nii.gz")
    return base


def _prepared(folder, out, profile, **settings):
    report = prepare(folder, out, profile=profile, ratios=(1, 0, 0), **settings)
    assert not report.failed
    return report, open_dataset(out)


@pytest.fixture(scope="module")
def vertebra_set(folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(profiles.PROFILES, "small-vertebra", SMALL_VERTEBRA)
        return _prepared(folder, tmp_path_factory.mktemp("set") / "vertebrae", "small-vertebra")


def _projected(case, pose=0):
    mu = hu_to_mu(torch.from_numpy(np.array(case.ct(), np.float32)))
    return project(mu, case.grid, list(case.poses[pose]), backend="cpu").numpy()


def test_each_whole_vertebra_is_a_case_and_the_rest_is_told(vertebra_set):
    report, dataset = vertebra_set
    assert report.prepared == [f"p{k}-{level}" for k in range(2) for level in ("l1", "l2", "t12")]
    told = dict(report.noted) | {}
    reasons = [note for _, note in report.noted]
    assert "C7 left out: not one of T1 to L5" in reasons and "L3 left out: the scan ends within it" in reasons
    assert told.keys() == {"p0-t12", "p1-t12"}  # once for a CT
    meta = json.loads((dataset.folder / "cases" / "p0-l1" / "meta.json").read_text())
    assert meta["vertebra"] == "L1" and meta["class"] == 12 and meta["labels_from"].endswith("verse")
    assert set(dataset.splits["train"]) == set(report.prepared)


def test_a_cube_holds_its_vertebra_in_the_middle_and_nothing_else(vertebra_set):
    _, dataset = vertebra_set
    for k, level in enumerate(("T12", "L1", "L2"), 1):
        case = dataset.case(f"p0-{level.lower()}")
        hu = case.ct()
        assert case.grid.shape == (32, 32, 32) and case.grid.spacing_mm == (4.0, 4.0, 4.0)
        bone = hu > -1000
        assert hu.max() == pytest.approx(900 + 20 * k, abs=45)
        mm3 = bone.sum() * 4.0**3
        assert mm3 == pytest.approx((9 * 6 * 8 + 3 * 5 * 2) * 125, rel=0.25)
        index = np.argwhere(bone)
        np.testing.assert_allclose((index.min(0) + index.max(0)) / 2, 15.5, atol=1)
        _, labels = _patient()
        place = GRID.world(np.argwhere(labels.hu == VERSE[level]).mean(0))
        np.testing.assert_allclose(case.grid.world(index.mean(0)), place, atol=2)


def test_xrays_of_every_pose_are_those_of_the_cube(vertebra_set):
    _, dataset = vertebra_set
    assert dataset.complete_rays and dataset.rays == "kept"
    case = dataset.case("p0-l1")
    assert len(case.poses) == 4
    for pose in range(4):
        np.testing.assert_array_equal(case.xrays(pose), _projected(case, pose))
    batch = load_batch([case, case], views=(View.PA, View.LAT), size=16, poses=[0, 2])
    assert not torch.equal(batch.xrays[0], batch.xrays[1]) and batch.beams[0] != batch.beams[1]
    torch.testing.assert_close(batch.hu[0], batch.hu[1])


def _between_deg(beams):
    ways = [np.subtract(b.detector_centre_mm, b.source_mm) for b in beams]
    return np.degrees(np.arccos(ways[0] @ ways[1] / np.linalg.norm(ways[0]) / np.linalg.norm(ways[1])))


def test_angles_between_the_views_are_those_stated():
    cube = Grid.canonical((32,) * 3, 4.0, (1.0, 2.0, 3.0))
    assert _between_deg(list(views.beams_about(profiles.VERTEBRA, cube).values())) == pytest.approx(90)
    for angle in (60.0, 80.0, 140.0):
        beams = views.beams_about(replace(profiles.VERTEBRA, angle_deg=angle), cube)
        assert _between_deg(list(beams.values())) == pytest.approx(angle)
        assert beams[View.LAT] == views.beams_about(profiles.VERTEBRA, cube)[View.LAT]
    many = replace(profiles.VERTEBRA, poses=400)
    angles = [_between_deg(list(pose.values())) for pose in views.further_beams(many, cube, "a")]
    assert min(angles) >= 59.99 and max(angles) <= 140.01 and np.mean(angles) == pytest.approx(100, abs=4)
    assert np.std(angles) == pytest.approx(80 / np.sqrt(12), rel=0.1)
    assert views.further_beams(many, cube, "a") == views.further_beams(many, cube, "a")
    assert views.further_beams(many, cube, "a")[0] != views.further_beams(many, cube, "b")[0]


def test_standard_scores_are_those_of_the_training_cases(vertebra_set, folder, tmp_path):
    _, dataset = vertebra_set
    hu = np.concatenate([case.ct().ravel() for case in dataset.cases("train")]).astype(np.float64)
    assert dataset.target.mean == pytest.approx(hu.mean(), abs=1e-9)
    assert dataset.target.sd == pytest.approx(hu.std(), rel=1e-9)
    encoded = dataset.target.encode(hu)
    assert encoded.mean() == pytest.approx(0, abs=1e-9) and encoded.std() == pytest.approx(1)
    (tmp_path / "patients.csv").write_text(f"path,patient,split\n{folder / 'p0'},A,train\n{folder / 'p1'},B,test\n")
    other = tmp_path / "other"
    prepare(folder, other, profile="small-vertebra", patients=tmp_path / "patients.csv", poses=0)
    divided = open_dataset(other)
    alone = np.concatenate([case.ct().ravel() for case in divided.cases("train")]).astype(np.float64)
    assert divided.splits["test"] and divided.target.mean == pytest.approx(alone.mean(), abs=1e-9)
    assert scores.training_target(ZScore(1.0, 2.0), other, []) == ZScore(1.0, 2.0)


def test_a_vertebra_before_the_whole_patient_has_rays_that_say_more(vertebra_set, folder, tmp_path):
    _, alone = vertebra_set
    _, dataset = _prepared(folder / "p0", tmp_path / "whole", "small-vertebra", rays="whole", poses=1)
    assert not dataset.complete_rays and dataset.case("ct-l1" if "ct-l1" in dataset.patients else "p0-l1")
    name = next(n for n in dataset.patients if n.endswith("l1"))
    case, same = dataset.case(name), alone.case("p0-l1")
    np.testing.assert_array_equal(case.ct(), same.ct())
    assert (case.xrays() > same.xrays() - 1e-3).all() and case.xrays().mean() > 3 * same.xrays().mean()
    assert case.source() is None


@pytest.mark.parametrize("fault", ["none", "elsewhere", "empty"])
def test_a_ct_without_usable_labels_is_rejected_with_the_reason(tmp_path, fault):
    ct, labels = _patient()
    (tmp_path / "p").mkdir()
    io.write_ct(ct, tmp_path / "p" / "ct.nii.gz")
    if fault == "elsewhere":
        labels = Volume(hu=labels.hu, grid=Grid.canonical(GRID.shape, 5.0, (10.0, -20.0, 2000.0)))
    if fault == "empty":
        labels = Volume(hu=np.where(labels.hu > 0, 60, 0).astype(np.int16), grid=GRID)
    if fault != "none":
        io.write_ct(labels, tmp_path / "p" / "mask.nii.gz")
    report = prepare(tmp_path / "p", tmp_path / "out", profile="small-vertebra")
    reason = " ".join(text for _, text in report.rejected + report.failed)
    assert not report.prepared
    assert {"none": "no label map beside it", "elsewhere": "lies elsewhere", "empty": "no vertebra"}[fault] in reason


def test_a_vertebra_too_large_for_the_cube_is_left_out(folder):
    ct, labels = _patient()
    tiny = replace(SMALL_VERTEBRA, size=8, spacing=4.0)
    scan = vertebrae.Scan(volume=ct, vertebrae=from_label_map(labels), profile=tiny, seen=None, meta={})
    assert "more than the cube of 32 mm holds" in vertebrae._unfit("L1", scan)


def test_a_skeleton_stands_in_air_and_its_rays_are_complete(folder, tmp_path):
    _, dataset = _prepared(folder / "p0", tmp_path / "bone", "small-bone")
    case = dataset.cases("train")[0]
    assert dataset.complete_rays and dataset.rays == "kept" and dataset.gamma == 0.5
    source, hu = case.source(), case.ct()
    assert ((source.hu > -1000) & (source.hu < 200)).mean() < 1e-3
    assert (hu == -1000).mean() > 0.9 and hu.max() > 500
    mu = hu_to_mu(torch.from_numpy(np.array(source.hu, np.float32)))
    np.testing.assert_array_equal(case.xrays(), project(mu, source.grid, list(case.beams), backend="cpu").numpy())


def test_the_skeleton_before_the_whole_patient_is_not_complete(folder, tmp_path):
    _, bare = _prepared(folder / "p0", tmp_path / "bare", "small-bone")
    _, dataset = _prepared(folder / "p0", tmp_path / "whole", "small-bone", rays="whole")
    case, same = dataset.cases("train")[0], bare.cases("train")[0]
    assert not dataset.complete_rays and case.source() is None
    np.testing.assert_allclose(case.ct(), same.ct(), atol=1)
    assert case.xrays().mean() > 2 * same.xrays().mean()
    with pytest.raises(BadInput, match="another folder"):
        prepare(folder / "p0", tmp_path / "whole", profile="small-bone")


def _tiny(name, profile, size):
    model = models.get(name)
    return replace(model, options={**model.options, **model.tiny}, profile=profile, size=size, spacing=256.0 / size)


def test_a_model_takes_gamma_and_completeness_of_its_data_and_keeps_them(folder, tmp_path):
    _prepared(folder / "p0", tmp_path / "set", "small-bone", rays="whole", gamma=0.01)
    model = _tiny("3dsrnet", "small-bone", 32)
    taken, _, about = material(model, model.recipe, tmp_path / "set", None)
    assert taken.gamma == 0.01 and not taken.complete_rays and about["rays"] == "whole"
    again = weights.rebuild(json.loads(json.dumps(weights.describe(taken))), model)
    assert again.gamma == 0.01 and not again.complete_rays
    with pytest.raises(BadInput, match="its X-rays show more than its cubes hold"):
        material(model, replace(model.recipe, augment="paired"), tmp_path / "set", None)
    with pytest.raises(BadInput, match="cannot be refined"):
        estimate.choose(True, taken, [])
    assert not estimate.choose(None, taken, []).on
    choice = estimate.choose(None, replace(taken, complete_rays=True), [])
    assert not choice.on and "an X-ray of a patient shows more" in choice.why


def test_training_draws_among_the_poses_where_it_is_asked_to(vertebra_set):
    _, dataset = vertebra_set
    model = replace(models.get("ear"), size=32)
    cases = dataset.cases("train")
    first = Feed(cases=cases, model=model, recipe=Recipe(losses={"l1": 1.0}))
    any_pose = replace(first, recipe=Recipe(losses={"l1": 1.0}, poses="any"))
    assert {b.beams[0] for s in range(12) for b in first.batches(s)} == {first.batches(0)[0].beams[0]}
    assert len({b.beams[0] for s in range(12) for b in any_pose.batches(s)}) > 4
    torch.testing.assert_close(any_pose.batches(3)[0].xrays, any_pose.batches(3)[0].xrays)


def test_masks_lie_beside_the_cube(tmp_path):
    phantom = torso(2, grid=Grid.canonical((80, 76, 96), 5.0), arms_up=False)
    (tmp_path / "p").mkdir()
    io.write_ct(phantom.volume, tmp_path / "p" / "ct.nii.gz")
    _, dataset = _prepared(tmp_path / "p", tmp_path / "masks", "small-masks")
    case = dataset.cases("train")[0]
    labels, hu, names = case.labels(), case.ct(), case.label_names
    assert {"body", "lung_right", "lung_left", "bone"} <= names.keys() and labels.dtype == np.uint8
    assert (hu[labels == 0] < -500).mean() > 0.95 and (hu[labels == names["bone"]] > 0).mean() > 0.95
    lungs = {side: labels == names[f"lung_{side}"] for side in ("right", "left")}
    for side, lung in lungs.items():
        assert lung.sum() * 0.125 == pytest.approx(phantom.truth[f"lung_{side}_ml"], rel=0.25)
    assert np.argwhere(lungs["right"])[:, 2].mean() < np.argwhere(lungs["left"])[:, 2].mean()


def test_automatic_gamma_takes_the_mean_grey_level_to_its_target():
    even = torch.full((2, 8, 8), 0.2)
    for target in (0.5, 0.01):
        torch.testing.assert_close(automatic_gamma(even, target), torch.full((2, 8, 8), target))
    ramp = torch.linspace(0, 1, 64).reshape(1, 8, 8)
    bright = automatic_gamma(ramp**3, 0.5)
    assert (bright.flatten().diff() >= 0).all() and bright.min() >= 0 and bright.max() <= 1
    assert automatic_gamma(ramp, 0.01).mean() < 0.2 < automatic_gamma(ramp, 0.5).mean()
    for flat in (0.0, 1.0):
        torch.testing.assert_close(automatic_gamma(torch.full((1, 4, 4), flat), 0.5), torch.full((1, 4, 4), flat))


def test_a_models_input_has_its_gamma_and_no_other_does():
    model, xrays = models.get("3dsrnet"), torch.rand(2, 2, 16, 16, generator=torch.Generator().manual_seed(0)) ** 4
    torch.testing.assert_close(replace(model, gamma=None).inputs(xrays), xray_to_input(xrays))
    seen = replace(model, gamma=0.5).inputs(xrays)
    torch.testing.assert_close(seen, automatic_gamma(xray_to_input(xrays), 0.5))
    torch.testing.assert_close(replace(model, gamma=0.5).inputs(9 * xrays + 2), seen, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("settings", "error", "reason"),
    [
        (dict(rays="bones"), UnknownName, "no kind of rays 'bones'"),
        (dict(angle_deg=5.0), BadInput, "between 20 and 160 degrees"),
        (dict(between_deg=(120.0, 60.0)), BadInput, "not 120 to 60"),
        (dict(poses=-1), BadInput, "further poses, not -1"),
        (dict(gamma=1.0), BadInput, "between 0 and 1, not at 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, error, reason):
    with pytest.raises(error, match=reason):
        profiles.get("vertebra", **settings)
    assert issubclass(error, RayliftError)


def test_models_and_their_profiles_agree_on_the_cube():
    for model in models.MODELS.values():
        profile = profiles.PROFILES.get(model.profile)
        assert profile is not None, model.name
        assert profile.size * profile.spacing == pytest.approx(model.size * model.spacing), model.name
