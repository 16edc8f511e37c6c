"""TRUST.md, part 3: files that are cut off, lie about their size, point elsewhere, nest too deep, or are no picture."""

import gzip
import importlib.util
import os
import struct
import subprocess
import sys
import textwrap
import time
import warnings
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylift import geometry, io
from raylift.errors import BadInput, RayliftError
from raylift.types import View, Volume, Xray

SLOW_OK = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refused(read, path, match="", **given_):
    """The message with which `read` refuses the file: one line that begins with its name."""
    with pytest.raises(BadInput, match=match) as error:
        read(path, **given_)
    text = str(error.value)
    assert text.startswith(f"{Path(path).name}: ") and "\n" not in text and len(text) < 400
    return text


@pytest.fixture(scope="module")
def noise() -> Volume:
    """Voxels that no compression shortens."""
    from raylift.types import Grid

    hu = np.random.default_rng(0).integers(-1000, 2000, (12, 14, 16)).astype(np.int16)
    return Volume(hu=hu, grid=Grid.canonical(hu.shape, 4.0))


@pytest.fixture(scope="module")
def whole(noise, tmp_path_factory) -> Path:
    """A folder with one good file of each kind."""
    import SimpleITK as sitk

    folder = tmp_path_factory.mktemp("whole")
    for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.mha"):
        io.write_ct(noise, folder / name)
    for name in ("raw.mha", "raw.nrrd"):
        sitk.WriteImage(sitk.GetImageFromArray(noise.hu), str(folder / name), useCompression=False)
    beam = geometry.preset_beam(View.PA, pixels=32)
    pixels = np.random.default_rng(1).random((32, 32), np.float32) * 5
    xray = Xray(pixels=pixels, pixel_mm=beam.pixel_mm, view=View.PA, values="line_integral", beam=beam)
    io.write_xray_dicom(xray, folder / "a.dcm")
    io.write_xray_png(xray, folder / "a.png")
    np.save(folder / "a.npy", pixels)
    return folder


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "raw.mha", "raw.nrrd"])
@SLOW_OK
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_cut_off_ct_is_never_filled_with_zeros(name, part, whole, tmp_path):
    """C-03: cut anywhere, to the last byte."""
    content = (whole / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(part * len(content))])
    refused(io.read_ct, tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "raw.mha", "raw.nrrd"])
def test_one_byte_short_is_too_short(name, whole, tmp_path):
    (tmp_path / name).write_bytes((whole / name).read_bytes()[:-1])
    refused(io.read_ct, tmp_path / name, "cut off|damaged")


@pytest.mark.parametrize("name", ["a.dcm", "a.png", "a.npy"])
@SLOW_OK
@given(part=st.floats(0, 0.97))
def test_a_cut_off_xray_is_refused(name, part, whole, tmp_path):
    """C-03; the last 3 % of a PNG is its checksum and end mark."""
    content = (whole / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(part * len(content))])
    refused(io.read_xray, tmp_path / name, spacing=1.0)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.dcm", "a.png", "a.npy"])
@SLOW_OK
@given(data=st.data())
def test_flipped_bytes_never_crash(name, data, whole, tmp_path):
    """C-44 in the small: a few bytes of the header anew; the file is read, or refused in one line."""
    content = bytearray((whole / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(content), 1200) - 1))
        content[at] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(content)
    for read, options in ((io.read_ct, {}), (io.read_xray, {"spacing": 1.0}), (io.describe, {})):
        try:
            read(tmp_path / name, **options)
        except RayliftError as error:
            assert "\n" not in str(error)


def with_header(whole, tmp_path, **fields) -> Path:
    """The NIfTI file with header fields changed, unchecked."""
    image = nib.load(whole / "a.nii")
    content = bytearray((whole / "a.nii").read_bytes())
    header = image.header.copy()
    header["vox_offset"] = 352
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    (tmp_path / "b.nii").write_bytes(content)
    return tmp_path / "b.nii"


NAN = float("nan")
BAD_NIFTI = {
    "zero spacing": {"pixdim": [1, 0, 4, 4, 0, 0, 0, 0]},
    "NaN spacing": {"pixdim": [1, NAN, 4, 4, 0, 0, 0, 0]},
    "negative spacing": {"pixdim": [1, -4, 4, 4, 0, 0, 0, 0]},
    "NaN sform": {"srow_x": [NAN, 0, 0, 0]},
    "singular sform": {"srow_x": [0, 0, 0, 0]},
    "32767 cubed": {"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]},
    "no voxels": {"dim": [3, 0, 14, 12, 1, 1, 1, 1]},
    "two axes": {"dim": [2, 16, 14, 1, 1, 1, 1, 1]},
    "time series": {"dim": [4, 16, 14, 6, 2, 1, 1, 1]},
    "colours": {"datatype": 128, "bitpix": 24},
    "complex": {"datatype": 32, "bitpix": 64},
    "unknown type": {"datatype": 7},
    "data in the header": {"vox_offset": 20},
}


@pytest.mark.parametrize("reason", BAD_NIFTI)
def test_nifti_headers_that_lie_are_refused(reason, whole, tmp_path):
    refused(io.read_ct, with_header(whole, tmp_path, **BAD_NIFTI[reason]))


def test_a_fourth_axis_of_one_is_no_axis(whole, tmp_path, noise):
    read = io.read_ct(with_header(whole, tmp_path, dim=[4, 16, 14, 12, 1, 1, 1, 1]))
    assert np.array_equal(read.hu, noise.hu[...])


def test_values_that_are_no_ct_are_refused(noise, tmp_path):
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((8, 8, 8), np.float32), np.eye(4)), tmp_path / "unit.nii")
    refused(io.read_ct, tmp_path / "unit.nii", "Hounsfield")
    nib.save(nib.Nifti1Image(np.full((8, 8, 8), np.nan, np.float32), np.eye(4)), tmp_path / "nan.nii")
    refused(io.read_ct, tmp_path / "nan.nii", "not finite")
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4)), tmp_path / "flat.nii")
    refused(io.read_ct, tmp_path / "flat.nii", "every voxel is 0")


META = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
ElementSpacing = {spacing}
DimSize = {size}
ElementType = MET_SHORT
ElementDataFile = {file}
"""
NRRD = """NRRD0004
type: short
dimension: 3
space: left-posterior-superior
sizes: {size}
space directions: ({spacing},0,0) (0,2,0) (0,0,2)
endian: little
encoding: raw
data file: {file}

"""


@pytest.fixture
def secret(tmp_path) -> Path:
    """Voxels outside the header's folder."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(np.arange(1000, dtype="<i2").tobytes())
    return tmp_path / "secret.raw"


@pytest.mark.parametrize(("suffix", "text"), [("mhd", META), ("nhdr", NRRD)])
@pytest.mark.parametrize("where", ["above", "absolute", "link"])
def test_a_header_that_points_elsewhere_is_refused(suffix, text, where, secret):
    """C-04."""
    folder = secret.parent / "in"
    os.symlink(secret, folder / "link.raw")
    file = {"above": "../secret.raw", "absolute": str(secret), "link": "link.raw"}[where]
    spacing = "2 2 2" if suffix == "mhd" else "2"
    (folder / f"a.{suffix}").write_text(text.format(size="10 10 10", spacing=spacing, file=file))
    refused(io.read_ct, folder / f"a.{suffix}", "outside its own folder")
    os.replace(secret, folder / "own.raw")
    (folder / f"a.{suffix}").write_text(text.format(size="10 10 10", spacing=spacing, file="own.raw"))
    assert io.read_ct(folder / f"a.{suffix}").hu.shape == (10, 10, 10)


@pytest.mark.parametrize(("suffix", "text"), [("mhd", META), ("nhdr", NRRD)])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"spacing": "nan"}, "not positive numbers"),
        ({"spacing": "0"}, "not positive numbers"),
        ({"spacing": "wide"}, "not a list of numbers"),
        ({"size": "100000 100000 100000"}, "the limit is"),
        ({"size": "0 10 10"}, "empty"),
        ({"size": "-10 10 10"}, "not a list of counts"),
        ({"size": "10 10 11"}, "200 of 2200 bytes of voxels are missing"),
        ({"size": "10 10"}, ""),
        ({"file": "%d.raw"}, ""),
        ({"file": "LIST"}, ""),
        ({"file": "missing.raw"}, "not there"),
    ],
)
def test_headers_of_nrrd_and_metaimage_that_lie_are_refused(suffix, text, changes, reason, tmp_path):
    (tmp_path / "own.raw").write_bytes(np.arange(1000, dtype="<i2").tobytes())
    fields = {"size": "10 10 10", "spacing": "2", "file": "own.raw"} | changes
    if suffix == "mhd":
        fields["spacing"] = f"{fields['spacing']} 2 2"
    (tmp_path / f"a.{suffix}").write_text(text.format(**fields))
    refused(io.read_ct, tmp_path / f"a.{suffix}", reason)


def bombs(folder: Path) -> list[Path]:
    """C-05: files of at most 2 MB that want gigabytes."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header["dim"] = [3, 1024, 1024, 1024, 1, 1, 1, 1]
    header["vox_offset"], header["pixdim"], header["magic"] = 352, [1] * 8, b"n+1"
    with gzip.open(folder / "bomb.nii.gz", "wb", 9) as file:
        file.write(header.binaryblock + bytes(4) + bytes(1 << 24))
    mha = META.format(size="2000 2000 2000", spacing="1 1 1", file="LOCAL").replace("Data = False", "Data = True")
    (folder / "bomb.mha").write_bytes(mha.encode() + zlib.compress(bytes(1 << 24), 9))
    with open(folder / "bomb.npy", "wb") as file:
        told = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
        np.lib.format.write_array_header_1_0(file, told)
    chunk = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", chunk), (b"IDAT", zlib.compress(bytes(1 << 24), 9)), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n"
    for kind, body in parts:
        png += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    (folder / "bomb.png").write_bytes(png)
    dicom = xray_dataset()
    dicom.Rows = dicom.Columns = 60_000
    dicom.save_as(folder / "rows.dcm", enforce_file_format=True)
    dicom.Rows = dicom.Columns = 64
    dicom.NumberOfFrames = 2_000_000_000
    dicom.save_as(folder / "frames.dcm", enforce_file_format=True)
    (folder / "deflated.dcm").write_bytes(deflated(1 << 30))
    return sorted(folder.iterdir())


def xray_dataset() -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.1", "1.2.3", "CR"
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.ImagerPixelSpacing, dataset.ViewPosition, dataset.PatientOrientation = ["1", "1"], "PA", ["L", "F"]
    dataset.PixelData = np.arange(4096, dtype="<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return dataset


def deflated(size: int) -> bytes:
    """A deflated DICOM file whose one private element unpacks to `size` bytes."""
    dataset = xray_dataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    buffer = pydicom.filebase.DicomBytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    content = buffer.getvalue()
    start = 144 + struct.unpack("<I", content[140:144])[0]
    pack = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = pack.compress(struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, size))
    for _ in range(size >> 24):
        packed += pack.compress(bytes(1 << 24))
    return content[:start] + packed + pack.flush()


@pytest.mark.slow
def test_bombs_are_refused_from_their_headers(tmp_path):
    """C-05: in little time and memory, measured in a process of its own."""
    code = """
        import resource, sys, time
        from raylift import io
        from raylift.errors import BadInput
        import raylift.io.nifti, raylift.io.itk, raylift.io.dicom_xray, raylift.io.raster, raylift.io.dicom_series
        name = sys.argv[1]
        start, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.time()
        for read, options in ((io.read_ct, {}), (io.read_xray, {"spacing": 1.0}), (io.describe, {})):
            try:
                read(name, **options)
            except BadInput as error:
                print(error)
            else:
                sys.exit("was read")
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024
        print(f"{grown:.0f} MiB, {time.time() - began:.1f} s", file=sys.stderr)
        sys.exit(grown > 200 or time.time() - began > 20)
    """
    for file in bombs(tmp_path):
        assert file.stat().st_size <= 2 << 20
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), file], capture_output=True, text=True)
        assert done.returncode == 0, (file.name, done.stdout, done.stderr)


@pytest.mark.parametrize("depth", [300, 100_000])
def test_sequences_nested_too_deep_are_malformed(depth, tmp_path):
    """C-06."""
    begin = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    buffer = pydicom.filebase.DicomBytesIO()
    dataset = xray_dataset()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    content = buffer.getvalue()
    start = 144 + struct.unpack("<I", content[140:144])[0]
    (tmp_path / "deep.dcm").write_bytes(content[:start] + begin * depth + end * depth + content[start:])
    for read in (io.read_xray, io.read_ct, io.describe, io.patient_of):
        refused(read, tmp_path / "deep.dcm", "malformed DICOM")


@pytest.mark.parametrize("length", [1 << 20, 0xFFFFFFF0])
def test_an_element_longer_than_its_file_is_malformed(length, tmp_path):
    """C-06."""
    buffer = pydicom.filebase.DicomBytesIO()
    pydicom.dcmwrite(buffer, xray_dataset(), enforce_file_format=True)
    content = buffer.getvalue()
    at = content.rindex(b"OW")
    (tmp_path / "a.dcm").write_bytes(content[: at + 4] + struct.pack("<I", length) + content[at + 8 :])
    refused(io.read_xray, tmp_path / "a.dcm")


@pytest.mark.parametrize("magic", [b"MZ", b"\x7fELF"])
def test_a_preamble_is_never_copied(magic, tmp_path):
    """C-07."""
    xray_dataset().save_as(tmp_path / "a.dcm", enforce_file_format=True)
    content = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(magic + content[len(magic) :])
    io.write_xray_dicom(io.read_xray(tmp_path / "a.dcm"), tmp_path / "b.dcm")
    assert (tmp_path / "b.dcm").read_bytes()[:128] == bytes(128)


PYDICOM_FILES = sorted(
    {Path(f) for f in pydicom.data.get_testdata_files() if Path(f).is_file() and "test_files" in str(f)}
    | {Path(f) for f in (Path(pydicom.__file__).parent / "data" / "test_files").rglob("*") if Path(f).is_file()}
)


READ_AS_XRAY = ["6154", "6247", "6278", "JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "image_dfl.dcm"]


def outcome(read, path, **options) -> str:
    """'read', or the first words of the refusal."""
    began = time.time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read(path, **options)
            found = "read"
        except RayliftError as error:
            assert "\n" not in str(error)
            found = "refused"
    assert time.time() - began < 10, path.name
    return found


def test_each_of_pydicoms_files_is_read_or_refused(capfd, caplog):
    """C-01: never a crash, no warning on the screen."""
    found = {}
    for path in PYDICOM_FILES:
        for read, options in ((io.read_xray, {"spacing": 1.0}), (io.read_ct, {}), (io.describe, {})):
            found[path.name, read.__name__] = outcome(read, path, **options)
    assert len(PYDICOM_FILES) > 60
    read = sorted({name for (name, how), what in found.items() if what == "read" and how == "read_xray"})
    if importlib.util.find_spec("gdcm") is None:  # no codec for JPEG-LS
        assert read == [name for name in READ_AS_XRAY if "JPEGLS" not in name]
    else:
        assert read == READ_AS_XRAY
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_of_nibabels_files_only_nifti_is_read():
    """C-02."""
    folder = Path(nib.__file__).parent / "tests" / "data"
    if not folder.is_dir():
        pytest.skip("nibabel came without its test data")
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        if outcome(io.read_ct, path) == "read":
            assert path.name.endswith((".nii", ".nii.gz")) or path.suffix == ".dcm", path.name


@pytest.mark.parametrize("name", ["a\nb.nii", "x" * 300, "a\0b.nii", "-rf", "\u202egnp.dcm", "%2e%2e"])
def test_names_of_any_kind_are_safe_to_show(name, tmp_path):
    """C-21, the part of the messages."""
    for read in (io.read_ct, io.read_xray, io.describe, io.read_geometry):
        with pytest.raises(BadInput, match="no such file") as error:
            read(tmp_path / name)
        assert str(error.value).isprintable() and len(str(error.value)) < 200
