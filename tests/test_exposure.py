"""X-rays of real photons made of a CT: what the files say they hold is what they hold."""

import json

import numpy as np
import pytest

from raylift import io
from raylift.cli import main
from raylift.data.drr import make_drr
from raylift.data.exposure import PRESET_EXPOSURES, exposure_of
from raylift.errors import BadInput, UnknownName
from raylift.geometry import preset_beam
from raylift.physics import Exposure, Tissues
from raylift.types import Grid, View, Volume


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A block of water, 200 x 150 x 180 mm (x, y, z), with a rod of bone in its right half."""
    grid = Grid.canonical((50, 50, 60), 4.0, (30.0, 15.0, -400.0))
    hu = np.full(grid.shape, -1000, np.int16)
    hu[2:47, 6:44, 5:55] = 0
    hu[2:47, 20:30, 15:20] = 1200
    path = tmp_path_factory.mktemp("scan") / "block.nii.gz"
    io.write_ct(Volume(hu=hu, grid=grid), path)
    return path


@pytest.fixture(scope="module")
def made(scan, tmp_path_factory):
    """The PA view: line integrals at 60 keV, and the same taken at 120 kV with noise and scatter, both ways."""
    out = tmp_path_factory.mktemp("drr")
    taken = dict(spectrum="120KV_AL43", photons=1e5, scatter=0.05)
    exposures = {
        "mono": None,
        "intensity": Exposure(**taken),
        "line_integral": Exposure(**taken, values="line_integral"),
        "clean": Exposure(spectrum="120KV_AL43", values="line_integral"),
    }
    return out, {k: make_drr(scan, out / k, views=["PA"], pixels=64, exposure=e)[0] for k, e in exposures.items()}


def test_intensities_are_said_to_be_intensities_and_read_back(made):
    out, xrays = made
    taken, folder = xrays["intensity"], out / "intensity"
    assert {p.name for p in folder.iterdir()} == {"PA.dcm", "PA.png", "PA.npy", "PA-look.png", "geometry.json"}
    view = json.loads((folder / "geometry.json").read_text())["views"][0]
    assert (view["values"], view["scale"]) == ("intensity", None)
    back = io.read_xray(folder / "PA.dcm")
    assert back.values == taken.values == "intensity" and back.beam == taken.beam
    np.testing.assert_allclose(back.pixels, taken.pixels, atol=2e-5)
    assert np.median(taken.pixels[:3]) == pytest.approx(1, abs=0.01)  # air
    assert taken.pixels[32, 32] < 0.1


def test_line_integrals_brought_back_are_near_those_at_60_kev_and_bone_is_brighter(made):
    out, xrays = made
    clean, mono = xrays["clean"], xrays["mono"]
    assert clean.values == "line_integral"
    water = np.s_[20:44, 38:44]
    assert clean.pixels[water].mean() == pytest.approx(mono.pixels[water].mean(), rel=0.03)
    rod = np.s_[20:44, 22:24]
    bone = [x.pixels[rod].mean() - x.pixels[water].mean() for x in (mono, clean)]
    assert bone[1] > 1.04 * bone[0]  # calcium stops more than water as dense as that at 60 keV would
    noisy = xrays["line_integral"].pixels
    np.testing.assert_allclose(np.load(out / "intensity" / "PA.npy"), noisy, rtol=1e-5, atol=1e-6)
    assert noisy[water].mean() < clean.pixels[water].mean()  # scatter looks like less patient


def test_the_seed_fixes_noise_and_jitter(scan, tmp_path):
    def take(name, **told):
        told = dict(views=["PA"], pixels=16, exposure=Exposure(photons=100)) | told
        return make_drr(scan, tmp_path / name, **told)[0]

    one, same, other = take("a"), take("b"), take("c", seed=1)
    assert np.array_equal(one.pixels, same.pixels) and not np.array_equal(one.pixels, other.pixels)
    still = preset_beam(View.PA, "chest", pixels=16, isocentre_mm=one.isocentre_mm)
    moved = take("d", exposure=None, jitter_source_mm=5.0).beam
    assert one.beam == still and moved == take("e", exposure=None, jitter_source_mm=5.0).beam
    step = np.abs(np.subtract(moved.source_mm, still.source_mm))
    assert 0 < step.max() <= 5 and moved.detector_centre_mm == still.detector_centre_mm
    assert io.read_geometry(tmp_path / "d" / "geometry.json").views[0].beam == moved
    with pytest.raises(BadInput, match="0 to 1000 mm"):
        take("f", jitter_source_mm=-1.0)


def test_a_preset_has_its_exposure_and_settings_change_it():
    assert exposure_of("chest", photons=None) is None
    assert exposure_of("ear") == PRESET_EXPOSURES["ear"]
    assert (exposure_of("ear", photons=50.0).spectrum, exposure_of("ear", photons=50.0).photons) == ("60KV_AL35", 50)
    assert exposure_of("chest", photons=50.0).spectrum == "60KEV"
    steel = exposure_of("ear", metal="steel", transition_hu=100.0)
    assert steel.tissues == Tissues(metal="steel", transition_hu=100.0) and steel.spectrum == "60KV_AL35"
    with pytest.raises(UnknownName, match="did you mean 'steel'"):
        exposure_of("chest", metal="steels")


def test_the_command_line_takes_an_xray_and_names_what_is_wrong(scan, tmp_path, capsys):
    settings = ["--spectrum", "90KV_AL40", "--photons", "1e4", "--field", "300", "200", "--pixels", "32"]
    assert main(["drr", str(scan), "-o", str(tmp_path / "out"), *settings, "--jitter-source", "2"]) == 0
    assert "PA, LAT (intensities, 1 in air)" in capsys.readouterr().out
    assert io.read_xray(tmp_path / "out" / "PA.dcm").pixels[:, :6].max() == 0  # outside the field
    assert main(["drr", str(scan), "-o", str(tmp_path / "no"), "--spectrum", "90KV_AL4O"]) == 2
    assert "did you mean '90KV_AL40'" in capsys.readouterr().err and not (tmp_path / "no").exists()
    with pytest.raises(UnknownName, match="did you mean 'intensity'"):
        Exposure(values="intensities")
