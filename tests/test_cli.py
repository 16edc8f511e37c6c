"""The command line: exit codes, one line for each error, nothing heavy before it is needed, and its reference."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raylift import __version__, cli, io
from raylift.cli import terminal
from raylift.geometry import chest_view
from raylift.types import Grid, View, Volume, Xray

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def call(capsys):
    """Runs the command line and gives (exit code, stdout, stderr)."""

    def run(*arguments):
        code = cli.main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(call, tmp_path):
    """Asserts exit code 2, one line on stderr that holds `words`, no traceback, and nothing left in `out`."""

    def run(*arguments, words: str, out: Path = tmp_path / "out", code: int = 2):
        found, _, error = call(*arguments)
        assert found == code, error
        assert error.count("\n") == 1 and error.startswith("error: "), error
        assert words in error, error
        assert "Traceback" not in error and not out.exists()

    return run


@pytest.fixture
def picture(tmp_path) -> Path:
    """A PNG that could be an X-ray; it has no spacing."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "PA.png")
    return tmp_path / "PA.png"


@pytest.fixture
def ct(tmp_path) -> Path:
    """A small CT."""
    grid = Grid.canonical((16, 16, 16), 10.0)
    hu = np.full(grid.shape, -1000, np.int16)
    hu[3:12, 3:12, 3:12] = 40
    return io.write_ct(Volume(hu=hu, grid=grid), tmp_path / "torsos" / "torso-0000" / "ct.nii.gz")


def test_help_is_quick():
    """Neither torch nor anything that reads files is imported for --help."""
    heavy = "{'torch', 'numpy', 'matplotlib', 'SimpleITK', 'pydicom', 'nibabel', 'numba', 'scipy', 'pandas'}"
    code = f"import sys; from raylift.cli import main; assert main(['--help']) == 0; print({heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.splitlines()[-1] == "set()"
    for name in ("reconstruct", "prepare", "drr", "train", "evaluate", "models", "info", "phantom"):
        assert name in run.stdout


def test_the_window_is_that_of_physics():
    from raylift.physics import CHEST_WINDOW

    assert terminal.CHEST_WINDOW == CHEST_WINDOW


def test_the_reference_is_up_to_date():
    assert (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8") == cli.reference()


def test_version(call):
    assert call("--version") == (0, f"raylift {__version__}\n", "")


def test_models_as_json(call):
    code, out, _ = call("models", "sart", "--json")
    row = json.loads(out)
    assert code == 0 and row["name"] == "sart" and row["views"] == ["PA", "LAT"] and row["parameters"] == 0
    code, out, _ = call("models", "psr", "--json")
    row = json.loads(out)
    assert row["parameters"] > 1e8 and row["gmac"] > 1 and row["gmac_thop"] > 1 and row["weights"] in (True, False)
    code, out, _ = call("models", "sart")
    assert code == 0 and "Andersen" in out


def test_info_of_a_ct_an_xray_and_a_geometry(call, ct, picture, tmp_path):
    code, out, _ = call("info", ct, "--json")
    assert code == 0 and json.loads(out)["shape"] == [16, 16, 16]
    code, out, _ = call("info", picture)
    assert code == 0 and "xray" in out
    beam = chest_view(View.PA, pixels=64)
    xray = Xray(pixels=np.ones((64, 64), np.float32), pixel_mm=beam.pixel_mm, view=View.PA, beam=beam)
    code, out, _ = call("info", io.write_geometry(tmp_path / "geometry.json", [xray]))
    assert code == 0 and "ConeBeam(" in out


def test_what_cannot_be_reconstructed_is_refused_in_one_line(refused, picture, ct, tmp_path):
    out = ("-o", tmp_path / "out", "--model", "sart")
    refused("reconstruct", picture, picture, *out, words="--spacing")
    refused("reconstruct", tmp_path / "no.dcm", picture, *out, words="no.dcm: no such file")
    refused("reconstruct", ct, ct, *out, words="a volume, not an X-ray")
    refused("reconstruct", tmp_path, picture, *out, words="a folder")
    refused("reconstruct", picture, *out, words="takes 2 X-rays")
    refused("reconstruct", picture, picture, "-o", tmp_path / "out", "--model", "sartt", words="did you mean 'sart'")
    refused("reconstruct", picture, picture, *out, "--spacing", "0", words="absurd")
    refused("reconstruct", picture, picture, *out, "--spacing", "nan", words="absurd")
    refused("reconstruct", picture, picture, *out, "--spacing", "1000", words="absurd")
    refused("reconstruct", picture, picture, *out, "--geometry", tmp_path / "g.json", words="g.json: no such file")
    refused("reconstruct", picture, picture, *out, "--output-type", "jpg", words="output type 'jpg'")
    (tmp_path / "x.docx").write_text("hello")
    refused("reconstruct", tmp_path / "x.docx", picture, *out, words="unsupported format")


def test_pictures_that_are_no_xrays_are_refused(refused, tmp_path):
    out = ("-o", tmp_path / "out", "--model", "sart", "--spacing", "0.4")
    cases = {"flat.png": np.full((32, 32), 7, np.uint8), "nan.tif": np.full((32, 32), np.nan, np.float32)}
    for name, pixels in cases.items():
        Image.fromarray(pixels).save(tmp_path / name)
        refused("reconstruct", tmp_path / name, tmp_path / name, *out, words=name)
    (tmp_path / "empty.png").write_bytes(b"")
    refused("reconstruct", tmp_path / "empty.png", tmp_path / "empty.png", *out, words="empty.png")


@pytest.mark.parametrize(
    "name", ["-rf", "new\nline.png", "x" * 300, "right‮gnp.dcm", "%2e%2e", "<b>[red]x[/red].png", "CON", "\x1b[31m"]
)
def test_odd_names_stay_on_one_line(call, tmp_path, name):
    code, _, error = call(
        "reconstruct", "-o", tmp_path / "out", "--model", "sart", "--", tmp_path / name, tmp_path / name
    )
    assert code == 2 and error.count("\n") == 1 and error[:-1].isprintable()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told_before_the_work(refused, picture, tmp_path):
    (tmp_path / "file").write_text("x")
    options = ("--model", "sart", "--spacing", "1")
    refused("reconstruct", picture, picture, "-o", tmp_path / "file" / "out", *options, words="cannot be written")
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "shut").mkdir(mode=0o500)
        refused("reconstruct", picture, picture, "-o", tmp_path / "shut" / "out", *options, words="written")


def test_wrong_words_on_the_line(call):
    assert call("reconstruct")[0] == 2
    assert call("reconstrukt")[0] == 2
    code, _, error = call("train", "sart", "--data", "x", "-o", "y")
    assert code == 2 and "nothing to train" in error
    code, _, error = call("train", "x2ct-gan", "--data", "x", "-o", "y", "--set", "lr")
    assert code == 2 and "key=value" in error
    code, _, error = call("train", "x2ct-gan", "--data", "x", "-o", "y", "--set", "lrr=1")
    assert code == 2 and "did you mean 'lr'" in error
    code, _, error = call("evaluate", "sart", "--data", "nowhere")
    assert code == 2 and "raylift prepare" in error


def test_memory_that_runs_out_is_exit_4(refused, monkeypatch, picture, tmp_path):
    def too_much(*_, **__):
        raise MemoryError

    monkeypatch.setattr("raylift.report.reconstruct_to", too_much)
    refused("reconstruct", picture, picture, "-o", tmp_path / "out", words="not enough memory", code=4)


@pytest.mark.slow
def test_a_phantom_and_its_xrays_become_a_ct(call, tmp_path):
    assert call("phantom", "-o", tmp_path / "torsos", "--seed", 3)[0] == 0
    truth = tmp_path / "torsos" / "torso-0000" / "ct.nii.gz"
    assert call("drr", truth, "-o", tmp_path / "xrays")[0] == 0
    files = [tmp_path / "xrays" / f"{view}.dcm" for view in ("PA", "LAT")]
    code, told, _ = call(
        "reconstruct",
        *files,
        "-o",
        tmp_path / "out",
        "--model",
        "sart",
        "--truth",
        truth,
    )
    assert code == 0 and "PSNR" in told
    found = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert found["truth"]["psnr"] > 15 and found["notes"] == []
