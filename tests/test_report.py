"""Pictures, tables and the page: upright, escaped, and readable without a network; a folder is whole or not there."""

import json
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from raylift import DISCLAIMER
from raylift.data.prepare.resample import on_grid_of
from raylift.errors import BadInput, UnknownName
from raylift.geometry import chest_view
from raylift.reconstruct import Result
from raylift.report import folder, reconstruct_to, tables, write_result
from raylift.report.figures import planes, preview
from raylift.report.page import page
from raylift.types import Grid, View, Volume, Xray


def manifest(**changes) -> dict:
    shot = {"view": "PA", "from": "guessed", "values": "unknown", "beam": "ConeBeam(...)"}
    return {
        "program": "raylift",
        "version": "0",
        "disclaimer": DISCLAIMER,
        "versions": {"torch": "2"},
        "device": "cpu",
        "deterministic": True,
        "model": {"name": "sart", "paper": "A & B", "views": ["PA"], "size": 16, "spacing_mm": 20.0},
        "weights": {"from": "run", "sha256": {"net.safetensors": "0" * 64}},
        "isocentre_lps_mm": [0.0, 1.0, 2.0],
        "geometry": {"PA": shot},
        "notes": ["PA: the geometry was guessed"],
        "refine": {"on": False, "why": "the geometry of PA was guessed", "where": None},
        "reprojection": {"PA": {"before": {"relative_l2": 0.25, "mean_abs": 0.5}, "after": None}},
        "runtime_s": {"read": 0.1, "total": 1.0},
        **changes,
    }


@pytest.fixture
def result() -> Result:
    grid = Grid.canonical((16, 16, 16), 20.0)
    hu = np.full(grid.shape, -1000, np.float32)
    hu[2:14, 2:14, 2:14] = 0
    beam = chest_view(View.PA, pixels=16)
    seen = Xray(pixels=np.eye(16, dtype=np.float32), pixel_mm=beam.pixel_mm, view=View.PA, beam=beam)
    return Result(
        ct=Volume(hu=hu, grid=grid, source="reconstruction"), xrays=(seen,), reprojections=(seen,), manifest=manifest()
    )


def test_planes_hang_as_on_a_light_box():
    """A voxel at the head, front and right is at the top or left of every plane that it lies in."""
    hu = np.zeros((9, 9, 9))
    hu[:, 1, 1] = hu[1, :, 1] = hu[1, 1, :] = 1  # so that each middle plane crosses it
    axial, coronal, sagittal = planes(hu)
    assert axial[1, 1] and coronal[1, 1] and sagittal[1, 1]
    assert axial.sum() == coronal.sum() == sagittal.sum() == 1


def test_preview_is_a_picture_that_shows_the_body(result):
    image = np.asarray(Image.open(BytesIO(preview(result))).convert("L"))
    assert image.shape[0] > 300 and image.shape[1] > 300
    assert image.std() > 10
    taller = Image.open(BytesIO(preview(result, truth=result.ct)))
    assert taller.size[1] > 1.5 * image.shape[0]  # two more rows


def test_nothing_in_the_page_is_markup_that_came_from_outside(result):
    evil = '<script>alert(1)</script>" onload="x'
    text = page(manifest(notes=[evil], model={**manifest()["model"], "paper": evil}), b"png")
    assert "<script" not in text and 'onload="x' not in text
    assert text.count("&lt;script&gt;") >= 2


def test_the_page_needs_no_network_and_says_so():
    text = page(manifest(), b"png", None)
    assert "Content-Security-Policy\" content=\"default-src 'none'" in text
    assert not re.search(r"(src|href)=\"(?!data:)", text) and "http://" not in text and "https://" not in text
    assert DISCLAIMER in text
    assert text.index("the geometry was guessed") < text.index("<img")  # guesses come first


def test_a_table_has_a_dash_where_nothing_was_done():
    assert tables.reprojection_rows(manifest()["reprojection"]) == [("PA", "25.00%", "–", "0.5000", "–")]
    lines = tables.summary_lines(manifest())
    assert lines[0] == DISCLAIMER and "guessed" in lines[1] and "off" in lines[2]


def test_scores_of_the_truth_itself_are_perfect(result):
    """A truth on another grid, turned and finer, is found in its place."""
    fine = Grid.canonical((32, 32, 32), 10.0)
    hu = result.ct.hu.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    turned = Grid(fine.shape, fine.affine @ np.array([[-1, 0, 0, 31], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    there, filled = on_grid_of(result.ct, Volume(hu=hu[::-1], grid=turned))
    found = tables.scores(result.ct, there, filled)
    assert filled.all() and found["mae"] < 60 and found["psnr"] > 20
    away = Volume(hu=hu, grid=Grid.canonical((32, 32, 32), 10.0, (900, 0, 0)), source="far.nii.gz")
    with pytest.raises(BadInput, match=r"far\.nii\.gz.*lies elsewhere"):
        on_grid_of(result.ct, away)


@pytest.mark.parametrize("kind", ["nifti", "nrrd", "mha", "dicom"])
def test_the_folder_holds_what_its_manifest_says(result, tmp_path, kind):
    out = tmp_path / "a" / "out"
    with folder.filled_folder(out) as beside:
        write_result(result, beside, output_type=kind, truth=result.ct)
    told = json.loads((out / "manifest.json").read_text())
    assert sorted(p.name for p in out.iterdir()) == sorted(told["files"])
    assert told["truth"]["mae"] < 1e-3
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_a_second_result_replaces_the_first_and_leaves_other_files(result, tmp_path):
    for kind in ("dicom", "dicom", "nifti"):
        with folder.filled_folder(tmp_path / "out") as beside:
            write_result(result, beside, output_type=kind)
        (tmp_path / "out" / "mine.txt").write_text("stays")
    assert (tmp_path / "out" / "mine.txt").is_file()
    assert (tmp_path / "out" / "ct.nii.gz").is_file()


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        reconstruct_to(tmp_path / "new" / "out", tmp_path / "no.dcm", tmp_path / "neither.dcm", model="sart")
    with pytest.raises(UnknownName, match="did you mean 'nifti'"):
        reconstruct_to(tmp_path / "out", "a", "b", output_type="nifty")
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "out", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(BadInput):
            reconstruct_to(out, "a", "b", model="sart")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
