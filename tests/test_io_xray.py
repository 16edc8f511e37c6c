"""X-rays as files hold them: polarity, LUTs, spacing, orientation; and what is no X-ray."""

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from raylift import geometry, io
from raylift.errors import BadInput, UnsupportedFormat
from raylift.types import View

CR, DX, SC = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.7"
XA = "1.2.840.10008.5.1.4.1.1.12.1"


@pytest.fixture
def grey() -> np.ndarray:
    """200 x 160 grey levels of 12 bits, different in every corner, that do not fill their range."""
    rows, columns = np.mgrid[:200, :160]
    return (300 + 9 * rows + 11 * columns + (rows < 40) * (columns < 30) * 200).astype(np.int64)


def save(path, stored, *, bits=12, signed=False, sop=CR, modality="CR", **tags):
    """A DICOM X-ray of the stored levels, with ImagerPixelSpacing unless told otherwise."""
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = sop, generate_uid(), modality
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = (8 if bits == 8 else 16), bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    dataset.ImagerPixelSpacing, dataset.ViewPosition = ["0.5", "0.5"], "PA"
    kind = ("i" if signed else "u") + ("1" if bits == 8 else "2")
    dataset.PixelData = stored.astype(f"<{kind}").tobytes()
    for tag, value in tags.items():
        if value is None:
            delattr(dataset, tag)
        else:
            setattr(dataset, tag, value)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)
    return path


def lut(levels, first=0, bits=16):
    """A sequence with one table that starts at `first`."""
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [len(levels), first, bits])
    item.add_new("LUTData", "OW", np.asarray(levels, "<u2").tobytes())
    return pydicom.Sequence([item])


def normalised(pixels):
    low, high = pixels.min(), pixels.max()
    return (pixels - low) / (high - low)


TWINS = {
    "MONOCHROME1": lambda g: {"stored": 4095 - g, "PhotometricInterpretation": "MONOCHROME1"},
    "MONOCHROME1 INVERSE": lambda g: {
        "stored": 4095 - g,
        "PhotometricInterpretation": "MONOCHROME1",
        "PresentationLUTShape": "INVERSE",
    },
    "MONOCHROME2 INVERSE": lambda g: {"stored": 4095 - g, "PresentationLUTShape": "INVERSE"},
    "negative slope": lambda g: {"stored": 4095 - g, "RescaleSlope": "-1", "RescaleIntercept": "4095"},
    "negative slope, MONOCHROME1": lambda g: {
        "stored": g,
        "RescaleSlope": "-1",
        "RescaleIntercept": "4095",
        "PhotometricInterpretation": "MONOCHROME1",
    },
    "slope and intercept": lambda g: {"stored": g, "RescaleSlope": "2.5", "RescaleIntercept": "-77"},
    "signed": lambda g: {"stored": g - 2048, "signed": True},
    "signed MONOCHROME1": lambda g: {"stored": 2047 - g, "signed": True, "PhotometricInterpretation": "MONOCHROME1"},
    "16 bits": lambda g: {"stored": g * 16, "bits": 16},
    "window": lambda g: {"stored": g, "WindowCenter": "2000", "WindowWidth": "900"},
    "VOI LUT": lambda g: {"stored": g, "VOILUTSequence": lut(np.arange(4096) * 3)},
    "falling VOI LUT": lambda g: {"stored": 4095 - g, "VOILUTSequence": lut(4095 - np.arange(4096))},
    "modality LUT": lambda g: {"stored": 4095 - g, "ModalityLUTSequence": lut(4095 - np.arange(4096))},
    "raw, log, dense low": lambda g: {
        "stored": 4095 - g,
        "PresentationIntentType": "FOR PROCESSING",
        "PixelIntensityRelationship": "LOG",
        "PixelIntensityRelationshipSign": 1,
    },
    "raw, log, dense high, stored downwards": lambda g: {
        "stored": 4095 - g,
        "PresentationIntentType": "FOR PROCESSING",
        "PixelIntensityRelationship": "LOG",
        "PixelIntensityRelationshipSign": 1,
        "RescaleSlope": "-1",
        "RescaleIntercept": "4095",
    },
    "fluoroscopy, log": lambda g: {
        "stored": 4095 - g,
        "sop": XA,
        "modality": "XA",
        "PixelIntensityRelationship": "LOG",
    },
}


@pytest.mark.parametrize("twin", TWINS)
def test_every_way_to_store_it_gives_the_same_picture(twin, grey, tmp_path):
    """C-08, C-09: within one level of the file."""
    plain = io.read_xray(save(tmp_path / "plain.dcm", grey))
    assert np.array_equal(plain.pixels, grey) and plain.values == "unknown"
    found = io.read_xray(save(tmp_path / "twin.dcm", **TWINS[twin](grey)))
    assert found.values == "unknown"
    assert np.abs(normalised(found.pixels) - normalised(plain.pixels)).max() <= 1 / np.ptp(grey)
    if "raw" not in twin and "log" not in twin and "slope" not in twin and "LUT" not in twin and "16" not in twin:
        assert abs(np.ptp(found.pixels) - np.ptp(grey)) < 1e-3


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_any_depth(bits, photometric, grey, tmp_path):
    top = 2**bits - 1
    levels = np.round(normalised(grey) * top * 0.9).astype(int)
    stored = top - levels if photometric == "MONOCHROME1" else levels
    found = io.read_xray(save(tmp_path / "a.dcm", stored, bits=bits, PhotometricInterpretation=photometric))
    assert np.array_equal(found.pixels, levels)


def test_raw_linear_pixels_are_intensity(grey, tmp_path):
    raw = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationship": "LIN"}
    found = io.read_xray(save(tmp_path / "a.dcm", grey, PixelIntensityRelationshipSign=1, **raw))
    assert found.values == "intensity" and np.array_equal(found.pixels, grey)
    found = io.read_xray(save(tmp_path / "b.dcm", 4095 - grey, PixelIntensityRelationshipSign=-1, **raw))
    assert found.values == "intensity" and np.array_equal(found.pixels, grey) and "brightest" in found.notes[0]


def test_a_sign_against_the_display_is_noted(grey, tmp_path):
    found = io.read_xray(save(tmp_path / "a.dcm", grey, PixelIntensityRelationshipSign=1))
    assert np.array_equal(found.pixels, grey) and any("contradicts" in note for note in found.notes)


STORED = {  # PatientOrientation -> from the picture as it hangs to the picture as stored
    ("L", "F"): lambda p: p,
    ("R", "F"): np.fliplr,
    ("L", "H"): np.flipud,
    ("R", "H"): lambda p: p[::-1, ::-1],
    ("F", "L"): lambda p: p.T,
    ("F", "R"): lambda p: p.T[:, :][::-1],
    ("H", "L"): lambda p: p.T[:, ::-1],
    ("LF", "FR"): lambda p: p,
}


@pytest.mark.parametrize("letters", STORED, ids="-".join)
@pytest.mark.parametrize("axis", ["frontal", "lateral"])
def test_patient_orientation_turns_the_picture_upright(letters, axis, grey, tmp_path):
    stored, view = STORED[letters](grey), "PA"
    if axis == "lateral":
        letters, view = tuple(x.replace("L", "P").replace("R", "A") for x in letters), "LL"
    spacing = ["0.5", "0.25"] if stored.shape == grey.shape else ["0.25", "0.5"]
    file = save(
        tmp_path / "a.dcm", stored, PatientOrientation=list(letters), ViewPosition=view, ImagerPixelSpacing=spacing
    )
    found = io.read_xray(file)
    assert np.array_equal(found.pixels, grey) and found.pixel_mm == (0.5, 0.25) and not found.notes
    assert found.view == {"PA": View.PA, "LL": View.LAT}[view]


def test_a_lateral_without_orientation_is_guessed_or_told(grey, tmp_path):
    file = save(tmp_path / "a.dcm", grey, ViewPosition="LL")
    guess = io.read_xray(file)
    assert np.array_equal(guess.pixels, grey) and any("--lateral-faces" in note for note in guess.notes)
    told = io.read_xray(file, lateral_faces="right")
    assert np.array_equal(told.pixels, grey[:, ::-1]) and not told.notes
    stated = save(tmp_path / "b.dcm", grey, ViewPosition="LL", PatientOrientation=["P", "F"])
    assert np.array_equal(io.read_xray(stated, lateral_faces="right").pixels, grey)  # the tag decides
    with pytest.raises(BadInput, match="left or right"):
        io.read_xray(file, lateral_faces="up")


def test_an_orientation_that_does_not_fit_is_not_used(grey, tmp_path):
    file = save(tmp_path / "a.dcm", grey, PatientOrientation=["R", "F"])
    found = io.read_xray(file, view=View.LAT, lateral_faces="left")
    assert np.array_equal(found.pixels, grey)
    assert any("says it is PA" in note for note in found.notes)
    assert any("PatientOrientation does not fit" in note for note in found.notes)


def test_the_view_comes_from_its_code_where_its_position_is_missing(grey, tmp_path):
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "R-10232", "SRT", "right lateral"
    file = save(tmp_path / "a.dcm", grey, ViewPosition="", ViewCodeSequence=[code])
    assert io.read_xray(file).view == View.RLAT


def spaced(path, grey, **tags):
    return save(path, grey, ImagerPixelSpacing=None, **tags)


def test_spacing_is_that_of_the_panel(grey, tmp_path):
    """C-15."""
    both = save(tmp_path / "a.dcm", grey, PixelSpacing=["0.4", "0.4"])
    assert io.read_xray(both).pixel_mm == (0.5, 0.5)
    only = io.read_xray(spaced(tmp_path / "b.dcm", grey, PixelSpacing=["0.4", "0.4"]))
    assert only.pixel_mm == (0.4, 0.4) and any("ImagerPixelSpacing is missing" in note for note in only.notes)
    calibrated = spaced(
        tmp_path / "c.dcm",
        grey,
        PixelSpacing=["0.4", "0.4"],
        PixelSpacingCalibrationType="GEOMETRY",
        EstimatedRadiographicMagnificationFactor="1.25",
    )
    assert io.read_xray(calibrated).pixel_mm == (0.5, 0.5)
    none = spaced(tmp_path / "d.dcm", grey)
    with pytest.raises(BadInput, match=r"d\.dcm: .*--spacing"):
        io.read_xray(none)
    assert io.read_xray(none, spacing=0.2).pixel_mm == (0.2, 0.2)
    assert io.describe(none)["spacing_mm"] is None


@pytest.mark.parametrize("value", [["0", "0"], ["1000", "1000"], ["-1", "-1"], ["1e-9", "1e-9"], ["0.2"]])
def test_absurd_spacings_are_refused(value, grey, tmp_path):
    with pytest.raises(BadInput, match="--spacing"):
        io.read_xray(save(tmp_path / "a.dcm", grey, ImagerPixelSpacing=value))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1000.0, (0.1, float("nan"))])
def test_absurd_spacings_by_hand_are_refused(value, grey, tmp_path):
    with pytest.raises(BadInput, match="absurd"):
        io.read_xray(save(tmp_path / "a.dcm", grey), spacing=value)


def test_a_third_party_beam_comes_from_distance_and_magnification(grey, tmp_path):
    tags = {"DistanceSourceToDetector": "1800", "EstimatedRadiographicMagnificationFactor": "1.2"}
    found = io.read_xray(save(tmp_path / "a.dcm", grey, **tags))
    wanted = geometry.cone_beam(
        View.PA, source_to_detector_mm=1800, source_to_axis_mm=1500, detector_mm=(100, 80), pixels=(200, 160)
    )
    assert found.beam == wanted and found.isocentre_mm is None and any("LPS 0" in note for note in found.notes)
    wrong = save(tmp_path / "b.dcm", grey, PositionerPrimaryAngle="90", **tags)
    assert io.read_xray(wrong).beam == wanted and any("angles" in note for note in io.read_xray(wrong).notes)
    turned = save(tmp_path / "c.dcm", grey, PositionerPrimaryAngle="10", **tags)
    assert io.read_xray(turned).beam.source_mm[0] == pytest.approx(-1500 * np.sin(np.radians(10)))
    patient = save(tmp_path / "d.dcm", grey, DistanceSourceToDetector="1800", DistanceSourceToPatient="1600")
    assert io.read_xray(patient).beam is None  # there it is the table or the panel's cover


REFUSED = {
    r"12 frames": lambda p, g: save(p, np.tile(g, (12, 1, 1)), NumberOfFrames=12, sop=XA, modality="XA"),
    r"in colour \(RGB\)": lambda p, g: save(
        p, np.repeat(g // 16, 3, 0).reshape(3, *g.shape), bits=8, SamplesPerPixel=3, PlanarConfiguration=1,
        PhotometricInterpretation="RGB", sop=SC,
    ),
    r"in colour \(PALETTE": lambda p, g: save(p, g, PhotometricInterpretation="PALETTE COLOR"),
    r"CT slice": lambda p, g: save(p, g, modality="CT", sop="1.2.840.10008.5.1.4.1.1.2"),
    r"modality is MR": lambda p, g: save(p, g, modality="MR"),
    r"modality is not stated": lambda p, g: save(p, g, modality=""),
    r"same value": lambda p, g: save(p, np.full_like(g, 7)),
    r"without a picture": lambda p, g: save(p, g, Rows=0),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_no_xray_is_refused_with_its_reason(reason, grey, tmp_path):
    """C-11."""
    file = REFUSED[reason](tmp_path / "a.dcm", grey)
    with pytest.raises(BadInput, match=rf"^a\.dcm: .*{reason}"):
        io.read_xray(file, spacing=0.5)


def test_packed_xrays_are_the_same(grey, tmp_path):
    file = save(tmp_path / "a.dcm", grey)
    dataset = pydicom.dcmread(file)
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "b.dcm")
    assert np.array_equal(io.read_xray(tmp_path / "b.dcm").pixels, grey)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_pictures_of_8_bits(suffix, grey, tmp_path):
    levels = np.round(normalised(grey) * 255).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / f"a.{suffix}")
    found = io.read_xray(tmp_path / f"a.{suffix}", spacing=(0.5, 0.4), view="PA")
    assert np.abs(found.pixels - levels).mean() < 1 and found.pixel_mm == (0.5, 0.4)
    with pytest.raises(BadInput, match="--spacing"):
        io.read_xray(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pictures_of_16_bits(suffix, grey, tmp_path):
    Image.fromarray((grey * 15).astype(np.uint16)).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(io.read_xray(tmp_path / f"a.{suffix}", spacing=0.5).pixels, grey * 15)


def test_pictures_that_are_no_xray(grey, tmp_path):
    levels = np.round(normalised(grey) * 255).astype(np.uint8)
    same = np.stack([levels] * 3, -1)
    Image.fromarray(same).save(tmp_path / "same.png")  # grey, saved as colour
    assert np.array_equal(io.read_xray(tmp_path / "same.png", spacing=1).pixels, levels)
    same[..., 0] = 255 - levels
    Image.fromarray(same).save(tmp_path / "photo.png")
    Image.fromarray(np.full((50, 50), np.nan, np.float32)).save(tmp_path / "nan.tif")
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(tmp_path / "flat.png")
    frames = [Image.fromarray(levels), Image.fromarray(levels)]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "a.bmp").write_bytes(b"BM")
    np.save(tmp_path / "object.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    np.save(tmp_path / "cube.npy", np.zeros((3, 3, 3)))
    reasons = {
        "photo.png": "in colour", "nan.tif": "not finite", "flat.png": "same value", "two.tif": "2 pictures",
        "empty.png": "not a PNG", "a.bmp": "unsupported format", "object.npy": "plain array", "cube.npy": "rows",
    }  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(BadInput, match=f"^{name}: .*{reason}"):
            io.read_xray(tmp_path / name, spacing=1)
    with pytest.raises(UnsupportedFormat):
        io.read_xray(tmp_path / "a.bmp", spacing=1)


def test_a_volume_or_a_folder_is_no_xray(lopsided, tmp_path):
    io.write_ct(lopsided, tmp_path / "a.nii.gz")
    for path, reason in ((tmp_path / "a.nii.gz", "volume, not an X-ray"), (tmp_path, "a folder")):
        with pytest.raises(BadInput, match=reason):
            io.read_xray(path)


def test_nothing_of_the_patient_leaves(grey, tmp_path, caplog, capfd):
    """C-19, the part of reading and writing: no tag's text in messages, notes, listings or outputs."""
    secrets = {
        "PatientName": "Geheim^Anna",
        "PatientID": "ID4711",
        "AccessionNumber": "ACC99",
        "InstitutionName": "St. Elsewhere",
        "PatientComments": "tall",
        "OperatorsName": "Op^Erator",
        "StudyID": "ST77",
        "PatientBirthDate": "19500102",
        "StudyDescription": "thorax-for-anna",
        "ReferringPhysicianName": "Dr^Who",
        "StudyDate": "20010203",
    }
    tags = dict(secrets, DistanceSourceToDetector="1800", EstimatedRadiographicMagnificationFactor="1.2")
    found = io.read_xray(save(tmp_path / "a.dcm", grey, **tags))
    io.write_xray_dicom(found, tmp_path / "out.dcm")
    io.write_xray_png(found, tmp_path / "out.png")
    io.write_geometry(tmp_path / "out.json", [found])
    told = repr(found) + str(io.describe(tmp_path / "a.dcm"))
    for k, broken in enumerate([{"Rows": 9999}, {"RescaleSlope": "7.5"}, {"ImagerPixelSpacing": ["0", "0"]}]):
        file = save(tmp_path / f"{k}.dcm", grey, **{**tags, **broken})
        file.write_bytes(file.read_bytes().replace(b"7.5 ", b"1x^ "))
        with pytest.raises(BadInput) as error:
            io.read_xray(file)
        told += str(error.value)
    told += caplog.text + "".join(capfd.readouterr())
    told = told.encode() + b"".join((tmp_path / f"out.{s}").read_bytes() for s in ("dcm", "png", "json"))
    for secret in (*secrets.values(), "Geheim", "Anna"):
        assert secret.encode() not in told, secret
