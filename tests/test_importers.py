"""The layouts that data sets are published in, each built in the small with the faults that real ones have: a scout, a
scan that is there twice, one that was scanned feet first, one with slices missing. A reader that does not notice fails.
"""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from scipy import ndimage

from raylift import geometry, io
from raylift.data.importers import LAYOUTS, look
from raylift.data.prepare import find, prepare, profiles
from raylift.data.store import open_dataset
from raylift.errors import BadInput, UnsupportedFormat
from raylift.types import Grid, Volume

SMALL = replace(
    profiles.CHEST,
    name="small",
    size=16,
    spacing=20.0,
    pixels=16,
    source_spacing=8.0,
    thickest_mm=20.0,
    keep_source=False,
)  # steps as for a chest, in few voxels


@pytest.fixture(autouse=True)
def small_profile(monkeypatch):
    monkeypatch.setitem(profiles.PROFILES, "small", SMALL)


def body(seed: int) -> Volume:
    """A block of flesh that changes slowly, with noise and a marker, 360 mm long, canonical; no two seeds are alike."""
    lots = np.random.default_rng(seed)
    grid = Grid.canonical((48, 40, 50), (7.5, 6.0, 6.0), (10.0, -20.0, 30.0 * seed))
    slow = ndimage.gaussian_filter(lots.normal(size=grid.shape), 4)
    hu = np.full(grid.shape, -1000.0)
    hu[:, 8:32, 8:42] = (30 + 80 * slow / slow.std() + lots.normal(0, 5, grid.shape))[:, 8:32, 8:42]
    hu[3:8, 9:13, 9:13] = 1500
    return Volume(hu=hu.astype(np.int16), grid=grid, source=f"body {seed}")


def from_the_feet(volume: Volume) -> Volume:
    """The same body in a file whose slices run from the feet to the head."""
    affine = volume.grid.affine.copy()
    affine[:3, 3] = volume.grid.world((len(volume.hu) - 1, 0, 0))
    affine[:3, 0] *= -1
    return Volume(hu=np.ascontiguousarray(volume.hu[::-1]), grid=Grid(volume.hu.shape, affine))


def with_a_gap(volume: Volume) -> Volume:
    """The same body without six planes in its middle, and no word about it."""
    hu = np.delete(volume.hu, slice(18, 24), 0)
    return Volume(hu=hu, grid=Grid.canonical(hu.shape, volume.grid.spacing_mm))


def scout() -> Volume:
    """A localiser as converters write it: three planes."""
    hu = np.random.default_rng(9).normal(0, 300, (3, 64, 64)).astype(np.int16)
    return Volume(hu=hu, grid=Grid.canonical(hu.shape, 5.0))


def labels(volume: Volume) -> Volume:
    """A label map of the body."""
    return replace(volume, hu=(volume.hu > 1000).astype(np.int16))


def write(volume: Volume, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return io.write_ct(volume, path)


def series(volume: Volume, folder: Path, patient: str, posture: str = "HFS") -> Path:
    """A DICOM series in `folder`, of that patient."""
    write(volume, folder)
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.PatientID, dataset.PatientPosition = patient, posture
        dataset.save_as(file)
    return folder


def dicom_of(folder: Path, modality: str, kind: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")) -> None:
    """One more DICOM file in `folder`: another modality, or a CT of another kind."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = pydicom.dcmread(next(folder.parent.rglob("slice-0001.dcm")))
    dataset.Modality, dataset.ImageType, dataset.SOPInstanceUID = modality, list(kind), generate_uid()
    dataset.save_as(folder / f"{modality}-{kind[-1]}.dcm")


def tcia(folder: Path) -> None:
    """Three patients; a scout among the slices, a report, a segmentation, a feet-first series, a gap, a missing one."""
    series(body(1), folder / "LIDC" / "P1" / "study" / "ct", "P1")
    dicom_of(folder / "LIDC" / "P1" / "study" / "ct", "CT", ("ORIGINAL", "PRIMARY", "LOCALIZER"))
    dicom_of(folder / "LIDC" / "P1" / "study" / "report", "SR")
    series(from_the_feet(body(2)), folder / "LIDC" / "P2" / "study" / "ct", "P2", "FFS")
    series(body(1), folder / "LIDC" / "P3" / "study" / "again", "P3")
    (series(body(3), folder / "LIDC" / "P4" / "study" / "ct", "P4") / "slice-0020.dcm").unlink()
    rows = [("LIDC\\P1\\study\\ct", "CT"), ("LIDC\\P1\\study\\report", "SR"), ("LIDC/P2/study/ct", "CT")]
    rows += [(".\\LIDC\\P3\\study\\again", "CT"), ("./LIDC/P4/study/ct", "CT"), ("LIDC/P5/study/ct", "CT")]
    with open(folder / "metadata.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("Series UID", "Collection", "Subject ID", "Study UID", "Modality", "File Location"))
        table.writerows(("1.2.3", "LIDC-IDRI", "P", "1.2", modality, place) for place, modality in rows)


def bids(folder: Path) -> None:
    raw, made = folder / "rawdata", folder / "derivatives"
    write(body(1), raw / "sub-verse004" / "sub-verse004_ct.nii.gz")
    write(labels(body(1)), made / "sub-verse004" / "sub-verse004_seg-vert_msk.nii.gz")
    write(from_the_feet(body(2)), raw / "sub-verse409" / "sub-verse409_split-verse266_ct.nii.gz")
    write(body(1), raw / "sub-verse410" / "sub-verse410_dir-ax_ct.nii.gz")
    write(with_a_gap(body(3)), raw / "sub-verse411" / "sub-verse411_ct.nii.gz")
    write(scout(), raw / "sub-verse412" / "sub-verse412_ct.nii.gz")
    (raw / "sub-verse004" / "._sub-verse004_ct.nii.gz").write_bytes(b"a Mac's")


def flat(folder: Path, names=("one.nii.gz", "two.mha", "again.nrrd", "gap.nii", "scout.nii.gz")) -> None:
    volumes = (body(1), from_the_feet(body(2)), body(1), with_a_gap(body(3)), scout())
    for name, volume in zip(names, volumes, strict=True):
        write(volume, folder / name)


def ctspine1k(folder: Path) -> None:
    flat(folder / "data" / "colon", [f"{n}.nii.gz" for n in ("one", "two", "again", "gap", "scout")])
    write(labels(body(1)), folder / "label" / "colon" / "one_seg.nii.gz")


def decathlon(folder: Path) -> None:
    flat(folder / "imagesTr", [f"lung_{n}.nii.gz" for n in ("one", "two", "again", "gap", "scout")])
    write(labels(body(1)), folder / "labelsTr" / "lung_one.nii.gz")
    named = [
        {"image": f"./imagesTr/{p.name}", "label": f"./labelsTr/{p.name}"} for p in (folder / "imagesTr").iterdir()
    ]
    table = {"modality": {"0": "CT"}, "training": named, "test": ["./imagesTs/lung_lost.nii.gz"]}
    (folder / "dataset.json").write_text(json.dumps(table))


def x2ct(folder: Path) -> None:
    h5py = pytest.importorskip("h5py")
    volumes = {"LIDC-IDRI-0001.20000101.1.1": body(1), "LIDC-IDRI-0002.20000101.2.1": body(2)}
    volumes |= {"LIDC-IDRI-0003.20000101.3.1": body(1), "LIDC-IDRI-0004.20000101.4.1": with_a_gap(body(3))}
    volumes |= {"LIDC-IDRI-0005.20000101.5.1": scout()}
    for name, volume in volumes.items():
        (folder / name).mkdir(parents=True)
        with h5py.File(folder / name / "ct_xray_data.h5", "w") as file:
            file["ct"] = (volume.hu[::-1].astype(np.int32) + 1024).clip(0).astype(np.uint16)
            file["spacing"] = volume.grid.spacing_mm[::-1]
            file["xray1"] = np.zeros((8, 8), np.uint8)


def xrayto3d(folder: Path) -> None:
    volumes = (body(1), from_the_feet(body(2)), body(1), with_a_gap(body(3)), scout())
    lines = [",ap,lat,seg"]
    for k, volume in enumerate(volumes):
        subject, name = f"sub-verse{k}", f"sub-verse{k}_vert-16"
        write(volume, folder / "subjectwise" / subject / "derivatives" / "ct_roi" / f"{name}_ct.nii.gz")
        seg = f"subjectwise/{subject}/derivatives/seg_roi/{name}-seg-vert_msk.nii.gz"
        write(labels(volume), folder / seg)
        lines.append(f"{k},/mnt/x/{name}_ap.png,/mnt/x/{name}_lat.png,/mnt/data/{seg}")
    lines.append("9,a.png,b.png,/mnt/data/subjectwise/sub-lost/derivatives/seg_roi/lost-seg-vert_msk.nii.gz")
    (folder / "train.csv").write_text("\n".join(lines))


BUILDERS = {
    "TCIA download": tcia,
    "Medical Segmentation Decathlon": decathlon,
    "BIDS (VerSe)": bids,
    "CTSpine1K": ctspine1k,
    "X2CT-GAN HDF5": x2ct,
    "xrayto3D list": xrayto3d,
    "none": flat,
}


@pytest.mark.parametrize("layout", BUILDERS)
def test_a_layout_is_known_by_looking_and_by_one_importer_only(layout, tmp_path):
    BUILDERS[layout](tmp_path)
    assert [name for name, module in LAYOUTS.items() if module.recognises(tmp_path)] == [layout][: layout != "none"]
    (tmp_path / "above").mkdir()
    below = find.find_sources([tmp_path])
    assert len({source.id for source in below}) == len(below) == (4 if layout == "TCIA download" else 5)


@pytest.mark.parametrize("layout", BUILDERS)
def test_scout_copy_feet_first_and_gap_are_noticed(layout, tmp_path):
    BUILDERS[layout](tmp_path / "in")
    report = prepare(tmp_path / "in", tmp_path / "out", profile="small")
    assert len(report.prepared) == 3 and not report.failed, report
    reasons = " | ".join(reason for _, reason in report.rejected)
    assert ("a gap of" if layout == "TCIA download" else "slices are missing between number 18 and 19") in reasons
    notes = " | ".join(note for _, note in report.noted)
    if layout == "TCIA download":
        assert "1 file: CT scout" in notes and "scanned feet first (FFS)" in notes
        assert "a series of modality SR, not a CT" in notes and "names this CT series, but its folder" in notes
    else:
        assert "3 x 64 x 64 voxels: a localiser" in reasons
    assert "the same voxels as" in notes
    dataset = open_dataset(tmp_path / "out")
    told = json.loads((tmp_path / "out" / "dataset.json").read_text())["sources"]
    twins = [case for case in told if list(told.values()).count(told[case]) == 2]
    assert len(twins) == 2
    assert any(set(twins) <= set(cases) for cases in dataset.splits.values())
    for case in dataset.patients:  # upright, whatever the order of the slices
        d, h, w = np.unravel_index(np.argmax(dataset.case(case).ct()), (16, 16, 16))
        assert d < 6 and h < 8 and w < 8, case


@pytest.mark.parametrize("layout", ["BIDS (VerSe)", "CTSpine1K", "Medical Segmentation Decathlon", "xrayto3D list"])
def test_a_label_map_goes_with_its_ct(layout, tmp_path):
    BUILDERS[layout](tmp_path)
    found = {source.path: source.labels for source in look(tmp_path).sources}
    first = next(path for path in sorted(found) if "again" not in path.name and found[path] is not None)
    assert np.array_equal(io.read_ct(found[first]).hu == 1, io.read_ct(first).hu > 1000)
    assert not set(found) & set(found.values())


def test_a_subject_is_a_patient_and_an_archive_tells_whose_a_scan_is(tmp_path):
    bids(tmp_path / "bids")
    found = {source.id: source.patient for source in find.find_sources([tmp_path / "bids"])}
    assert found["sub-verse409-split-verse266"] == "sub-verse409"
    x2ct(tmp_path / "x2ct")
    assert {source.patient for source in look(tmp_path / "x2ct").sources} == {f"LIDC-IDRI-000{k}" for k in range(1, 6)}


def test_layouts_may_lie_below_one_folder(tmp_path):
    bids(tmp_path / "a" / "training")
    decathlon(tmp_path / "b" / "Task06_Lung")
    flat(tmp_path / "c")
    assert len(look(tmp_path).sources) == 15


def test_a_label_map_beside_a_lone_ct_is_its_own(tmp_path):
    write(body(1), tmp_path / "ct.nii.gz")
    write(labels(body(1)), tmp_path / "mask.nii.gz")
    write(labels(body(1)), tmp_path / "spine_vertebrae.nii.gz")
    write(scout(), tmp_path / "vertebrae_other_grid.nii.gz")
    found = {source.path.name: source.labels for source in look(tmp_path).sources}
    assert found["ct.nii.gz"].name == "spine_vertebrae.nii.gz"
    assert set(found) == {"ct.nii.gz", "mask.nii.gz", "vertebrae_other_grid.nii.gz"}  # what is left over is told


def test_a_source_and_its_label_map_are_found_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "cts").mkdir()
    write(body(1), tmp_path / "cts" / "ct.nii.gz")
    write(labels(body(1)), tmp_path / "cts" / "labels.nii.gz")
    monkeypatch.chdir(tmp_path)
    (source,) = find.find_sources(["cts"])
    assert all(file.is_absolute() and file.is_file() for file in source.files) and len(source.files) == 2


def test_an_image_of_another_modality_is_not_taken(tmp_path):
    decathlon(tmp_path)
    table = json.loads((tmp_path / "dataset.json").read_text()) | {"modality": {"0": "MRI"}}
    (tmp_path / "dataset.json").write_text(json.dumps(table))
    assert "of modality MRI, not CT" in look(tmp_path).others[0][1]
    with pytest.raises(BadInput, match="no DICOM folder"):
        find.find_sources([tmp_path])


def test_a_table_that_names_files_outside_its_folder_is_not_followed(tmp_path):
    write(body(1), tmp_path / "secret.nii.gz")
    (tmp_path / "set" / "imagesTr").mkdir(parents=True)
    table = {"modality": {"0": "CT"}, "training": [{"image": "../secret.nii.gz"}]}
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(table))
    assert not look(tmp_path / "set").sources


def test_hdf5_values_and_places(tmp_path):
    x2ct(tmp_path)
    back = geometry.canonical(io.read_ct(next(tmp_path.glob("LIDC-IDRI-0001.*/*.h5"))))
    assert np.array_equal(back.hu, body(1).hu.clip(-1024)) and back.grid.spacing_mm == body(1).grid.spacing_mm


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    x2ct(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(UnsupportedFormat, match=r"pip install 'raylift\[h5\]'"):
        io.read_ct(next(tmp_path.glob("LIDC-IDRI-0001.*/*.h5")))


def test_a_damaged_hdf5_is_told(tmp_path):
    (tmp_path / "ct_xray_data.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 100)
    with pytest.raises(BadInput, match="damaged, cut off, or no HDF5"):
        io.read_ct(tmp_path / "ct_xray_data.h5")


@pytest.mark.real
def test_real_folders_are_found(real):
    found = {source.id: source for source in find.find_sources([real / "ct"])}
    assert {"lidc-idri-0001", "lung-dx-a0001", "cmb-crc-01068"} <= set(found)
    assert found["lidc-idri-0001"].labels.name == "mask.nii.gz"
    abdomen = next(source for source in found.values() if source.path.name == "example_ct.nii.gz")
    assert abdomen.labels.name == "spine_totalseg_vertebrae.nii.gz"
