"""The skeleton by K-means: bone and its marrow stay, flesh and vessels full of contrast go."""

from dataclasses import replace

import numpy as np
import pytest

from raylift.data.phantom import LABELS, torso
from raylift.data.prepare.views import line_integrals
from raylift.geometry import preset_beam
from raylift.segment import bone
from raylift.types import Grid, View

SPACING = (2.0, 2.0, 2.0)


def _block(**parts):
    """Flesh with fat about it in air, and whatever `parts` puts in: (HU, place, half sides), voxels of 2 mm."""
    rng = np.random.default_rng(0)
    hu = np.full((60, 70, 80), -1000.0)
    hu[5:55, 5:65, 5:75] = -100
    hu[8:52, 8:62, 8:72] = 50
    for value, centre, half in parts.values():
        hu[tuple(slice(c - h, c + h) for c, h in zip(centre, half, strict=True))] = value
    return (hu + rng.normal(0, 12, hu.shape)).astype(np.float32)


CORTEX = (800.0, (30, 45, 40), (12, 9, 10))
MARROW = (320.0, (30, 45, 40), (10, 7, 8))


def test_k_means_finds_the_middles_of_clumps_and_moves_no_further():
    values = np.array([0.0, 1.0, 2.0, 50.0, 52.0, 100.0])
    weights = np.array([1.0, 2.0, 1.0, 1.0, 1.0, 3.0])
    centres = bone.k_means(values, weights, (5.0, 40.0, 90.0))
    np.testing.assert_allclose(centres, [1.0, 51.0, 100.0])
    np.testing.assert_allclose(bone.k_means(values, weights, centres.tolist()), centres)


def test_bone_and_its_marrow_stay_and_flesh_goes():
    hu = _block(cortex=CORTEX, marrow=MARROW)
    mask = bone.skeleton(hu, SPACING)
    inside = np.zeros(hu.shape, bool)
    inside[18:42, 36:54, 30:50] = True
    assert mask[inside].mean() > 0.98 and mask[~inside].mean() < 0.005
    assert 50 < bone.bone_begins_hu(hu) < 800


def test_the_threshold_moves_with_the_scale_of_the_bones():
    dim, bright = (_block(cortex=(hu, *CORTEX[1:])) for hu in (400.0, 1200.0))
    assert bone.bone_begins_hu(bright) > bone.bone_begins_hu(dim) + 200


def test_a_vessel_as_dense_as_bone_goes_and_the_bone_beside_it_stays():
    vessel = (350.0, (30, 20, 40), (20, 8, 8))
    hu = _block(cortex=CORTEX, marrow=MARROW, vessel=vessel)
    mask = bone.skeleton(hu, SPACING)
    assert hu[30, 20, 40] > bone.bone_begins_hu(hu)
    assert mask[12:48, 14:26, 34:46].mean() < 0.02 and mask[18:42, 36:54, 30:50].mean() > 0.9


def test_marrow_of_fat_is_bone_and_canal_and_disc_are_not():
    body = dict(cortex=(700.0, (30, 34, 40), (14, 10, 12)), marrow=(-60.0, (30, 34, 40), (12, 8, 10)))
    arch = dict(arch=(700.0, (30, 50, 40), (14, 8, 9)), canal=(30.0, (30, 50, 40), (30, 5, 6)))
    disc = dict(disc=(90.0, (30, 34, 40), (2, 10, 12)))
    mask = bone.skeleton(_block(**body, **arch, **disc), SPACING)
    assert mask[20:27, 28:40, 32:48].mean() > 0.98 and mask[34:41, 28:40, 32:48].mean() > 0.98
    assert mask[20:40, 47:53, 36:44].mean() < 0.02
    assert mask[29:31, 26:42, 30:50].mean() < 0.1


def test_the_vein_that_contrast_is_given_into_goes_where_other_vessels_are_full_of_it():
    vessel, jet = (450.0, (30, 20, 30), (20, 8, 8)), (1300.0, (30, 20, 56), (10, 6, 6))
    mask = bone.skeleton(_block(cortex=CORTEX, marrow=MARROW, vessel=vessel, jet=jet), SPACING)
    assert mask[20:40, 14:26, 50:62].mean() < 0.02 and mask[18:42, 36:54, 30:50].mean() > 0.9
    alone = bone.skeleton(_block(cortex=CORTEX, marrow=MARROW, jet=jet), SPACING)
    assert alone[22:38, 15:25, 51:61].mean() > 0.9  # a rod of metal, for all that is known


def test_nothing_dense_is_no_skeleton():
    assert not bone.skeleton(np.full((20, 20, 20), -1000.0, np.float32), SPACING).any()
    assert not bone.skeleton(np.full((5, 1, 3), 40, np.int16), SPACING).any()


@pytest.mark.parametrize("seed", [1, 4])
def test_a_torso_keeps_its_bones_and_loses_its_heart(seed):
    grid = Grid.canonical((110, 120, 150), 2.5)
    phantom = torso(seed, grid=grid, contrast=True, table=False)
    mask = bone.skeleton(phantom.volume.hu, grid.spacing_mm)
    where = lambda *names: np.isin(phantom.labels, [LABELS[name] for name in names])  # noqa: E731
    dense = where("bone", "vertebrae") & (phantom.volume.hu > 300)
    assert mask[dense].mean() > 0.9
    assert mask[where("heart")].mean() < 0.1 and mask[where("liver")].mean() < 0.02
    assert mask[where("lung_right", "lung_left", "air")].mean() < 0.01


def _picture():
    """Flesh that swells and fades, a column of bone 20 mm wide, and the bone alone; pixels of 1 mm."""
    y, x = np.mgrid[:160, :200].astype(np.float32)
    flesh = 4 * np.exp(-(((x - 100) / 60) ** 2 + ((y - 80) / 90) ** 2))
    column = np.where(np.abs(x - 90) < 10, 1.5, 0).astype(np.float32)
    return flesh + column, column


def test_bone_stands_out_of_an_xray_picture():
    picture, column = _picture()
    found = bone.bone_xray(picture, (1.0, 1.0))
    assert found.dtype == picture.dtype and found.min() >= 0
    apart = lambda a: np.corrcoef(a.ravel(), column.ravel())[0, 1]  # noqa: E731
    assert apart(found) > 0.7 and apart(found) > apart(picture) + 0.05
    assert not bone.bone_xray(np.full((40, 40), 3.0, np.float32), (1.0, 1.0)).any()
    fine = bone.bone_xray(picture.repeat(2, 0).repeat(2, 1), (0.5, 0.5))
    assert np.corrcoef(fine[::2, ::2].ravel(), found.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("view", [View.PA, View.LAT])
def test_what_stands_out_is_more_like_the_skeletons_xray_than_the_picture_is(view):
    phantom = torso(1, grid=Grid.canonical((110, 100, 130), 3.0), table=False)
    bones = np.isin(phantom.labels, [LABELS["bone"], LABELS["vertebrae"]])
    beam = {view: preset_beam(view, "chest", pixels=128)}
    whole, alone = (
        line_integrals(replace(phantom.volume, hu=hu), beam)[0]
        for hu in (phantom.volume.hu, np.where(bones, phantom.volume.hu, -1000))
    )
    inside = whole > 0.3
    like = lambda a: np.corrcoef(a[inside], alone[inside])[0, 1]  # noqa: E731
    assert like(bone.bone_xray(whole, beam[view].pixel_mm)) > like(whole) + 0.03


def test_the_scale_of_a_picture_does_not_matter():
    picture, _ = _picture()
    np.testing.assert_allclose(
        bone.bone_xray(7 * picture, (1.0, 1.0)), 7 * bone.bone_xray(picture, (1.0, 1.0)), rtol=1e-3, atol=1e-3
    )


@pytest.mark.real
@pytest.mark.slow
def test_bones_of_a_real_chest_are_found_and_its_heart_is_not(real):
    from raylift import io
    from raylift.geometry import canonical

    folder = real / "ct" / "lidc-idri-0001"
    ct, labels = (canonical(io.read_ct(folder / name)) for name in ("ct.nii.gz", "mask.nii.gz"))
    hu, numbers = ct.hu[:, ::2, ::2], labels.hu[:, ::2, ::2]
    mask = bone.skeleton(hu, (2.5, 1.406, 1.406))
    bones = np.isin(numbers, [*range(25, 51), *range(69, 79), *range(91, 117)])  # vertebrae, limbs, ribs, sternum
    assert 2 * (mask & bones).sum() / (mask.sum() + bones.sum()) > 0.7
    assert mask[(hu > 300) & (numbers >= 32) & (numbers <= 43)].mean() > 0.9  # T1 to T12
    assert mask[(numbers == 51) | (numbers == 52)].mean() < 0.02  # heart, aorta
