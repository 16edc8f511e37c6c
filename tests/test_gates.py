"""The gate's laws: each check speaks up for a phantom with its fault, and says nothing about the same without it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from raylift import io
from raylift.data.phantom.torso import torso
from raylift.data.prepare import alike, body, check, gates, morphology, profiles, resample, steps
from raylift.geometry import canonical
from raylift.segment.morphology import planes_filled
from raylift.types import Grid, Volume


@pytest.fixture(scope="module")
def chest() -> Volume:
    """A randomised torso with lungs, ribs and noise, canonical, 4 mm."""
    return torso(np.random.default_rng(3), grid=Grid.canonical((100, 90, 110), 4.0)).volume


def looked_at(volume: Volume):
    """The coarse CT, the body in it and its lungs, as preparation finds them."""
    whole = resample.upright(replace(volume, hu=volume.hu.clip(-1024)), 2.0, multiple=2)
    small = body.coarse(whole)
    mask = body.body_mask(small)
    return whole, small, mask, body.lung_mask(small, mask)


def without(volume: Volume, planes: slice) -> Volume:
    hu = np.delete(volume.hu, planes, 0)
    return Volume(hu=hu, grid=Grid.canonical(hu.shape, volume.grid.spacing_mm, tuple(volume.grid.centre_mm)))


def test_a_sound_chest_passes_every_gate(chest):
    whole, small, mask, lungs = looked_at(chest)
    assert gates.repeated_slices(chest) is None and gates.missing_slices(chest) is None
    assert gates.upside_down(small, mask, lungs) is None and check.back_to_front(small, mask, lungs) is None
    assert gates.truncated(gates.cut_share(small, mask)) is None
    assert gates.full_of_metal(gates.metal_ml(whole, mask, body.COARSE)) is None
    assert gates.noted(gates.cut_share(small, mask), gates.metal_ml(whole, mask, body.COARSE)) == []


@pytest.mark.parametrize(("at", "count"), [(30, 3), (50, 4), (70, 3)])
def test_missing_slices_are_found_where_they_are_missing(chest, at, count):
    reason = gates.missing_slices(without(chest, slice(at, at + count)))
    assert f"missing between number {at} and {at + 1} from the head" in reason


def test_repeated_slices_are_found_but_a_drawing_may_repeat_itself(chest):
    hu = chest.hu.copy()
    hu[41] = hu[40]
    assert "1 slices repeat their neighbours, the first is number 42" in gates.repeated_slices(replace(chest, hu=hu))
    drawing = replace(chest, hu=np.where(np.ones_like(hu) * np.hypot(*np.ogrid[-45:45, -55:55]) < 40, 40, -1000))
    assert gates.repeated_slices(replace(drawing, hu=drawing.hu.astype(np.int16))) is None


def test_head_and_feet_exchanged(chest):
    turned = replace(chest, hu=np.ascontiguousarray(chest.hu[::-1]))
    _, small, mask, lungs = looked_at(turned)
    assert "its ribs rise towards the front" in gates.upside_down(small, mask, lungs)
    upright = gates.rib_slope(*looked_at(chest)[1:])
    assert gates.rib_slope(small, mask, lungs) == pytest.approx(-upright, abs=0.1) and upright > 0.1


def test_a_flip_of_the_affine_is_found_by_preparing(chest, tmp_path):
    """As a feet-first scan whose tags lie: the voxels are sound, the place of the head is not."""
    affine = chest.grid.affine.copy()
    affine[:3, 3] = chest.grid.world((len(chest.hu) - 1, 0, 0))
    affine[:3, 0] *= -1
    with pytest.raises(steps.Rejected, match="head and feet are exchanged"):
        steps.find_patient(canonical(replace(chest, grid=Grid(chest.hu.shape, affine))), profiles.CHEST)


def test_a_body_cut_by_a_round_field_is_noted_and_by_a_small_one_refused(chest):
    def cut(radius_mm):
        y, x = ((np.arange(n) - (n - 1) / 2) * 4.0 for n in chest.hu.shape[1:])
        inside = np.hypot(y[:, None], x) < radius_mm
        side = int(radius_mm / 4) + 1
        middle = [slice(n // 2 - side, n // 2 + side) for n in chest.hu.shape[1:]]
        hu = np.where(inside, chest.hu, np.int16(-1024))[:, middle[0], middle[1]]
        return looked_at(Volume(hu=hu, grid=Grid.canonical(hu.shape, 4.0)))

    _, small, mask, _ = cut(172)
    share = gates.cut_share(small, mask)
    assert gates.NOTED_CUT < share < gates.MOST_CUT and gates.truncated(share) is None
    assert f"cuts off {share:.0%} of the body's outline" in gates.noted(share, 0.0)[0]
    _, small, mask, _ = cut(90)
    assert "more than 35% is too much" in gates.truncated(gates.cut_share(small, mask))


def test_metal_in_the_body_counts_and_in_the_table_does_not(chest):
    def with_metal(d, h, w, half):
        hu = chest.hu.copy()
        hu[d - half : d + half, h - half : h + half, w - half : w + half] = 3071
        whole, _, mask, _ = looked_at(replace(chest, hu=hu))
        return gates.metal_ml(whole, mask, body.COARSE)

    screw, hip = with_metal(50, 45, 55, 2), with_metal(50, 45, 55, 5)
    assert 0 < screw < (4 * 4 * 0.4) ** 3 and gates.full_of_metal(screw) is None
    assert hip == pytest.approx(64, rel=0.3) and "metal; up to 20 mL is taken" in gates.full_of_metal(hip)
    assert with_metal(50, 86, 8, 4) == 0.0


def test_a_localiser_is_called_one():
    plane = np.random.default_rng(0).normal(0, 300, (2, 200, 200)).astype(np.int16)
    grid = Grid.canonical(plane.shape, 2.0)
    assert "a localiser" in check.wrong_grid(grid, profiles.CHEST, allow_short=True)


def kernel(volume: Volume, sharpen: float) -> Volume:
    """The same scan reconstructed with another kernel: sharper and noisier."""
    hu = volume.hu.astype(np.float32)
    hu += sharpen * (hu - ndimage.gaussian_filter(hu, (0, 1.0, 1.0)))
    hu += np.random.default_rng(0).normal(0, 15, hu.shape)
    return replace(volume, hu=np.rint(hu).astype(np.int16))


def test_another_kernel_is_the_same_scan_and_another_patient_is_not(chest):
    other = torso(np.random.default_rng(4), grid=chest.grid).volume
    hu = chest.hu[: len(chest.hu) // 2 * 2].astype(np.float32)
    thick = np.rint(hu.reshape(-1, 2, *hu.shape[1:]).mean(1)).astype(np.int16)
    thick = Volume(hu=thick, grid=Grid.canonical(thick.shape, (8.0, 4.0, 4.0)))
    scans = {"a": chest, "b": kernel(chest, 0.7), "c": other, "d": thick}
    looks = {case: alike.likeness(volume) for case, volume in scans.items()}
    content = {case: f"hash {case}" for case in scans}
    same = alike.same_scans(content, looks, set())
    assert same["a"] == same["b"] == same["d"] != same["c"]
    told = alike.same_scans(content, looks, set(scans))
    assert len(set(told.values())) == 4  # patients.csv knows better


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_shifted_masks_are_what_filters_make(share):
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random((20, 31, 40)), 1.0)
    mask = noise < np.quantile(noise, share)  # it reaches the array's borders
    for edges, neighbours in ((True, 2), (False, 1)):
        ball = ndimage.generate_binary_structure(3, neighbours)
        small = ndimage.binary_erosion(mask, ball, border_value=1)
        np.testing.assert_array_equal(morphology.eroded(mask, edges=edges), small)
        np.testing.assert_array_equal(morphology.dilated(mask, edges=edges), ndimage.binary_dilation(mask, ball))
    ball = ndimage.generate_binary_structure(3, 2)
    opened = ndimage.binary_dilation(ndimage.binary_erosion(mask, ball, border_value=1), ball)
    np.testing.assert_array_equal(morphology.opened(mask), opened)
    np.testing.assert_array_equal(planes_filled(mask), [ndimage.binary_fill_holes(plane) for plane in mask])


def test_a_coarse_voxel_is_the_mean_of_eight_and_lies_between_them():
    hu = np.random.default_rng(0).integers(-1024, 3000, (6, 8, 10)).astype(np.int16)
    small = body.coarse(Volume(hu=hu, grid=Grid.canonical(hu.shape, 1.5, (1.0, 2.0, 3.0))))
    np.testing.assert_allclose(small.hu, hu.reshape(3, 2, 4, 2, 5, 2).mean((1, 3, 5)))
    np.testing.assert_allclose(small.grid.affine, Grid.canonical((3, 4, 5), 3.0, (1.0, 2.0, 3.0)).affine)
    np.testing.assert_array_equal(body.fine(small.hu)[1::2, ::2, 1::2], small.hu)


def test_the_hash_of_a_scan_is_of_its_whole_hu_whatever_type_they_have(chest):
    padded = replace(chest, hu=np.where(chest.hu <= -990, -2000, chest.hu).astype(np.float32))
    clipped = replace(chest, hu=np.where(chest.hu <= -990, -1024, chest.hu).astype(np.int16))
    assert steps.content_hash(padded) == steps.content_hash(clipped) != steps.content_hash(chest)


def test_equal_voxels_are_one_scan_whatever_anybody_says():
    assert alike.same_scans({"a": "x", "b": "x"}, {}, {"a", "b"}) == {"a": "x", "b": "x"}


@pytest.mark.real
@pytest.mark.slow
def test_no_good_real_ct_is_refused(real):
    for name in ("lidc-idri-0001", "lidc-idri-0002", "lidc-idri-0003", "pancreatic-ct-cbct-seg-001", "lung-dx-a0001"):
        path = real / "ct" / name
        volume = canonical(io.read_ct(path if name == "lung-dx-a0001" else path / "ct.nii.gz"))
        assert gates.repeated_slices(volume) is None and gates.missing_slices(volume) is None, name
        whole, small, mask, lungs = looked_at(volume)
        assert gates.upside_down(small, mask, lungs) is None, name
        assert gates.truncated(gates.cut_share(small, mask)) is None, name
        assert gates.full_of_metal(gates.metal_ml(whole, mask, body.COARSE)) is None, name
        turned = replace(volume, hu=np.ascontiguousarray(volume.hu[::-1]))
        assert gates.upside_down(*looked_at(turned)[1:]), name
