"""Spines: labels in every numbering, places from two X-rays, stitching, measuring, comparing, and the command."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raylift import DISCLAIMER, cli, io, models
from raylift.data.phantom import spine, vertebra
from raylift.errors import BadInput
from raylift.geometry import canonical, chest_view, parallel_beam
from raylift.report.known import known
from raylift.report.spine_errors import error_cells, table
from raylift.segment.column import from_bone
from raylift.segment.measure import angles, measure, measure_all
from raylift.segment.stitch import piece, stitch
from raylift.segment.vertebrae import (
    NUMBERINGS,
    TOTALSEGMENTATOR,
    VERSE,
    Vertebrae,
    as_volume,
    from_label_map,
    guess_numbering,
)
from raylift.spine import compose, measured, study
from raylift.spine.places import find_places, project_places, read_places, write_places
from raylift.spine.rebuild import divided, film_beams, film_shots, piece_alone, pieces_of
from raylift.types import Grid, View, Volume

SHORT = Grid.canonical((300, 120, 132), 2.0)


@pytest.fixture(scope="module")
def phantom():
    return spine(0, grid=SHORT, cobb_deg=30.0, upper="T10", lower="L3", wedges={})


@pytest.fixture(scope="module")
def truth(phantom):
    return Vertebrae(labels=phantom.labels, grid=phantom.volume.grid, how="phantom")


@pytest.fixture(scope="module")
def beams(truth):
    return film_beams([truth.centroid_mm(level) for level in truth.levels])


def renumbered(truth, numbers):
    hu = np.zeros(truth.labels.shape, np.int16)
    for level in truth.levels:
        hu[truth.labels == VERSE[level]] = numbers[level]
    return Volume(hu=hu, grid=truth.grid, source="labels")


@pytest.mark.parametrize("name", NUMBERINGS)
def test_every_numbering_gives_the_same_levels(truth, name):
    found = from_label_map(renumbered(truth, NUMBERINGS[name]))
    assert found.levels == truth.levels and (found.labels == truth.labels).all()


def test_a_table_of_structures_wins(truth, tmp_path):
    numbers = {level: 100 + k for k, level in enumerate(truth.levels)}
    rows = [f"spine,1,vertebrae_{level},{number}" for level, number in numbers.items()]
    (tmp_path / "s.csv").write_text("\n".join(["group,original_idx,structure,id", "organs,1,spleen,1", *rows]))
    found = from_label_map(renumbered(truth, numbers), structures=tmp_path / "s.csv")
    assert (found.labels == truth.labels).all()
    (tmp_path / "t.csv").write_text("structure,id\nspleen,1\n")
    with pytest.raises(BadInput, match=r"t\.csv: names no vertebra"):
        from_label_map(renumbered(truth, numbers), structures=tmp_path / "t.csv")


def test_a_lumbar_map_in_totalsegmentators_numbers_is_not_taken_for_verses(truth):
    lumbar = {level: TOTALSEGMENTATOR[level] if level.startswith("L") else 0 for level in truth.levels}
    assert guess_numbering(renumbered(truth, lumbar)) == "totalsegmentator"
    with pytest.raises(LookupError, match="did you mean 'verse'"):
        from_label_map(renumbered(truth, VERSE), numbering="versee")


def test_what_is_cut_off_is_not_measured(truth):
    low = truth.spans["L3"][0].start + 4
    part = Vertebrae(labels=truth.labels[:low].copy(), grid=Grid((low, *SHORT.shape[1:]), SHORT.affine), how="cut")
    bodies, failed = measure_all(part)
    assert "L3" in failed and "ends within" in failed["L3"] and "T9" in bodies


@pytest.mark.parametrize("wedge", [0.0, 12.0])
def test_a_vertebra_is_measured_wherever_and_however_it_lies(wedge):
    """Moved, and on a grid with other spacings and flipped axes, it has the same heights."""
    drawn = vertebra(1, level="L1", wedge_deg=wedge, dish_mm=0.0)
    true = drawn.truth["bodies"]["L1"]
    mask, grid = drawn.labels > 0, drawn.volume.grid
    moved = grid.affine.copy()
    moved[:3, 3] += (100, -50, 30)
    flipped = grid.affine.copy()
    flipped[:3, 3], flipped[:3, 0] = grid.world((127, 0, 0)), -grid.affine[:3, 0]
    found = [
        measure(mask, grid),
        measure(mask, Grid(grid.shape, moved)),
        measure(mask[::-1].copy(), Grid(grid.shape, flipped)),
    ]
    for body in found:
        assert body.anterior_mm == pytest.approx(true["anterior_mm"], abs=0.6)
        assert body.posterior_mm == pytest.approx(true["posterior_mm"], abs=0.6)
        assert body.wedge_deg == pytest.approx(true["wedge_deg"], abs=1.5)
        assert body.depth_mm == pytest.approx(true["depth_mm"], abs=1.5)
    assert np.subtract(found[1].centre_mm, found[0].centre_mm) == pytest.approx((100, -50, 30), abs=1e-3)


def test_what_is_no_vertebra_is_not_measured():
    block = np.zeros((60, 60, 60), bool)
    block[2:58, 20:40, 20:40] = True
    with pytest.raises(BadInput, match="no vertebral body"):
        measure(block, Grid.canonical((60, 60, 60), 1.0), name="L2")
    with pytest.raises(BadInput, match="empty"):
        measure(np.zeros((9, 9, 9), bool), Grid.canonical((9, 9, 9), 1.0))


def test_places_come_back_from_their_shadows(truth, beams):
    centres = {level: truth.centroid_mm(level) for level in truth.levels}
    places = find_places(project_places(centres, beams), beams)
    assert list(places) == truth.levels
    for level, place in places.items():
        assert place.centre_mm == pytest.approx(centres[level], abs=1e-6) and place.gap_mm < 1e-6


def test_places_work_for_oblique_and_parallel_beams():
    beams = {
        "PA": chest_view(View.PA, primary_deg=25.0),
        "LAT": parallel_beam(View.LAT, detector_mm=400, pixels=512, secondary_deg=10.0),
    }
    (place,) = find_places(project_places({"L1": (12.0, -33.0, 51.0)}, beams), beams).values()
    assert place.centre_mm == pytest.approx((12.0, -33.0, 51.0), abs=1e-6)


def test_a_wrong_place_is_told(beams, truth):
    pixels = project_places({"L1": truth.centroid_mm("L1")}, beams)
    row, column = pixels["L1"]["LAT"]
    off = find_places({"L1": {**pixels["L1"], "LAT": (row + 6, column)}}, beams)["L1"]
    assert off.gap_mm == pytest.approx(6 * 0.84 * 1500 / 1800, rel=0.1)  # the rays miss each other along the body
    with pytest.raises(BadInput, match="from each other"):
        find_places({"L1": {**pixels["L1"], "LAT": (row + 50, column)}}, beams)
    with pytest.raises(BadInput, match="no place in the view LAT"):
        find_places({"L1": {"PA": (1, 1)}}, beams)
    with pytest.raises(BadInput, match="nearly the same side"):
        find_places(pixels | {"L1": {"PA": (1, 1), "LAT": (1, 1)}}, {"PA": beams["PA"], "LAT": beams["PA"]})


def test_places_are_read_as_written_and_boxes_stand_for_their_middle(tmp_path):
    pixels = {"L1": {"PA": (10.5, 20.25), "LAT": (11.0, 30.0)}}
    assert read_places(write_places(pixels, tmp_path / "p.json")) == pixels
    (tmp_path / "b.json").write_text('{"vertebrae": {"T9": {"PA": {"box": [10, 20, 30, 60]}}}}')
    assert read_places(tmp_path / "b.json") == {"T9": {"PA": (20.0, 40.0)}}
    for text, words in (
        ("[]", "no places"),
        ('{"vertebrae": {}}', "states no vertebra"),
        ('{"vertebrae": {"L1": {"PA": {"box": [1, 2]}}}}', "4 finite numbers"),
        ('{"vertebrae": {"L1": {"PA": {}}}}', "state a centre"),
    ):
        (tmp_path / "w.json").write_text(text)
        with pytest.raises(BadInput, match=words):
            read_places(tmp_path / "w.json")
    (tmp_path / "w.json").write_text('{"vertebrae": {"L9": {"PA": {"centre": [1, 2]}}}}')
    with pytest.raises(LookupError, match="did you mean"):
        read_places(tmp_path / "w.json")


def test_stitching_pieces_gives_the_label_map_again(truth):
    pieces = []
    for level in ("T12", "L1", "L2"):
        mask, grid = truth.part(level, 3)
        pieces.append(piece(level, mask.astype(np.float32), grid, 0.5))
    found = stitch(pieces, truth.grid)
    same = np.where(np.isin(truth.labels, [VERSE[p.level] for p in pieces]), truth.labels, 0)
    assert (found.labels == same).all()
    assert (stitch(pieces[::-1], truth.grid).labels == found.labels).all()  # in any order
    assert stitch(pieces).levels == ["T12", "L1", "L2"]
    with pytest.raises(BadInput, match="one value only"):
        piece("L1", np.zeros((4, 4, 4)), Grid.canonical((4, 4, 4), 1.0))


def test_one_volume_is_divided_half_way_between_places(truth, beams):
    levels = ("T12", "L1", "L2")
    bone = Volume(hu=np.where(truth.labels > 0, 500, -1000).astype(np.float32), grid=truth.grid)
    places = find_places(project_places({k: truth.centroid_mm(k) for k in levels}, beams), beams)
    found = stitch(divided(bone, places, 0.0), truth.grid)
    for level in levels:
        a, b = found.mask(level), truth.mask(level)
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > (0.8 if level == "L1" else 0.6)  # L1 has both neighbours


def test_the_true_vertebrae_are_placed_within_a_voxel(phantom, truth):
    """Placing and stitching alone: the true crops stand for the reconstruction."""
    found = study(phantom.volume, truth, model="truth", levels=["T10", "L1", "L3"])
    assert found.vertebrae.levels == ["T10", "L1", "L3"]
    for row in found.manifest["table"]:
        assert row["placed_voxels"] < 0.1 and row["centroid_voxels"] < 1.0 and row["dice"] > 0.95, row
        assert row["assd_mm"] < 0.2
    assert found.manifest["beside"]["cobb_at_true_levels_deg"] == pytest.approx(30.0, abs=1.0)
    assert found.manifest["disclaimer"] == DISCLAIMER


def test_sart_finds_each_vertebra_of_its_own_xrays(phantom, truth):
    """The floor that a network must beat: two views of a single vertebra, no learning."""
    found = study(phantom.volume, truth, model="sart", levels=["L1"])
    for row in found.manifest["table"]:
        assert row["dice"] > 0.7 and row["placed_voxels"] < 0.1, row  # a box around it would have 0.4


def test_a_model_of_single_vertebrae_is_asked_at_each_place(phantom, truth, beams, generator):
    """An untrained EAR in the small: its cube is centred on the place, whatever the X-rays show."""
    model = models.get("ear").with_settings({"size": "32", "widths": "4,4,8"})
    net = model.build(generator).eval()
    places = find_places(project_places({"L1": truth.middle_mm("L1")}, beams), beams)
    pieces = [piece_alone(phantom.volume, truth, places["L1"], model, net)]
    pieces += pieces_of(film_shots(phantom.volume, beams), places, model, net).pieces
    for each in pieces:
        assert each.level == "L1" and each.hu.shape == (32, 32, 32) and each.grid.spacing_mm == (4.0, 4.0, 4.0)
        assert each.grid.centre_mm == pytest.approx(truth.middle_mm("L1"), abs=1e-4)
    assert np.abs(pieces[0].hu - pieces[1].hu).max() > 0  # the two kinds of X-rays differ


@pytest.mark.slow
def test_two_xray_files_and_places_make_a_spine(example, tmp_path):
    """The shipped X-rays with two vertebrae marked by hand: on the line of the spine, one above the other."""
    pixels = {"T9": {"PA": (150.0, 128.0), "LAT": (150.0, 170.0)}, "T10": {"PA": (166.0, 128.0), "LAT": (166.0, 168.0)}}
    write_places(pixels, tmp_path / "places.json")
    found = compose(example / "PA.dcm", example / "LAT.dcm", tmp_path / "places.json", model="sart")
    t9, t10 = (np.array(found.manifest["places"][level]["centre_mm"]) for level in ("T9", "T10"))
    assert 10 < t9[2] - t10[2] < 40 and np.linalg.norm((t9 - t10)[:2]) < 8
    assert found.manifest["disclaimer"] == DISCLAIMER and any(
        "sart made one volume" in n for n in found.manifest["notes"]
    )


def test_studies_refuse_what_they_cannot_do(phantom, truth):
    with pytest.raises(BadInput, match="lies wholly in the scan"):
        study(phantom.volume, truth, levels=["C3"])
    with pytest.raises(LookupError, match="kind of rays"):
        study(phantom.volume, truth, rays="halve")
    with pytest.raises(BadInput, match="rays whole"):
        study(phantom.volume, truth, model="raylift", levels=["L1"])


@pytest.mark.slow
def test_vertebrae_are_found_in_a_clear_ct():
    """From the bone alone, on a phantom with noise: names, overlap, and the Cobb angle of what was found."""
    drawn = spine(0, noise_hu=20.0, cobb_deg=35.0)
    found = from_bone(drawn.volume, lowest="L5")
    assert {"T4", "T8", "T12", "L1", "L4"} <= set(found.levels)
    for level in found.levels:
        a, b = found.mask(level), drawn.labels == VERSE[level]
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.8, level
        assert found.confidence[level] >= 0.75
    bodies, _ = measure_all(found)
    assert angles(bodies)["cobb"]["cobb_deg"] == pytest.approx(35.0, abs=2.0)
    unnamed = from_bone(drawn.volume)
    assert max(unnamed.confidence.values()) <= 0.5 and "guess" in unnamed.notes[0]


def test_no_vertebra_is_found_where_none_is():
    block = np.full((80, 60, 60), -1000, np.int16)
    block[:, 10:50, 10:50] = 40
    block[:, 30:40, 25:35] = 400
    with pytest.raises(BadInput, match="label map"):
        from_bone(Volume(hu=block, grid=Grid.canonical(block.shape, 3.0), source="rod"))


@pytest.fixture
def files(phantom, truth, tmp_path):
    box = slice(truth.spans["T12"][0].start - 6, truth.spans["L2"][0].stop + 6)
    affine = phantom.volume.grid.affine.copy()
    affine[:3, 3] = phantom.volume.grid.world((box.start, 0, 0))
    shape = phantom.volume.hu[box].shape
    part = Volume(hu=phantom.volume.hu[box], grid=Grid(shape, affine))
    labels = as_volume(truth)
    ct = io.write_ct(part, tmp_path / "ct.nii.gz")
    return ct, io.write_ct(replace(labels, hu=labels.hu[box], grid=part.grid), tmp_path / "labels.nii.gz")


def test_the_command_measures_and_writes_meshes_in_the_stated_frame(files, tmp_path, capsys):
    ct, labels = files
    out = tmp_path / "out"
    assert cli.main(["spine", str(ct), "--labels", str(labels), "-o", str(out), "--mesh-type", "ply"]) == 0
    assert "largest Cobb angle" in capsys.readouterr().out
    told = json.loads((out / "spine.json").read_text())
    assert told["disclaimer"] == DISCLAIMER and set(told["bodies"]) == {"T12", "L1", "L2"}
    page = (out / "spine.html").read_text()
    assert DISCLAIMER in page and "L1" in page and "http" not in page.split("<pre>")[0].replace("http-equiv", "")
    assert all(mesh["watertight"] for mesh in told["meshes"].values())
    assert json.loads((out / "meshes" / "L1.ply.json").read_text())["frame"] == "LPS"
    back = from_label_map(canonical(io.read_ct(out / "vertebrae.nii.gz")), numbering="verse")
    assert {"T12", "L1", "L2"} <= set(back.levels)


def test_the_command_composes_and_compares(files, tmp_path, capsys):
    ct, labels = files
    out = tmp_path / "out"
    code = cli.main(["spine", str(ct), "--labels", str(labels), "--model", "truth", "--levels", "L1", "-o", str(out)])
    assert code == 0 and "Dice" in capsys.readouterr().out
    for name in ("distance.png", "spine.png", "places.json", "spine.ply", "meshes/L1.stl", "meshes/L1-distance.ply"):
        assert (out / name).stat().st_size > 100, name
    assert cli.main(["spine", str(ct), "--places", str(out / "places.json"), "-o", str(tmp_path / "no")]) == 2
    assert "two of them" in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_the_document_has_the_errors_that_the_page_has():
    """Both read what bench/spine.py left."""
    text = (Path(__file__).parents[1] / "docs" / "spine.md").read_text(encoding="utf-8")
    rows = table(known("spine"))
    assert len(rows) == 10 and {len(row) for row in rows} == {4}
    for row in rows:
        assert f"| {' | '.join(row)} |" in text, row


def test_errors_are_told_with_two_digits_that_count():
    told = {"mean_abs": 0.304, "max_abs": 12.4, "n": 3}
    way = {"errors": {"cobb_deg": told, "wedge_deg": told | {"n": 60}}, "measured": 60, "asked": 68, "dice": 0.905}
    cells = error_cells({"phantoms": 4, "ways": {"a": way}})
    assert cells["cobb_deg"] == ["0.30, 12 (3 of 4)"] and cells["wedge_deg"] == ["0.30, 12"]
    assert cells["lordosis_deg"] == ["–"]


def test_a_runs_folder_is_not_told(phantom, truth, generator, monkeypatch):
    """Only its name: where it lies is nobody's business."""
    model = models.get("ear").with_settings({"size": "32", "widths": "4,4,8"})
    room = sys.modules["raylift.spine.compose"]
    monkeypatch.setattr(room, "_model", lambda name, device: (model, model.build(generator).eval()))
    found = study(phantom.volume, truth, model="/home/me/runs/ear-7", levels=["L1"])
    assert found.vertebrae.how == "composed of single vertebrae by ear-7"
    assert "/home/me" not in json.dumps(found.manifest)


def test_measured_names_how_it_was_made(truth):
    found = measured(truth, source="phantom")
    assert found.manifest["how"] == "phantom" and found.manifest["not_measured"] == {}
    assert found.manifest["angles"]["cobb"]["cobb_deg"] == pytest.approx(30.0, abs=1.0)


REAL = (
    ("lidc-idri-0001/ct.nii.gz", "lidc-idri-0001/mask.nii.gz", ("T7", "T11")),
    (
        "totalseg-abdomen/example_ct.nii.gz",
        "totalseg-abdomen/spine_totalseg_vertebrae.nii.gz",
        ("L1", "L2", "L3", "L4", "L5"),
    ),
)


@pytest.mark.real
@pytest.mark.parametrize(
    ("ct", "labels", "levels"),
    [
        pytest.param(*REAL[0], marks=pytest.mark.slow, id="lidc-idri-0001"),
        pytest.param(*REAL[1], id="totalseg-abdomen"),
    ],
)
def test_real_vertebrae_are_placed_within_a_voxel(real, ct, labels, levels):
    """Placing and stitching alone, on real label maps."""
    volume = canonical(io.read_ct(real / "ct" / ct))
    truth = from_label_map(canonical(io.read_ct(real / "ct" / labels)))
    found = study(volume, truth, model="truth", levels=levels)
    rows = {row["level"]: row for row in found.manifest["table"]}
    assert tuple(rows) == levels
    for row in rows.values():
        assert row["placed_voxels"] < 1 and row["centroid_voxels"] < 1 and row["dice"] > 0.95, row
