"""DICOM CT series as they lie in folders: mixed, shuffled, feet first, with gaps, copies, tilt and foreign files."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from raylift import geometry, io
from raylift.errors import BadInput, UnsupportedFormat
from raylift.types import Grid, Volume


@pytest.fixture
def series(lopsided, tmp_path):
    """A folder with a series of the lopsided phantom, and its files in order."""
    io.write_ct(lopsided, tmp_path / "ct")
    return sorted((tmp_path / "ct").iterdir())


def change(file, **tags):
    """Rewrites tags of a DICOM file; None removes one."""
    dataset = pydicom.dcmread(file)
    for tag, value in tags.items():
        if value is None:
            delattr(dataset, tag)
        else:
            setattr(dataset, tag, value)
    dataset.save_as(file)


def canonical_hu(path):
    return geometry.canonical(io.read_ct(path)).hu


def test_names_and_numbers_of_slices_do_not_matter(series, lopsided):
    shuffled = np.random.default_rng(0).permutation(len(series))
    for file, k in zip(series, shuffled, strict=True):
        change(file, InstanceNumber=int(k))
        file.rename(file.with_name(f"x{k}"))
    assert np.array_equal(canonical_hu(series[0].parent), lopsided.hu)


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, 1)])
def test_any_orientation_ends_upright(flip, lopsided, tmp_path):
    """Head first, feet first, prone: the affine says it, and canonical order undoes it."""
    affine = lopsided.grid.affine.copy()
    affine[:3, 3] += sum(affine[:3, k] * (n - 1) for k, n in enumerate(lopsided.grid.shape) if flip[k] < 0)
    affine[:3, :3] = affine[:3, :3] * flip
    hu = lopsided.hu[tuple(slice(None, None, f) for f in flip)]
    io.write_ct(Volume(hu=hu, grid=Grid(hu.shape, affine)), tmp_path / "ct")
    back = geometry.canonical(io.read_ct(tmp_path / "ct"))
    assert np.array_equal(back.hu, lopsided.hu) and np.allclose(back.grid.affine, lopsided.grid.affine)


def test_sagittal_and_coronal_series_end_upright(lopsided, tmp_path):
    for order in ((2, 0, 1), (1, 0, 2)):
        affine = lopsided.grid.affine.copy()
        affine[:3, :3] = affine[:3, list(order)]
        hu = lopsided.hu.transpose(order)
        io.write_ct(Volume(hu=hu, grid=Grid(hu.shape, affine)), tmp_path / str(order))
        assert np.array_equal(canonical_hu(tmp_path / str(order)), lopsided.hu)


def test_the_largest_series_is_taken_and_said(series, lopsided, tmp_path, caplog):
    """A scout, another series, a report, a text file and a folder below lie among the slices."""
    folder = series[0].parent
    small = Volume(hu=lopsided.hu[:6], grid=Grid.canonical((6, 20, 28), 4.0))
    io.write_ct(small, tmp_path / "other")
    for file in (tmp_path / "other").iterdir():
        file.rename(folder / f"small-{file.name}")
    scout = pydicom.dcmread(series[0])
    scout.ImageType, scout.SOPInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], generate_uid()
    scout.save_as(folder / "scout.dcm")
    report = pydicom.dcmread(series[0])
    del report.PixelData, report.ImagePositionPatient
    report.Modality, report.SOPInstanceUID = "SR", generate_uid()
    report.save_as(folder / "report.dcm")
    (folder / "readme.txt").write_text("not DICOM")
    with caplog.at_level("WARNING", "raylift.io"):
        assert np.array_equal(canonical_hu(folder), lopsided.hu)
    assert "24 slices" in caplog.text and "others have 6" in caplog.text
    assert [len(v.hu) for v in io.read_cts(folder)] == [24, 6]
    assert "2 series" in io.describe(folder)["notes"][0]


def test_a_gap_is_an_error_that_names_the_files(series):
    series[10].unlink()
    with pytest.raises(BadInput, match=r"gap of 10\.00 mm between slice-\d+\.dcm and slice-\d+\.dcm, 5\.00 mm"):
        io.read_ct(series[0].parent)


def test_mixed_spacing_is_an_error(series):
    for k in range(12, 24):
        position = pydicom.dcmread(series[k]).ImagePositionPatient
        change(series[k], ImagePositionPatient=[position[0], position[1], position[2] - (k - 11) * 1.5])
    with pytest.raises(BadInput, match="resample the series to one spacing"):
        io.read_ct(series[0].parent)


def test_gantry_tilt_is_refused_with_its_angle(series):
    for k, file in enumerate(series):
        position = pydicom.dcmread(file).ImagePositionPatient
        change(file, ImagePositionPatient=[position[0], position[1] + 5 * k * np.tan(np.radians(12)), position[2]])
    with pytest.raises(BadInput, match=r"gantry tilted by 12\.0 degrees"):
        io.read_ct(series[0].parent)


def test_copies_are_dropped_and_different_slices_at_one_place_refused(series, lopsided):
    copy = pydicom.dcmread(series[5])
    copy.SOPInstanceUID = generate_uid()
    copy.save_as(series[0].with_name("copy.dcm"))
    pydicom.dcmread(series[7]).save_as(series[0].with_name("same.dcm"))
    assert np.array_equal(canonical_hu(series[0].parent), lopsided.hu)
    copy.PixelData = np.full((20, 28), 7, "<i2").tobytes()
    copy.save_as(series[0].with_name("copy.dcm"))
    with pytest.raises(BadInput, match="lie at the same place and differ"):
        io.read_ct(series[0].parent)


def test_phases_of_one_series_become_volumes_of_their_own(series):
    for file in series:
        other = pydicom.dcmread(file)
        other.SOPInstanceUID, other.AcquisitionNumber = generate_uid(), 2
        other.PixelData = (other.pixel_array + 10).astype("<i2").tobytes()
        other.save_as(file.with_name(f"b-{file.name}"))
        change(file, AcquisitionNumber=1)
    first, second = io.read_cts(series[0].parent)
    assert np.array_equal(first.hu + 10, second.hu) or np.array_equal(second.hu + 10, first.hu)


def test_padding_and_what_lies_outside_the_scan_circle_become_air(series):
    dataset = pydicom.dcmread(series[3])
    pixels = dataset.pixel_array.copy()
    pixels[0, 0], pixels[0, 1] = -2000, 1234
    dataset.PixelData = pixels.astype("<i2").tobytes()
    dataset.add_new("PixelPaddingValue", "SS", 1234)
    dataset.save_as(series[3])
    plane = io.read_ct(series[0].parent).hu
    assert sorted(plane[plane < -1000].tolist()) == [-1024, -1024]


def test_rescale_with_a_slope_and_unsigned_pixels(series, lopsided):
    for file in series:
        stored = ((pydicom.dcmread(file).pixel_array.astype(int) + 1024) * 2).astype("<u2")
        change(file, PixelData=stored.tobytes(), PixelRepresentation=0, RescaleSlope="0.5", RescaleIntercept="-1024")
    assert np.array_equal(canonical_hu(series[0].parent), lopsided.hu)


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"])
def test_a_slice_without_what_a_volume_needs_is_named(tag, series):
    change(series[4], **{tag: None})
    with pytest.raises(BadInput, match=r"slice-0005\.dcm: "):
        io.read_ct(series[0].parent)


def test_a_capture_of_another_series_does_not_disturb(series, lopsided):
    capture = pydicom.dcmread(series[0])
    del capture.ImagePositionPatient
    capture.SOPInstanceUID, capture.SeriesInstanceUID = generate_uid(), generate_uid()
    capture.save_as(series[0].with_name("capture.dcm"))
    assert np.array_equal(canonical_hu(series[0].parent), lopsided.hu)


def test_a_damaged_slice_is_named(series):
    content = series[4].read_bytes()
    series[4].write_bytes(content[:-100])
    with pytest.raises(BadInput, match=r"slice-0005\.dcm: malformed DICOM .cut off"):
        io.read_ct(series[0].parent)


def test_one_slice_says_that_its_folder_is_wanted(series):
    with pytest.raises(BadInput, match="give the folder of its series"):
        io.read_ct(series[0])


def test_folders_without_a_ct_say_what_they_hold(series, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="empty: holds no CT images; found: no DICOM files"):
        io.read_ct(tmp_path / "empty")
    for file in series:
        change(file, Modality="MR")
    with pytest.raises(BadInput, match=r"found: MR \(24\)"):
        io.read_ct(series[0].parent)
    with pytest.raises(BadInput, match="no such file"):
        io.read_ct(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UnsupportedFormat, match=r"a\.txt: unsupported format for a CT"):
        io.read_ct(tmp_path / "a.txt")


def test_a_multi_frame_file_is_one_volume(series, lopsided, tmp_path):
    many = pydicom.dcmread(series[0])
    slices = [pydicom.dcmread(file) for file in series]
    many.SOPClassUID = many.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    many.NumberOfFrames = len(slices)
    many.PixelData = b"".join(s.PixelData for s in slices)
    many.PerFrameFunctionalGroupsSequence = []
    for s in slices:
        group, place = pydicom.Dataset(), pydicom.Dataset()
        place.ImagePositionPatient = s.ImagePositionPatient
        group.PlanePositionSequence = [place]
        many.PerFrameFunctionalGroupsSequence.append(group)
    shared, measures, plane, values = (pydicom.Dataset() for _ in range(4))
    measures.PixelSpacing, plane.ImageOrientationPatient = many.PixelSpacing, many.ImageOrientationPatient
    values.RescaleSlope, values.RescaleIntercept = "1", "0"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    shared.PixelValueTransformationSequence = [values]
    many.SharedFunctionalGroupsSequence = [shared]
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(many, tag)
    many.save_as(tmp_path / "many.dcm")
    assert np.array_equal(canonical_hu(tmp_path / "many.dcm"), lopsided.hu)
    del many.PerFrameFunctionalGroupsSequence
    many.save_as(tmp_path / "many.dcm")
    with pytest.raises(BadInput, match="24 frames without a place for each"):
        io.read_ct(tmp_path / "many.dcm")


SYNTAXES = [JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless, DeflatedExplicitVRLittleEndian]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_packed_slices_give_the_same_voxels(syntax, series, lopsided):
    """C-10; JPEG lossless and JPEG-LS come through GDCM's encoder, where it is there."""
    for file in series:
        if syntax in (JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless):
            gdcm = pytest.importorskip("gdcm")
            repack(gdcm, file, syntax)
        else:
            dataset = pydicom.dcmread(file)
            if syntax == RLELossless:
                dataset.compress(syntax)
            dataset.file_meta.TransferSyntaxUID = syntax
            dataset.save_as(file)
    assert pydicom.dcmread(series[0]).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(canonical_hu(series[0].parent), lopsided.hu)


def test_big_endian_gives_the_same_voxels(series, lopsided):
    for file in series:
        dataset = pydicom.dcmread(file)
        dataset.PixelData = dataset.pixel_array.astype(">i2").tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        list(dataset.iterall())  # decode all elements before their order of bytes changes
        dataset.set_original_encoding(False, False, "utf-8")
        dataset.save_as(file)
    assert np.array_equal(canonical_hu(series[0].parent), lopsided.hu)


def repack(gdcm, file, syntax):
    """The file coded anew by GDCM."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(file))
    assert reader.Read()
    change_ = gdcm.ImageChangeTransferSyntax()
    kinds = {JPEG2000Lossless: "JPEG2000Lossless", JPEGLosslessSV1: "JPEGLosslessProcess14_1"}
    kind = getattr(gdcm.TransferSyntax, kinds.get(syntax, "JPEGLSLossless"))
    change_.SetTransferSyntax(gdcm.TransferSyntax(kind))
    change_.SetInput(reader.GetImage())
    assert change_.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetFileName(str(file))
    writer.SetImage(change_.GetOutput())
    assert writer.Write()


def test_without_its_codec_a_file_names_the_extra(series, monkeypatch):
    gdcm = pytest.importorskip("gdcm")
    for file in series:
        repack(gdcm, file, JPEGLosslessSV1)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", property(lambda self: False))
    with pytest.raises(BadInput, match=r"JPEG Lossless.*pip install 'raylift\[dicom\]'"):
        io.read_ct(series[0].parent)


def test_files_that_simpleitk_wrote_are_read(lopsided, tmp_path):
    image = sitk.GetImageFromArray(lopsided.hu[::-1])  # to the head
    image.SetSpacing((4.0, 6.0, 5.0))
    image.SetOrigin(lopsided.grid.world((23, 0, 0)).tolist())
    for suffix in ("nii", "nii.gz", "nrrd", "nhdr", "mha", "mhd"):
        for packed in (False, True):
            sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"), useCompression=packed)
            back = geometry.canonical(io.read_ct(tmp_path / f"a.{suffix}"))
            assert np.array_equal(back.hu, lopsided.hu), suffix
            assert np.allclose(back.grid.affine, lopsided.grid.affine, atol=1e-4), suffix


def test_a_patient_is_a_hash_and_never_an_id(series, lopsided, tmp_path):
    for file in series:
        change(file, PatientID="SECRET-4711", PatientName="Doe^Jane")
    found = io.patient_of(series[0].parent)
    assert found == io.patient_of(series[3]) and len(found) == 16 and "4711" not in found
    io.write_ct(lopsided, tmp_path / "a.nii.gz")
    assert io.patient_of(tmp_path / "a.nii.gz") is None
    change(series[0], PatientID="")
    assert io.patient_of(series[0]) is None
