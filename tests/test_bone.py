"""The skeleton by K-means: bone and its marrow stay, flesh and vessels full of contrast go."""

import numpy as np
import pytest

from raylift.data.phantom import LABELS, torso
from raylift.segment import bone
from raylift.types import Grid

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
    assert found.dtype == picture.dtype and found.min() == 0
    apart = lambda a: np.corrcoef(a.ravel(), column.ravel())[0, 1]  # noqa: E731
    assert apart(found) > 0.8 and apart(found) > apart(picture) + 0.1
    assert not bone.bone_xray(np.full((40, 40), 3.0, np.float32), (1.0, 1.0)).any()


def test_the_scale_of_a_picture_does_not_matter():
    picture, _ = _picture()
    np.testing.assert_allclose(
        bone.bone_xray(7 * picture, (1.0, 1.0)), 7 * bone.bone_xray(picture, (1.0, 1.0)), rtol=1e-3, atol=1e-3
    )


@pytest.mark.real
@pytest.mark.slow
def test_vertebrae_of_a_real_chest_are_bone_and_its_aorta_is_not(real):
    from raylift import io
    from raylift.geometry import canonical

    folder = real / "ct" / "lidc-idri-0001"
    ct, labels = (canonical(io.read_ct(folder / name)) for name in ("ct.nii.gz", "mask.nii.gz"))
    part = slice(30, 100)
    mask = bone.skeleton(ct.hu[part, ::2, ::2], (2.5, 1.406, 1.406))
    numbers = labels.hu[part, ::2, ::2]
    dense = ct.hu[part, ::2, ::2] > 300
    assert mask[dense & (numbers >= 32) & (numbers <= 43)].mean() > 0.9  # T1 to T12
    assert mask[numbers == 52].mean() < 0.15  # the aorta
