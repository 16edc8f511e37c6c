"""C-16: one lopsided phantom through every writer and back, read by us and by others, to the same physical point."""

import json

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from raylift import DISCLAIMER, geometry, io
from raylift.errors import BadInput, GeometryError, UnsupportedFormat
from raylift.types import ConeBeam, Grid, ParallelBeam, View, Volume, Xray

FILES = ["ct.nii", "ct.nii.gz", "ct.nrrd", "ct.mha", "ct-series"]


def marker_mm(values, affine):
    """LPS centre of what is brighter than 1500 HU."""
    index = np.argwhere(np.asarray(values) > 1500).mean(0)
    return affine[:3, :3] @ index + affine[:3, 3]


@pytest.fixture
def oblique(lopsided) -> Volume:
    """The same voxels on a grid turned by odd angles."""
    turn, _ = np.linalg.qr(np.array([[1, 0.2, -0.1], [0.1, 1, 0.3], [-0.2, 0.1, 1]]))
    affine = np.eye(4)
    affine[:3, :3] = turn @ lopsided.grid.affine[:3, :3]
    affine[:3, 3] = [12.3, -45.6, 78.9]
    return Volume(hu=lopsided.hu, grid=Grid(lopsided.grid.shape, affine))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("which", ["lopsided", "oblique"])
def test_what_is_written_comes_back_to_the_same_place(file, which, tmp_path, request):
    volume = request.getfixturevalue(which)
    io.write_ct(volume, tmp_path / file)
    back = io.read_ct(tmp_path / file)
    assert np.sort(back.hu.ravel()).tolist() == np.sort(volume.hu.ravel()).tolist()
    truth = marker_mm(volume.hu, volume.grid.affine)
    assert np.abs(marker_mm(back.hu, back.grid.affine) - truth).max() < 1e-4
    turned = geometry.canonical(back)
    if which == "lopsided":
        assert np.array_equal(turned.hu, volume.hu)
        assert np.allclose(turned.grid.affine, volume.grid.affine, atol=1e-5)


@pytest.mark.parametrize("file", ["ct.nii", "ct.nii.gz"])
def test_nibabel_finds_the_marker_in_ras(file, lopsided, tmp_path):
    io.write_ct(lopsided, tmp_path / file)
    image = nib.load(tmp_path / file)
    truth = marker_mm(lopsided.hu, lopsided.grid.affine) * [-1, -1, 1]
    assert np.abs(marker_mm(image.dataobj, image.affine) - truth).max() < 1e-4
    assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    assert bytes(image.header["descrip"]).decode().startswith(DISCLAIMER)


@pytest.mark.parametrize("file", FILES)
def test_simpleitk_finds_the_marker_in_lps(file, oblique, tmp_path):
    io.write_ct(oblique, tmp_path / file)
    if file == "ct-series":
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / file)))
    else:
        image = sitk.ReadImage(str(tmp_path / file))
    d, h, w = np.argwhere(sitk.GetArrayFromImage(image) > 1500).mean(0)
    found = image.TransformContinuousIndexToPhysicalPoint((w, h, d))
    assert np.abs(np.array(found) - marker_mm(oblique.hu, oblique.grid.affine)).max() < 1e-3


def test_pydicom_finds_the_marker_and_the_marks_of_a_synthetic_series(oblique, tmp_path):
    io.write_ct(oblique, tmp_path / "series")
    points, uids = [], set()
    for file in sorted((tmp_path / "series").iterdir()):
        slice_ = pydicom.dcmread(file)
        along, down = np.array(slice_.ImageOrientationPatient, float).reshape(2, 3)
        for h, w in np.argwhere(slice_.pixel_array > 1500):
            place = np.array(slice_.ImagePositionPatient, float)
            points.append(place + along * w * slice_.PixelSpacing[1] + down * h * slice_.PixelSpacing[0])
        uids.add(slice_.SOPInstanceUID)
        assert slice_.SyntheticData == "YES" and slice_.ContentQualification == "RESEARCH"
        assert slice_.DerivationDescription == DISCLAIMER and slice_.PatientName == ""
        assert slice_.PixelRepresentation == 1 and slice_.RescaleType == "HU"
    assert len(uids) == len(oblique.hu)
    assert np.abs(np.mean(points, 0) - marker_mm(oblique.hu, oblique.grid.affine)).max() < 1e-3


@pytest.mark.parametrize("file", ["ct.nrrd", "ct.mha"])
def test_headers_carry_the_disclaimer(file, lopsided, tmp_path):
    io.write_ct(lopsided, tmp_path / file)
    assert DISCLAIMER.encode() in (tmp_path / file).read_bytes()[:2000]


def test_the_same_volume_gives_the_same_nifti_bytes(lopsided, tmp_path):
    io.write_ct(lopsided, tmp_path / "a.nii.gz")
    io.write_ct(lopsided, tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_output_is_clipped_and_rounded_and_nan_is_refused(lopsided, tmp_path):
    """C-41."""
    hu = lopsided.hu.astype(np.float32)
    hu[0, 0, :3] = [-9e9, 9e9, 12.6]
    io.write_ct(Volume(hu=hu, grid=lopsided.grid), tmp_path / "a.nii")
    back = geometry.canonical(io.read_ct(tmp_path / "a.nii")).hu
    assert back[0, 0, :3].tolist() == [-1024, 31743, 13]
    hu[3, 3, 3] = np.nan
    for file in FILES:
        with pytest.raises(BadInput, match="1 values are not finite"):
            io.write_ct(Volume(hu=hu, grid=lopsided.grid), tmp_path / "new" / file)
        assert not list(tmp_path.glob("new/*"))


def test_nothing_half_written_is_left_and_the_old_file_stays(lopsided, tmp_path, monkeypatch):
    io.write_ct(lopsided, tmp_path / "ct.nii.gz")
    io.write_ct(lopsided, tmp_path / "series")
    before = (tmp_path / "ct.nii.gz").read_bytes(), sorted(p.name for p in (tmp_path / "series").iterdir())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for file in ("ct.nii.gz", "series"):
        with pytest.raises(BadInput, match="No space left"):
            io.write_ct(lopsided, tmp_path / file)
    assert before == ((tmp_path / "ct.nii.gz").read_bytes(), sorted(p.name for p in (tmp_path / "series").iterdir()))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ct.nii.gz", "series"]


def test_a_folder_with_other_files_is_not_replaced(lopsided, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(BadInput, match="holds other files"):
        io.write_ct(lopsided, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_an_unknown_output_is_named(lopsided, tmp_path):
    with pytest.raises(UnsupportedFormat, match=r"ct\.stl"):
        io.write_ct(lopsided, tmp_path / "ct.stl")


def xray_of(beam, view, seed=0, isocentre=None) -> Xray:
    pixels = np.random.default_rng(seed).random(beam.pixels, dtype=np.float32) * 9
    return Xray(
        pixels=pixels, pixel_mm=beam.pixel_mm, view=view, values="line_integral", beam=beam, isocentre_mm=isocentre
    )


ODD = {"primary_deg": 7.3, "secondary_deg": -3.1, "isocentre_mm": (1 / 3, -20.7, 1e3 / 7), "detector_offset_mm": (3, 5)}


@pytest.mark.parametrize("view", list(View))
def test_an_xray_read_back_has_the_same_beam_and_line_integrals(view, tmp_path):
    beam = geometry.preset_beam(view, pixels=24, primary_deg=7.3, secondary_deg=-3.1, isocentre_mm=ODD["isocentre_mm"])
    xray = xray_of(beam, view, isocentre=ODD["isocentre_mm"])
    io.write_xray_dicom(xray, tmp_path / "a.dcm")
    back = io.read_xray(tmp_path / "a.dcm")
    assert back.beam == beam and back.isocentre_mm == xray.isocentre_mm and back.view == view
    assert back.values == "line_integral" and back.notes == ()
    assert np.abs(back.pixels - xray.pixels).max() <= xray.pixels.max() / 65535 * 0.51


def test_parallel_rays_survive_too(tmp_path):
    beam = geometry.parallel_beam(View.LAT, detector_mm=(300, 200), pixels=(30, 10), secondary_deg=2)
    io.write_xray_dicom(xray_of(beam, View.LAT), tmp_path / "a.dcm")
    back = io.read_xray(tmp_path / "a.dcm")
    assert isinstance(back.beam, ParallelBeam) and back.beam == beam


def test_the_private_block_survives_a_program_that_forgets_its_types(tmp_path):
    beam = geometry.preset_beam(View.PA, pixels=16)
    io.write_xray_dicom(xray_of(beam, View.PA), tmp_path / "a.dcm")
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    dataset.save_as(tmp_path / "b.dcm", implicit_vr=True, little_endian=True)
    assert io.read_xray(tmp_path / "b.dcm").beam == beam


@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize(("primary", "secondary"), [(0, 0), (10, 0), (-6, 4)])
def test_standard_tags_alone_give_the_beam_about_zero(view, primary, secondary, tmp_path):
    beam = geometry.preset_beam(view, pixels=20, primary_deg=primary, secondary_deg=secondary)
    io.write_xray_dicom(xray_of(beam, view), tmp_path / "a.dcm")
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.remove_private_tags()
    dataset.save_as(tmp_path / "b.dcm")
    back = io.read_xray(tmp_path / "b.dcm")
    assert back.values == "unknown" and back.isocentre_mm is None and any("LPS 0" in note for note in back.notes)
    for name in ("source_mm", "detector_centre_mm", "column_dir", "row_dir", "pixel_mm"):
        assert np.allclose(getattr(back.beam, name), getattr(beam, name), atol=1e-6)


def test_the_dx_file_says_what_the_design_says(tmp_path):
    beam = geometry.preset_beam(View.LAT, pixels=16)
    io.write_xray_dicom(xray_of(beam, View.LAT), tmp_path / "a.dcm")
    tags = pydicom.dcmread(tmp_path / "a.dcm")
    assert (tags.Modality, tags.PresentationIntentType) == ("DX", "FOR PROCESSING")
    assert (tags.PixelIntensityRelationship, tags.PixelIntensityRelationshipSign) == ("LOG", -1)
    assert list(tags.PatientOrientation) == ["P", "F"] and float(tags.PositionerPrimaryAngle) == 90
    assert float(tags.DistanceSourceToDetector) == 1800
    assert float(tags.EstimatedRadiographicMagnificationFactor) == pytest.approx(1.2)
    assert "DistanceSourceToPatient" not in tags and "PixelSpacing" not in tags
    assert [float(s) for s in tags.ImagerPixelSpacing] == list(beam.pixel_mm)


def test_a_png_with_geometry_json_is_the_same_xray(tmp_path):
    views = {
        view: xray_of(geometry.preset_beam(view, pixels=16), view, k) for k, view in enumerate((View.PA, View.LAT))
    }
    io.write_geometry(tmp_path / "geometry.json", list(views.values()))
    for view, xray in views.items():
        io.write_xray_png(xray, tmp_path / f"{view}.png")
        np.save(tmp_path / f"{view}.npy", xray.pixels)
        for suffix in ("png", "npy"):
            back = io.read_xray(tmp_path / f"{view}.{suffix}", geometry=tmp_path / "geometry.json")
            assert back.beam == xray.beam and back.values == "line_integral" and back.view == view
            assert np.abs(back.pixels - xray.pixels).max() <= xray.pixels.max() / 65535 * 0.51


def test_geometry_json_mirrors_a_picture_together_with_its_beam(tmp_path):
    beam = geometry.preset_beam(View.LAT, pixels=16)
    xray = xray_of(beam, View.LAT)
    io.write_xray_png(xray, tmp_path / "LAT.png")
    io.write_geometry(tmp_path / "g.json", [xray])
    content = json.loads((tmp_path / "g.json").read_text())
    content["views"][0]["column_dir"] = [0, -1, 0]  # the picture as stored faces right
    (tmp_path / "g.json").write_text(json.dumps(content))
    back = io.read_xray(tmp_path / "LAT.png", geometry=tmp_path / "g.json")
    plain = np.round(xray.pixels / (xray.pixels.max() / 65535))
    assert back.beam == beam
    assert np.allclose(back.pixels, np.flip(plain, 1) * (xray.pixels.max() / 65535), atol=1e-5)


BAD_GEOMETRY = {
    "version": lambda g: g.update(version=2),
    "colour": lambda g: g.update(colour="red"),
    r"views\.0\.tilt": lambda g: g["views"][0].update(tilt=3),
    r"views\.0\.source_mm\.1": lambda g: g["views"][0].update(source_mm=[0, float("nan"), 0]),
    r"views\.0\.rows": lambda g: g["views"][0].update(rows=10**9),
    r"views\.0.*scale": lambda g: g["views"][0].update(scale=None),
    "right angles": lambda g: g["views"][0].update(row_dir=[1, 0, 0]),
    "twice": lambda g: g["views"].append(g["views"][0]),
    r"views": lambda g: g.update(views=[]),
}


@pytest.mark.parametrize("reason", BAD_GEOMETRY)
def test_a_wrong_geometry_json_is_named_in_one_line(reason, tmp_path):
    path = tmp_path / "geometry.json"
    io.write_geometry(path, [xray_of(geometry.preset_beam(View.PA, pixels=16), View.PA)])
    content = json.loads(path.read_text())
    BAD_GEOMETRY[reason](content)
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput, match=reason) as error:
        io.read_geometry(path)
    assert str(error.value).startswith("geometry.json: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\0", '{"version": 1}', "[]", "3"])
def test_text_that_is_no_geometry_is_refused(text, tmp_path):
    (tmp_path / "g.json").write_text(text)
    with pytest.raises(BadInput, match=r"^g\.json: "):
        io.read_geometry(tmp_path / "g.json")


def test_a_picture_of_another_size_than_its_geometry_is_refused(tmp_path):
    io.write_geometry(tmp_path / "g.json", [xray_of(geometry.preset_beam(View.PA, pixels=16), View.PA)])
    io.write_xray_png(xray_of(geometry.preset_beam(View.PA, pixels=18), View.PA), tmp_path / "PA.png")
    with pytest.raises(GeometryError, match="18"):
        io.read_xray(tmp_path / "PA.png", geometry=tmp_path / "g.json")


def test_describe_tells_what_each_file_is(lopsided, tmp_path):
    for file in FILES:
        io.write_ct(lopsided, tmp_path / file)
        told = io.describe(tmp_path / file)
        assert told["kind"] == "ct" and sorted(told["shape"]) == [20, 24, 28] and told["values"] == "HU"
        assert sorted(told["spacing_mm"]) == [4, 5, 6]
        json.dumps(told)
    io.write_xray_dicom(xray_of(geometry.preset_beam(View.PA, pixels=16), View.PA), tmp_path / "a.dcm")
    told = io.describe(tmp_path / "a.dcm")
    assert told["kind"] == "xray" and told["format"] == "DICOM DX" and told["orientation"] == "PA"
    assert eval(told["beam"], {"ConeBeam": ConeBeam}) == geometry.preset_beam(View.PA, pixels=16)
    json.dumps(told)
