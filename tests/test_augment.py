"""Augmentation moves the patient, and cube and X-rays follow together."""

import numpy as np
import pytest
import torch

from raylift.data import augment
from raylift.data.augment import Movement
from raylift.data.variants import drawn_variant, xctnet_variants
from raylift.geometry import preset_beam, shadow
from raylift.physics import hu_to_mu
from raylift.projector import project
from raylift.types import Grid, View

CUBE = Grid.canonical((32,) * 3, 10.0, (5.0, -20.0, 300.0))
SOURCE = Grid.canonical((84, 68, 76), 5.0, (0.0, -10.0, 310.0))
CENTRE = tuple(float(c) for c in CUBE.centre_mm)
BEAMS = tuple(preset_beam(v, "chest", pixels=64, isocentre_mm=CENTRE) for v in (View.PA, View.LAT))
MARKER = np.array(CENTRE) + (-40.0, -30.0, 50.0)


def _blobs(*places, water=True):
    """A body of water with smooth dense blobs, HU on SOURCE."""
    index = torch.stack(torch.meshgrid(*[torch.arange(n).double() for n in SOURCE.shape], indexing="ij"), -1)
    world = index @ torch.from_numpy(SOURCE.affine[:3, :3].T.copy()) + torch.from_numpy(SOURCE.affine[:3, 3].copy())
    hu = torch.full(SOURCE.shape, -1000.0, dtype=torch.float64)
    if water:
        r2 = ((world[..., :2] - torch.tensor(CENTRE[:2])) / torch.tensor([130.0, 90.0])).square().sum(-1)
        hu += 1000 / (1 + ((r2 - 1) * 12).exp())
    for place in places:
        hu += 3000 * (-(world - torch.from_numpy(np.asarray(place))).square().sum(-1) / (2 * 15.0**2)).exp()
    return hu.float()


def _at(hu):
    """Where the densest of a cube is, LPS mm."""
    weight = (hu.double() + 1000).clamp_min(0) ** 4
    index = torch.stack(torch.meshgrid(*[torch.arange(n).double() for n in hu.shape], indexing="ij"), -1)
    return CUBE.world(((index * weight[..., None]).sum((0, 1, 2)) / weight.sum()).numpy())


def _apply(movement, hu, **settings):
    return augment.apply(movement, hu, SOURCE, cube=CUBE, beams=BEAMS, **settings)


def test_nothing_moved_is_the_plain_cube_and_its_xrays():
    source = _blobs(MARKER)
    hu, xrays = _apply(Movement(), source)
    index = torch.stack(torch.meshgrid(*[torch.arange(n).double() for n in CUBE.shape], indexing="ij"), -1)
    nearest = SOURCE.index(CUBE.world(index.numpy()))
    low = np.floor(nearest).astype(int)
    plain = torch.stack([source[tuple((low + step).transpose(3, 0, 1, 2))] for step in np.ndindex(2, 2, 2)]).mean(0)
    assert (hu - plain).abs().mean() < 4 and (hu - plain).abs().max() < 120  # 2.5 mm samples against 5 mm means
    want = project(hu_to_mu(source), SOURCE, BEAMS)
    assert (xrays - want).abs().max() < 0.02 * want.max()


def test_a_shifted_patient_shifts_in_the_cube_and_in_both_xrays():
    shift = (30.0, -20.0, 40.0)
    hu, xrays = _apply(Movement(shift_mm=shift), _blobs(MARKER, water=False))
    np.testing.assert_allclose(_at(hu), MARKER + shift, atol=2)
    for picture, beam in zip(xrays, BEAMS, strict=True):
        seen = np.unravel_index(int(picture.argmax()), picture.shape)
        np.testing.assert_allclose(seen, shadow(beam, MARKER + shift), atol=1)
        assert np.abs(np.subtract(seen, shadow(beam, MARKER))).max() > 3


@pytest.mark.parametrize(
    ("movement", "place"),
    [
        (Movement(flip=True), (40.0, -30.0, 50.0)),
        (Movement(scale=1.5), (-60.0, -45.0, 75.0)),
        (Movement(turn_deg=(0, 0, 90)), (30.0, -40.0, 50.0)),  # +x goes to +y
        (Movement(turn_deg=(90, 0, 0)), (-40.0, -50.0, -30.0)),  # +y goes to +z
        (Movement(turn_deg=(0, 90, 0)), (50.0, -30.0, 40.0)),  # +z goes to +x
        (Movement(flip=True, scale=1.2, shift_mm=(0, 0, -20)), (48.0, -36.0, 40.0)),
    ],
)
def test_turns_scales_and_flips_move_the_marker_where_they_say(movement, place):
    hu, xrays = _apply(movement, _blobs(MARKER, water=False))
    np.testing.assert_allclose(_at(hu), np.array(CENTRE) + place, atol=2.5)
    for picture, beam in zip(xrays, BEAMS, strict=True):
        seen = np.unravel_index(int(picture.argmax()), picture.shape)
        np.testing.assert_allclose(seen, shadow(beam, np.array(CENTRE) + place), atol=1.5)


def test_an_even_bend_is_a_shift_and_splines_sum_to_one():
    bend = torch.tensor([20.0, 0.0, 0.0])[:, None, None, None].expand(3, 7, 7, 7)
    hu, _ = _apply(Movement(bend_mm=bend.clone()), _blobs(MARKER, water=False))
    np.testing.assert_allclose(_at(hu), MARKER - (20.0, 0, 0), atol=2)  # it says where each place is taken from
    torch.testing.assert_close(augment._spline(41, 7, "cpu").sum(1), torch.ones(41))


def test_density_and_bone_change_tissue_and_not_air():
    hu = torch.full(SOURCE.shape, -1000.0)
    hu[:, 20:40], hu[:, 40:] = 0.0, 1000.0
    plain, _ = _apply(Movement(), hu)
    varied, _ = _apply(Movement(density=1.05, bone=1.2), hu)
    air, water, bone = (plain < -999), (plain.abs() < 1e-2), ((plain - 1000).abs() < 1e-2)
    assert air.any() and water.any() and bone.any()
    torch.testing.assert_close(varied[air], plain[air])
    torch.testing.assert_close(varied[water], torch.full_like(varied[water], 50.0), atol=0.1, rtol=0)
    dense = 1000 * (2.1 + 0.2 * (2.1 - augment.BONE) - 1)
    torch.testing.assert_close(varied[bone], torch.full_like(varied[bone], dense), atol=0.1, rtol=0)


def test_rays_of_the_cube_are_projected_from_the_cube_alone():
    hu, xrays = _apply(Movement(shift_mm=(0, 0, 25)), _blobs(MARKER), rays="cube")
    want = project(hu_to_mu(hu), CUBE, BEAMS)
    assert (xrays - want).abs().max() < 0.1 * want.max() and (xrays - want).abs().mean() < 0.01 * want.max()


def test_the_cube_of_a_big_shift_is_air_where_the_source_ends():
    hu, xrays = _apply(Movement(shift_mm=(0, 0, 260)), _blobs())
    assert (hu[-6:] == -1000).all() and (hu[:4] > -200).any() and (xrays[:, -8:] == 0).all()


def test_the_generator_decides():
    source = _blobs(MARKER).to(torch.int16)
    first, again, other = (
        augment.moved(source, SOURCE, cube=CUBE, beams=BEAMS, generator=torch.Generator().manual_seed(k))
        for k in (3, 3, 4)
    )
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert (first[0] - other[0]).abs().mean() > 5
    hu, xrays = first
    assert hu.shape == CUBE.shape and xrays.shape == (2, 64, 64) and hu.min() >= -1000.01 and xrays.min() >= 0


def test_without_strength_nothing_moves():
    drawn = augment.draw(torch.Generator().manual_seed(0), 0.0)
    source = _blobs(MARKER)
    torch.testing.assert_close(_apply(drawn, source), _apply(Movement(), source))


def test_the_source_is_left_as_it_was():
    source = _blobs(MARKER)
    before = source.clone()
    _apply(Movement(density=1.1), source)
    assert torch.equal(source, before)


def test_xctnets_preset_has_its_59_variants():
    variants = xctnet_variants()
    families = {}
    for variant in variants:
        families[variant.name.split()[0]] = families.get(variant.name.split()[0], 0) + 1
    assert families == dict(scale=8, turn=9, mirror=3, shift=9, brightness=9, colour=7, contrast=7, sharpness=7)
    assert len(variants) == 59 == len({v.name for v in variants})


def test_a_variant_moves_the_ct_or_changes_the_look_and_never_both():
    xrays = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0)) * 4 + 1
    for variant in xctnet_variants():
        geometric = variant.name.split()[0] in ("scale", "turn", "mirror", "shift")
        seen = variant.look(xrays)
        assert seen.min() >= xrays.min() - 1e-4 and seen.max() <= xrays.max() + 1e-4
        if geometric or variant.name.startswith("colour"):
            torch.testing.assert_close(seen, xrays, atol=1e-5, rtol=0)
        if not geometric:
            assert variant.movement == Movement()
    dull, sharp = (v.look(xrays) for v in xctnet_variants() if v.name in ("sharpness 0.5", "sharpness 1.5"))
    assert dull.std() < xrays.std() < sharp.std()


@pytest.mark.parametrize("name", ["turn 90", "mirror left-right", "mirror head-feet", "shift -60 30", "scale 1.2"])
def test_xctnets_moves_take_cube_and_xrays_along(name):
    (variant,) = (v for v in xctnet_variants() if v.name == name)
    offset = MARKER - np.array(CENTRE)
    move = variant.movement
    if move.flip:
        offset = offset * (-1, 1, 1)
    offset = offset * move.scale
    a = np.radians(move.turn_deg[1])  # about y: +z goes to +x
    x, y, z = offset
    place = np.array(CENTRE) + (np.cos(a) * x + np.sin(a) * z, y, np.cos(a) * z - np.sin(a) * x) + move.shift_mm
    hu, xrays = _apply(move, _blobs(MARKER, water=False))
    np.testing.assert_allclose(_at(hu), place, atol=2.5)
    for picture, beam in zip(xrays, BEAMS, strict=True):
        seen = np.unravel_index(int(picture.argmax()), picture.shape)
        np.testing.assert_allclose(seen, shadow(beam, place), atol=1.5)


def test_variants_are_drawn_evenly_and_by_the_generator():
    generator = torch.Generator().manual_seed(0)
    names = [drawn_variant(generator).name for _ in range(600)]
    assert len(set(names)) > 55 and drawn_variant(torch.Generator().manual_seed(0)).name == names[0]
