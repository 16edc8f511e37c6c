"""X-rays made of a CT: each file says by itself how it was taken, and reads back as it was."""

import numpy as np
import pytest

from raylift import io
from raylift.data.drr import make_drr
from raylift.errors import BadInput, GeometryError, UnknownName
from raylift.geometry import preset_beam, shadow
from raylift.physics import MU_WATER
from raylift.types import Grid, View, Volume

CENTRE = (30.0, 15.0, -400.0)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A block of water, 200 x 150 x 180 mm (x, y, z), with a marker at its right, front, top."""
    grid = Grid.canonical((50, 50, 60), 4.0, CENTRE)
    hu = np.full(grid.shape, -1000, np.int16)
    hu[2:47, 6:44, 5:55] = 0
    hu[10:12, 12:14, 10:12] = 3000
    path = tmp_path_factory.mktemp("scan") / "block.nii.gz"
    io.write_ct(Volume(hu=hu, grid=grid), path)
    return path, grid.world([10.5, 12.5, 10.5])


@pytest.fixture(scope="module")
def made(scan, tmp_path_factory):
    out = tmp_path_factory.mktemp("drr")
    return out, make_drr(scan[0], out, views=["PA", "LAT"], pixels=128)


def test_every_view_has_its_files(made):
    out, xrays = made
    names = {f"{v}.{kind}" for v in ("PA", "LAT") for kind in ("dcm", "png", "npy")}
    assert {p.name for p in out.iterdir()} == names | {"geometry.json"}
    for xray in xrays:
        saved = np.load(out / f"{xray.view}.npy")
        assert saved.dtype == np.float32 and saved.shape == (128, 128)
        np.testing.assert_array_equal(saved, xray.pixels)


@pytest.mark.parametrize("kind", ["dcm", "png", "npy"])
def test_beam_and_line_integrals_come_back(made, kind):
    out, xrays = made
    geometry = None if kind == "dcm" else out / "geometry.json"
    for xray in xrays:
        back = io.read_xray(out / f"{xray.view}.{kind}", view=xray.view, geometry=geometry)
        assert back.beam == xray.beam and back.values == "line_integral" and back.isocentre_mm == xray.isocentre_mm
        np.testing.assert_allclose(back.pixels, xray.pixels, atol=xray.pixels.max() / 65535)


def test_a_block_of_water_attenuates_by_its_thickness(made):
    _, xrays = made
    for xray, thick in zip(xrays, (152, 200), strict=True):
        assert np.median(xray.pixels[54:74, 54:74]) == pytest.approx(MU_WATER * thick, rel=0.03)


def test_the_marker_casts_its_shadow_where_the_geometry_says(made, scan):
    for xray in made[1]:
        seen = np.unravel_index(np.argmax(xray.pixels), xray.pixels.shape)
        np.testing.assert_allclose(seen, shadow(xray.beam, scan[1]), atol=1.6)
        assert seen[0] < 60 and seen[1] < 60  # top left in both


def test_the_isocentre_is_the_bodys_middle_unless_said(scan, tmp_path):
    (found,) = make_drr(scan[0], tmp_path / "a", views=["PA"], pixels=32)
    np.testing.assert_allclose(found.isocentre_mm, CENTRE, atol=8)
    (said,) = make_drr(scan[0], tmp_path / "b", views=["PA"], pixels=32, isocentre_mm=(1.0, 2.0, -390.0))
    assert said.beam == preset_beam(View.PA, "chest", pixels=32, isocentre_mm=(1.0, 2.0, -390.0))


def test_what_cannot_be_made_is_told_and_nothing_is_written(scan, tmp_path):
    with pytest.raises(BadInput, match="no view 'PAA': PA, AP, LAT, RLAT"):
        make_drr(scan[0], tmp_path / "out", views=["PAA"])
    with pytest.raises(BadInput, match="name each view once"):
        make_drr(scan[0], tmp_path / "out", views=["PA", "PA"])
    with pytest.raises(UnknownName, match="did you mean 'x2ct'"):
        make_drr(scan[0], tmp_path / "out", preset="x2cd")
    with pytest.raises(GeometryError, match="behind the panel of the PA view"):
        make_drr(scan[0], tmp_path / "out", views=["PA"], isocentre_mm=(30.0, 320.0, -400.0))
    labels = tmp_path / "labels.nii.gz"
    io.write_ct(Volume(hu=np.eye(30, dtype=np.int16)[None].repeat(30, 0), grid=Grid.canonical((30,) * 3, 3.0)), labels)
    with pytest.raises(BadInput, match=r"labels\.nii\.gz: whole numbers from 0 to 1 and no air: a label map"):
        make_drr(labels, tmp_path / "out")
    assert not (tmp_path / "out").exists()
