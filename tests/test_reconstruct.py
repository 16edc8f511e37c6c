"""From X-ray files to a CT: which file is which, panels, when to refine, and where the CT stands in the world."""

import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
import torch

import raylift
from raylift import estimate, inputs, io, models, panels, reconstruct
from raylift.errors import BadInput, OutOfMemory, UnknownName
from raylift.geometry import chest_view, preset_beam
from raylift.models import sart
from raylift.models.weights import describe, write_hashes, write_tensors
from raylift.physics import hu_to_mu
from raylift.projector import project
from raylift.segment import bone
from raylift.types import Grid, ParallelBeam, View, Xray

CENTRE = (12.0, -30.0, -140.0)  # an isocentre that is not 0
MARKER = np.array([-60.0, -40.0, 50.0])  # from it: the patient's right, front, top
SIZE, SPACING = 32, 10.0


def xray(view=None, name="x.png", **facts) -> Xray:
    return Xray(pixels=np.eye(8, dtype=np.float32), pixel_mm=(1.0, 1.0), view=view, source=name, **facts)


def shot(values="line_integral", geometry_from="file", view=View.PA) -> inputs.Shot:
    beam = chest_view(view, pixels=8)
    return inputs.Shot(xray=xray(view, values=values, beam=beam), model_view=view, geometry_from=geometry_from)


@pytest.fixture
def small_sart(monkeypatch):
    """`sart` on 32 voxels of 10 mm."""
    options = {"size": SIZE, "spacing": SPACING, "rounds": 6}
    model = replace(sart.MODEL, size=SIZE, spacing=SPACING, options=options)
    monkeypatch.setitem(models.MODELS, "sart", model)
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """PA.dcm, LAT.dcm, their PNGs and geometry.json of a body of water with a marker at the right, front and top."""
    folder = tmp_path_factory.mktemp("xrays")
    grid = Grid.canonical((40, 40, 40), 8.0, CENTRE)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    away = grid.world(index) - CENTRE
    hu = np.where(np.linalg.norm(away / (130, 90, 120), axis=-1) < 1, 0.0, -1000.0)
    hu[np.linalg.norm(away - MARKER, axis=-1) < 24] = 3000
    xrays = []
    for view in (View.PA, View.LAT):
        beam = chest_view(view, pixels=64, isocentre_mm=CENTRE)
        pixels = project(torch.from_numpy(hu_to_mu(hu)).float(), grid, [beam])[0].numpy()
        xrays.append(
            Xray(
                pixels=pixels, pixel_mm=beam.pixel_mm, view=view, values="line_integral", beam=beam, isocentre_mm=CENTRE
            )
        )
        io.write_xray_dicom(xrays[-1], folder / f"{view}.dcm")
        io.write_xray_png(xrays[-1], folder / f"{view}.png")
    io.write_geometry(folder / "geometry.json", xrays)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with an untrained `x2ct-cnn` so small that it takes a moment."""
    return _untrained("x2ct-cnn", tmp_path_factory.mktemp("run") / "best")


@pytest.fixture(scope="module")
def bone_run(tmp_path_factory):
    """The same of `3dsrnet`, which learns from X-rays of the skeleton alone."""
    return _untrained("3dsrnet", tmp_path_factory.mktemp("bone") / "best")


def _untrained(name, folder):
    folder.mkdir()
    base = models.get(name)
    size = base.tiny_size
    side = base.size * base.spacing
    model = replace(base, options={**base.options, **base.tiny}, size=size, spacing=side / size)
    net = model.build(torch.Generator().manual_seed(1))
    write_tensors(net.state_dict(), folder / "net.safetensors")
    (folder / "model.json").write_text(json.dumps(describe(model)))
    write_hashes(folder)
    return folder.parent


def test_tags_say_which_file_is_which():
    both = (View.PA, View.LAT)
    assert inputs.order_of([xray(View.PA), xray(View.LAT)], both) == [0, 1]
    assert inputs.order_of([xray(View.RLAT), xray(View.AP)], both) == [1, 0]
    assert inputs.order_of([xray(View.LAT), xray()], both) == [1, 0]
    assert inputs.order_of([xray(), xray(View.PA)], both) == [1, 0]
    assert inputs.order_of([xray(), xray()], both) == [0, 1]


def test_two_frontals_and_a_lateral_alone_are_refused():
    with pytest.raises(BadInput, match=r"a\.png and b\.png: frontal by tag"):
        inputs.order_of([xray(View.PA, "a.png"), xray(View.AP, "b.png")], (View.PA, View.LAT))
    with pytest.raises(BadInput, match=r"a\.png: lateral by tag"):
        inputs.order_of([xray(View.LAT, "a.png")], (View.PA,))


def test_averaging_keeps_every_mean():
    picture = np.random.default_rng(0).random((12, 10)).astype(np.float32)
    np.testing.assert_allclose(panels.averaged(picture, 4, 5), picture.reshape(4, 3, 5, 2).mean((1, 3)), rtol=1e-6)
    assert panels.averaged(picture, 5, 3).mean() == pytest.approx(picture.mean(), rel=1e-6)
    assert panels.averaged(picture, 24, 30).mean() == pytest.approx(picture.mean(), rel=1e-6)


def test_the_same_outline_is_only_averaged():
    beam = chest_view(View.LAT, pixels=64)
    picture = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    seen, covered = panels.on_panel(picture, beam, chest_view(View.LAT, pixels=16), (0, 0, 0))
    np.testing.assert_array_equal(seen, panels.averaged(picture, 16, 16))
    assert covered == 1
    assert panels.same_outline(beam, beam.resized(7, 9))
    assert not panels.same_outline(beam, beam.moved((0, 0, 1)))
    assert not panels.same_outline(beam, chest_view(View.RLAT, pixels=64))


@pytest.mark.parametrize("preset", ["x2ct", "chest-224"])
def test_what_lies_at_the_isocentre_is_where_the_other_panel_shows_it(preset):
    """A thin plate in the plane through the isocentre casts the same picture, whichever beam saw it first."""
    grid = Grid.canonical((80, 1, 80), 4.0)
    mu = torch.zeros(grid.shape)
    mu[20:40, 0, 10:50] = 1.0
    mu[50:60, 0, 44:64] = 2.0
    wanted, taken = chest_view(View.PA, pixels=40), preset_beam(View.PA, preset, pixels=320)
    truth = project(mu, grid, [chest_view(View.PA, pixels=320)])[0].numpy()
    seen, _ = panels.on_panel(project(mu, grid, [taken])[0].numpy(), taken, wanted, (0, 0, 0))
    rest = np.abs(seen - panels.averaged(truth, 40, 40))
    assert rest.mean() < 0.05 * truth.max()  # what differs is the plate's oblique rays and its edges
    centre = [(np.indices(p.shape) * p).sum((1, 2)) / p.sum() for p in (seen, panels.averaged(truth, 40, 40))]
    np.testing.assert_allclose(*centre, atol=0.25)


def test_a_panel_that_covers_less_says_so():
    small = chest_view(View.PA, pixels=64)
    small = replace(small, pixels=(32, 64))
    seen, covered = panels.on_panel(np.ones((32, 64), np.float32), small, chest_view(View.PA, pixels=16), (0, 0, 0))
    assert covered == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(seen, 1)


def test_unknown_greys_span_the_nominal_range_and_known_ones_stay():
    pixels = np.linspace(0, 1000, 64 * 64, dtype=np.float32).reshape(64, 64)
    unknown = replace(xray(), pixels=pixels)
    nominal = panels.line_integrals(unknown, nominal=True)
    assert np.percentile(nominal, [0.5, 99.5]) == pytest.approx(panels.NOMINAL_RANGE, abs=0.01)
    assert panels.line_integrals(unknown, nominal=False) is pixels
    assert panels.line_integrals(replace(unknown, values="line_integral"), nominal=True) is pixels
    integrals = pixels / 250
    intensity = replace(unknown, values="intensity", pixels=5000 * np.exp(-integrals))
    np.testing.assert_allclose(panels.line_integrals(intensity, nominal=True), integrals, atol=0.01)


def test_refining_is_on_only_where_geometry_and_scale_are_known():
    model = models.get("raylift")
    assert estimate.choose(None, model, [shot(), shot()]).on
    off = estimate.choose(None, model, [shot(), shot(geometry_from="guessed", view=View.LAT)])
    assert not off.on and "geometry of LAT was guessed" in off.why
    off = estimate.choose(None, model, [shot(values="unknown"), shot()])
    assert not off.on and "scale of PA is unknown" in off.why
    forced = estimate.choose(True, model, [shot(values="unknown"), shot()])
    assert forced.on and forced.unknown_scale and "asked for" in forced.why
    assert not estimate.choose(False, model, [shot(), shot()]).on


def test_a_part_of_the_patient_is_never_refined(monkeypatch):
    model = models.get("raylift")
    part = replace(estimate.profiles.get("chest"), complete_rays=False)
    monkeypatch.setitem(estimate.profiles.PROFILES, "chest", part)
    assert not estimate.choose(None, model, [shot()]).on
    with pytest.raises(BadInput, match="cannot be refined"):
        estimate.choose(True, model, [shot()])


def test_the_ct_stands_where_the_patient_stood(files, small_sart):
    result = raylift.reconstruct(files / "PA.dcm", files / "LAT.dcm", model="sart")
    assert result.ct.hu.shape == (SIZE,) * 3
    np.testing.assert_allclose(result.ct.grid.centre_mm, CENTRE, atol=1e-3)
    peak = np.unravel_index(result.ct.hu.argmax(), result.ct.hu.shape)
    np.testing.assert_allclose(result.ct.grid.world(peak) - CENTRE, MARKER, atol=1.5 * SPACING)
    assert result.manifest["notes"] == []
    assert result.manifest["refine"]["on"]
    after = [result.manifest["reprojection"][v]["after"]["relative_l2"] for v in ("PA", "LAT")]
    assert max(after) < 0.1
    json.dumps(result.manifest, allow_nan=False)


def test_files_in_the_other_order_give_the_same_ct(files, small_sart):
    given = raylift.reconstruct(files / "PA.dcm", files / "LAT.dcm", model="sart")
    turned = raylift.reconstruct(files / "LAT.dcm", files / "PA.dcm", model="sart")
    np.testing.assert_array_equal(given.ct.hu, turned.ct.hu)
    assert any("other order" in note for note in turned.manifest["notes"])


def test_pictures_with_a_geometry_are_as_good_as_dicom(files, small_sart):
    dicom = raylift.reconstruct(files / "PA.dcm", files / "LAT.dcm", model="sart")
    png = raylift.reconstruct(files / "PA.png", files / "LAT.png", model="sart", geometry=files / "geometry.json")
    np.testing.assert_allclose(png.ct.hu, dicom.ct.hu, atol=5)
    assert png.manifest["refine"]["on"]


def test_pictures_alone_are_used_with_guesses_that_are_told(files, run):
    result = raylift.reconstruct(files / "PA.png", files / "LAT.png", model=run, spacing=430 / 64)
    notes = " ".join(result.manifest["notes"])
    assert "Guessed geometry" in notes and "centred on LPS 0" in notes and "face left" in notes
    assert result.manifest["geometry"]["PA"]["from"] == "guessed"
    assert not result.manifest["refine"]["on"]
    assert result.manifest["reprojection"]["PA"]["after"] is None
    assert list(result.manifest["weights"]["sha256"]) == ["net.safetensors"]


def test_a_net_that_is_not_told_the_geometry_sees_its_own_panel(files, run):
    """The same shot on a larger panel than the net was trained with gives the same picture to the net."""
    model, _ = reconstruct.find_model(run)
    shots, isocentre, _ = inputs.read_shots([files / "PA.dcm", files / "LAT.dcm"], model)
    plain, _ = panels.for_net(shots, model, isocentre)
    wide = [replace(s, xray=_padded(s.xray, 16)) for s in shots]
    again, notes = panels.for_net(wide, model, isocentre)
    torch.testing.assert_close(again, plain, atol=0.1, rtol=0.05)
    assert notes == []


def _padded(picture: Xray, by: int) -> Xray:
    pixels = np.pad(picture.pixels, by)
    return replace(picture, pixels=pixels, beam=replace(picture.beam, pixels=pixels.shape))


def test_refining_brings_any_net_nearer_to_its_xrays(files, run):
    plain = raylift.reconstruct(files / "PA.dcm", files / "LAT.dcm", model=run, refine=False)
    refined = raylift.reconstruct(files / "PA.dcm", files / "LAT.dcm", model=run)
    for view in ("PA", "LAT"):
        before, after = (refined.manifest["reprojection"][view][k]["relative_l2"] for k in ("before", "after"))
        assert after < 0.5 * before
        assert before == pytest.approx(plain.manifest["reprojection"][view]["before"]["relative_l2"], rel=1e-3)
    forced = raylift.reconstruct(files / "PA.png", files / "LAT.png", model=run, spacing=430 / 64, refine=True)
    assert forced.manifest["refine"]["where"] == "after the network"


def test_a_net_of_skeletons_sees_the_skeleton_of_a_clinical_xray(files, bone_run, tmp_path):
    both = (files / "PA.dcm", files / "LAT.dcm")
    found, plain = (raylift.reconstruct(*both, model=bone_run, bone=asked) for asked in (None, False))
    assert found.manifest["bone"]["on"] and not plain.manifest["bone"]["on"]
    notes = [note for note in found.manifest["notes"] if "which is a guess" in note]
    assert [note.split(":")[0] for note in notes] == ["PA", "LAT"] and plain.manifest["notes"] == []
    assert not found.manifest["refine"]["on"] and found.manifest["geometry"]["PA"]["values"] == "line_integral"
    assert np.abs(found.ct.hu - plain.ct.hu).max() > 1
    alone = []
    for path, seen in zip(both, found.xrays, strict=True):
        read = io.read_xray(path)
        alone.append(replace(read, pixels=bone.bone_xray(read.pixels, read.pixel_mm), values="unknown"))
        small = panels.averaged(alone[-1].pixels, *seen.pixels.shape)
        assert np.corrcoef(seen.pixels.ravel(), small.ravel())[0, 1] > 0.999  # what the re-projection is compared with
        io.write_xray_png(alone[-1], tmp_path / f"{read.view}.png")
    io.write_geometry(tmp_path / "geometry.json", alone)
    pictures = (tmp_path / "PA.png", tmp_path / "LAT.png")
    given = raylift.reconstruct(*pictures, model=bone_run, bone=False, geometry=tmp_path / "geometry.json")
    np.testing.assert_allclose(given.ct.hu, found.ct.hu, atol=2)


def test_only_a_net_that_learnt_from_skeletons_alone_gets_one(files, run):
    model = models.get("3dsrnet")
    assert panels.wants_skeletons(model)
    assert not panels.wants_skeletons(replace(model, complete_rays=False))  # prepared with --rays whole
    assert not panels.wants_skeletons(models.get("x2ct-cnn")) and not panels.wants_skeletons(models.get("ear"))
    both = (files / "PA.dcm", files / "LAT.dcm")
    off, on = (raylift.reconstruct(*both, model=run, bone=asked) for asked in (None, True))
    assert not off.manifest["bone"]["on"] and on.manifest["bone"]["why"].startswith("asked for")
    assert off.manifest["refine"]["on"] and not on.manifest["refine"]["on"]  # a guess is no line integral


def test_reconstructing_twice_gives_the_same_ct(files, run):
    first, second = (raylift.reconstruct(files / "PA.dcm", files / "LAT.dcm", model=run) for _ in range(2))
    np.testing.assert_array_equal(first.ct.hu, second.ct.hu)


def test_infer_is_what_reconstruct_does(files, run):
    model, folder = reconstruct.find_model(run)
    net = reconstruct.load_net(model, folder)
    shots, isocentre, _ = inputs.read_shots([files / "PA.dcm", files / "LAT.dcm"], model)
    xrays, beams = panels.for_rays(shots, model, isocentre)
    for refine in (False, True):
        hu = reconstruct.infer(model, net, xrays, beams, refine=refine)
        whole = raylift.reconstruct(files / "PA.dcm", files / "LAT.dcm", model=run, refine=refine)
        np.testing.assert_allclose(hu.numpy(), whole.ct.hu, atol=0.1)


def test_nothing_about_the_patient_comes_out(files, small_sart, tmp_path):
    secret = "GEHEIM"
    dataset = pydicom.dcmread(files / "PA.dcm")
    for tag in ("PatientName", "PatientID", "AccessionNumber", "InstitutionName", "StudyDescription", "ImageComments"):
        setattr(dataset, tag, f"{secret}{tag[:4]}")
    dataset.save_as(tmp_path / f"{secret}.dcm")
    result = raylift.reconstruct(tmp_path / f"{secret}.dcm", files / "LAT.dcm", model="sart")
    assert secret not in json.dumps(result.manifest)


def test_parallel_rays_reconstruct_too(files, small_sart, tmp_path):
    beam = ParallelBeam(
        ray_dir=(0, -1, 0), detector_centre_mm=(0, -600, 0), column_dir=(1, 0, 0), row_dir=(0, 0, -1),
        pixels=(32, 32), pixel_mm=(10, 10),
    )  # fmt: skip
    side = replace(beam, ray_dir=(1, 0, 0), detector_centre_mm=(600, 0, 0), column_dir=(0, 1, 0))
    xrays = []
    for view, rays in ((View.PA, beam), (View.LAT, side)):
        pixels = np.zeros((32, 32), np.float32)
        pixels[10:20, 8:24] = 3.0
        xrays.append(Xray(pixels=pixels, pixel_mm=(10.0, 10.0), view=view, values="line_integral", beam=rays))
        io.write_xray_png(xrays[-1], tmp_path / f"{view}.png")
    io.write_geometry(tmp_path / "geometry.json", xrays)
    result = raylift.reconstruct(
        tmp_path / "PA.png", tmp_path / "LAT.png", model="sart", geometry=tmp_path / "geometry.json"
    )
    assert result.manifest["reprojection"]["PA"]["after"]["relative_l2"] < 0.05


def test_wrong_names_and_numbers_of_files(files, small_sart, tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'x2ct-gan'"):
        raylift.reconstruct(files / "PA.dcm", model="x2ctgan")
    with pytest.raises(BadInput, match="sart takes 2 X-rays"):
        raylift.reconstruct(files / "PA.dcm", model="sart")
    with pytest.raises(BadInput, match=r"x2ct-gan has no weights.*raylift train x2ct-gan"):
        raylift.reconstruct(files / "PA.dcm", files / "LAT.dcm", model="x2ct-gan")
    with pytest.raises(BadInput, match="holds no weights"):
        raylift.reconstruct(files / "PA.dcm", model=tmp_path)
    with pytest.raises(BadInput, match="no device 'gpu'"):
        raylift.reconstruct(files / "PA.dcm", files / "LAT.dcm", model="sart", device="gpu")
    with pytest.raises(BadInput, match="--spacing"):
        raylift.reconstruct(files / "PA.png", files / "LAT.png", model="sart")


def test_memory_that_runs_out_says_what_would_fit(files, small_sart, monkeypatch):
    def too_much(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(reconstruct, "run", too_much)
    with pytest.raises(OutOfMemory, match="does not fit into memory") as told:
        raylift.reconstruct(files / "PA.dcm", files / "LAT.dcm", model="sart")
    assert told.value.exit_code == 4


@pytest.mark.real
def test_a_real_pair_of_pictures(real, run):
    folder = real / "xray" / "pneumocystis-2"
    stem = "pneumocystis-pneumonia-2"
    result = raylift.reconstruct(
        folder / f"{stem}-PA.png", folder / f"{stem}-L.png", model=run, spacing=0.4, lateral_faces="right"
    )
    assert np.isfinite(result.ct.hu).all()
    assert not result.manifest["refine"]["on"]
