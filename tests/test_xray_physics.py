"""The physics of an X-ray: laws of attenuation, spectra, noise and scatter, and the libraries' own numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from raylift import physics
from raylift.errors import BadInput, UnknownName
from raylift.physics.exposure import transmitted
from raylift.physics.tables import columns

WATER_MM = torch.linspace(0, 400, 9, dtype=torch.float64)
METAL = physics.Tissues(metal="titanium")


def behind_water(spectrum, thick_mm=WATER_MM, detector="energy"):
    return transmitted(thick_mm[None] / 10, ["water"], physics.spectrum(spectrum), detector)


def areas(water_mm, shape=(24, 24)):
    """Air, soft tissue and bone of an even slab of soft tissue, g/cm2."""
    flat = torch.zeros(3, *shape, dtype=torch.float64)
    flat[1] = water_mm / 10
    return flat


def test_one_energy_is_linear_in_thickness_and_agrees_with_mu_of_water():
    mean, _ = behind_water("60keV")
    torch.testing.assert_close(-mean.log(), physics.MU_WATER * WATER_MM, rtol=3e-4, atol=1e-12)
    assert physics.effective_mu_water("60keV", 10.0) == physics.effective_mu_water("60keV", 390.0)


@pytest.mark.parametrize("detector", ["energy", "photon"])
@pytest.mark.parametrize("name", ["60KV_AL35", "120KV_AL43"])
def test_a_water_wedge_is_sub_linear_just_as_the_tables_say(name, detector):
    mean, _ = behind_water(name, detector=detector)
    voltage, aluminium = physics.SPECTRA[name]
    table, fluence = columns("attenuation"), columns("spectra")
    kev = fluence["kev"]
    at = {m: np.exp(np.interp(np.log(kev), np.log(table["kev"]), np.log(table[m]))) for m in ("water", "aluminium")}
    sent = fluence[str(voltage)] * np.exp(-at["aluminium"] * 2.699 * aluminium / 10)
    sent = sent * (kev if detector == "energy" else 1)
    expected = [-np.log((sent * np.exp(-at["water"] * mm / 10)).sum() / sent.sum()) for mm in WATER_MM.tolist()]
    np.testing.assert_allclose(-mean.log().numpy(), expected, rtol=1e-12, atol=1e-12)
    slope = np.diff(expected)
    assert (np.diff(slope) < -1e-3).all() and slope[-1] < 0.93 * slope[0]


@pytest.mark.parametrize(
    "material, expected", [("water", 0.2059), ("bone", 0.3148), ("soft tissue", 0.2048), ("air", 0.1875)]
)
def test_attenuation_at_60_kev_is_that_of_nist(material, expected):
    assert float(physics.attenuation(material, 60.0)) == pytest.approx(expected, rel=3e-4)


@pytest.mark.parametrize("kev, nist", [(20, 0.8096), (30, 0.3756), (50, 0.2269), (80, 0.1837), (150, 0.1505)])
def test_water_is_that_of_nist_over_the_range(kev, nist):
    assert float(physics.attenuation("water", float(kev))) == pytest.approx(nist, rel=5e-4)


@pytest.mark.parametrize(
    "name, mean_kev, layer_mm",
    [
        ("120KV_AL35", 56.29, 4.979),
        ("60KV_AL35", 37.46, 2.509),
        ("90KV_AL40", 48.74, 3.994),
        ("120KV_AL43", 57.51, 5.487),
    ],
)
def test_spectra_have_the_mean_and_half_value_layer_of_spekpy(name, mean_kev, layer_mm):
    beam = physics.spectrum(name)
    assert beam.photons.sum() == pytest.approx(1)
    assert beam.mean_kev == pytest.approx(mean_kev, abs=0.06)
    assert physics.half_value_layer_mm(beam) == pytest.approx(layer_mm, rel=0.01)


def test_more_filter_makes_a_harder_beam():
    soft, hard, hardest = (physics.filtered(100, *mm).mean_kev for mm in ((2, 0), (4, 0), (4, 0.2)))
    assert soft < hard < hardest


def test_wrong_names_get_the_nearest_and_wrong_settings_their_range():
    with pytest.raises(UnknownName, match="did you mean '60KV_AL35'"):
        physics.spectrum("60KV_35AL")  # as EAR prints it
    with pytest.raises(BadInput, match="no spectrum of 85 kV; the nearest is 80 kV"):
        physics.spectrum("85KV_AL30")
    with pytest.raises(UnknownName, match="did you mean 'bone'"):
        physics.attenuation("bones", 60.0)
    with pytest.raises(BadInput, match="10 to 150 keV"):
        physics.attenuation("water", 200.0)
    with pytest.raises(UnknownName, match="did you mean 'photon'"):
        physics.Exposure(detector="photons")
    with pytest.raises(BadInput, match="HU must rise"):
        physics.Tissues(air_hu=400)
    with pytest.raises(BadInput, match=r"needs a torch\.Generator"):
        physics.exposed(areas(100), physics.Exposure(photons=100), pixel_mm=(1, 1))


def test_density_and_materials_follow_their_thresholds():
    hu = torch.tensor([-1024.0, -1000, -850, 0, 1000, 3071]).reshape(1, 1, 6)
    air, soft, bone, metal = physics.densities(hu, METAL).flatten(1).tolist()
    assert air[:2] == [0, 0] and air[2] == pytest.approx(0.1553, abs=1e-3) and air[3:] == [0, 0, 0]
    assert soft == pytest.approx([0, 0, 0, 1.03, 0, 0])
    assert bone == pytest.approx([0, 0, 0, 0, 1.6186, 0])
    assert metal == pytest.approx([0, 0, 0, 0, 0, 4.506])
    without = physics.densities(hu)
    assert without.shape[0] == 3 and without[2].max() == pytest.approx(2.8376, abs=1e-3)


def test_smooth_and_hard_thresholds_agree_far_from_them_and_keep_the_mass():
    hu = torch.linspace(-1000, 2800, 381).reshape(1, 1, -1)
    hard, smooth = (physics.densities(hu, replace(METAL, transition_hu=w)) for w in (0.0, 200.0))
    far = ((hu - torch.tensor([-800.0, 350, 3000])[:, None, None]).abs() > 100).all(0)[0]
    torch.testing.assert_close(hard[..., far], smooth[..., far], rtol=0, atol=1e-6)
    torch.testing.assert_close(hard[:3, ..., :370].sum(0), smooth[:3, ..., :370].sum(0))
    assert (hard - smooth).abs().max() > 0.3 and smooth.diff(dim=-1).abs().max() < 0.1


def test_metal_and_bone_stop_more_than_as_much_tissue():
    one = torch.eye(4, dtype=torch.float64)  # one g/cm2 of each
    mean, _ = transmitted(one, METAL.names, physics.spectrum("60KV_AL35"))
    air, soft, bone, metal = mean.tolist()
    assert metal < 0.5 * bone and bone < 0.8 * soft and air == pytest.approx(soft, rel=0.05)


@pytest.mark.parametrize("detector", ["energy", "photon", "csi"])
@pytest.mark.parametrize("spectrum", ["60KEV", "120KV_AL43"])
def test_noise_has_the_variance_of_its_photons_and_leaves_the_mean(spectrum, detector):
    exposure = physics.Exposure(spectrum=spectrum, detector=detector, photons=400)
    slab = areas(40, (150, 150))
    clean, square = transmitted(slab, exposure.tissues.names, physics.spectrum(spectrum), detector)
    seen = physics.exposed(slab, exposure, pixel_mm=(1, 1), generator=torch.Generator().manual_seed(1))
    assert seen.mean() == pytest.approx(float(clean.mean()), rel=3e-3)
    assert seen.var() == pytest.approx(float(square.mean()) / 400, rel=0.04)
    if (spectrum, detector) == ("60KEV", "photon"):  # plain Poisson: one quantum is 1 / 400
        assert seen.var() == pytest.approx(float(clean.mean()) / 400, rel=0.04)
    again = physics.exposed(slab, exposure, pixel_mm=(1, 1), generator=torch.Generator().manual_seed(1))
    assert torch.equal(seen, again)


def test_mixed_energies_make_more_noise_than_as_many_photons_of_one():
    _, one = behind_water("60KEV")
    mean, mixed = behind_water("120KV_AL43")
    assert one[0] == pytest.approx(1) and 1.1 < mixed[0] < 1.3
    assert (mixed > mean**2).all()


def test_scatter_behind_an_even_slab_is_its_amount_times_the_line_integral():
    through = torch.full((40, 40), float(np.exp(-3.0)), dtype=torch.float64)
    ratio = physics.scattered(through, 0.1, (5.0, 5.0)) / through
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.3))
    assert physics.scattered(torch.ones(8, 8), 0.1, (5.0, 5.0)).abs().max() == 0  # air scatters nothing
    shadow = torch.ones(81, 81, dtype=torch.float64)
    shadow[30:51, 30:51] = 1e-4
    more = physics.scattered(shadow, 0.1, (10.0, 10.0))
    assert more[40, 40] == more.max() and more[40, 75] < 0.1 * more.max()


def test_blur_keeps_the_sum_and_has_its_width():
    point = torch.zeros(61, 61, dtype=torch.float64)
    point[30, 30] = 1
    seen = physics.blurred(point, (2.0, 4.0))
    place = torch.arange(61.0, dtype=torch.float64) - 30
    assert seen.sum() == pytest.approx(1)
    assert (seen.sum(1) @ place**2).sqrt() == pytest.approx(2.0, rel=0.02)
    assert (seen.sum(0) @ place**2).sqrt() == pytest.approx(4.0, rel=0.02)
    assert torch.equal(physics.blurred(point, (0.0, 0.0)), point)


def test_a_focal_spot_blurs_only_what_is_magnified():
    edge = areas(100.0)
    edge[1, :, 12:] = 0
    exposure = physics.Exposure(focal_spot_mm=6.0)
    sharp, clear, soft = (
        physics.exposed(edge, e, pixel_mm=(1, 1), magnification=m)
        for e, m in ((physics.Exposure(), 2.0), (exposure, 1.0), (exposure, 2.0))
    )
    assert torch.equal(sharp, clear)
    assert soft[0].diff().max() < 0.5 * sharp[0].diff().max()


def test_outside_the_collimator_nothing_arrives():
    exposure = physics.Exposure(photons=1000, scatter=0.2, field_mm=(20.0, 10.0))
    seen = physics.exposed(areas(50.0, (30, 30)), exposure, pixel_mm=(1, 1), generator=torch.Generator())
    assert (seen[5:25, 10:20] > 0).all() and seen.sum() == pytest.approx(float(seen[5:25, 10:20].sum()))
    assert (seen[:5] == 0).all() and (seen[:, 20:] == 0).all()


@pytest.mark.parametrize("spectrum", ["60KEV", "60KV_AL35", "120KV_AL43"])
def test_water_comes_back_from_intensities_as_its_line_integral_at_60_kev(spectrum):
    thick = torch.linspace(0, 400, 37, dtype=torch.float64).reshape(1, 37)
    mean, _ = behind_water(spectrum, thick)
    back = physics.linearised(2e4 * mean, spectrum, air=2e4, darkest=1e-12)
    torch.testing.assert_close(back, physics.MU_WATER * thick, rtol=1e-4, atol=1e-4)
    assert physics.effective_mu_water(spectrum, 200.0) * 200 == pytest.approx(
        float(-behind_water(spectrum, torch.tensor([200.0], dtype=torch.float64))[0].log())
    )


def test_flat_field_and_estimated_air_value_undo_gain_and_offset():
    truth = torch.linspace(0.02, 1, 400).reshape(20, 20)
    truth[0] = 1.0
    flat = 3000 + 500 * torch.rand(20, 20, generator=torch.Generator().manual_seed(0))
    seen = physics.flat_fielded(truth * (flat - 100) + 100, flat, 100.0)
    torch.testing.assert_close(seen, truth, rtol=1e-5, atol=1e-6)
    assert physics.air_value(seen * 700).item() == pytest.approx(700, rel=1e-4)
    with pytest.raises(BadInput, match="flat field"):
        physics.flat_fielded(truth, flat, flat + 1)
    with pytest.raises(BadInput, match="no air value"):
        physics.air_value(torch.zeros(4, 4))


def test_without_photons_or_blur_an_exposure_is_plain_attenuation():
    exposure = physics.Exposure(spectrum="60KEV")
    seen = physics.exposed(areas(100.0), exposure, pixel_mm=(1, 1))
    expected = np.exp(-10 * float(physics.attenuation("soft tissue", 60.0)))
    torch.testing.assert_close(seen, torch.full_like(seen, expected))
    brighter = physics.exposed(areas(100.0), replace(exposure, scatter=0.1), pixel_mm=(1, 1))
    assert (brighter > seen).all()
