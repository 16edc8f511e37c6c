"""Opening DICOM files: what is malformed, too large or of no known coding becomes one line, and no tag's text leaks."""

import hashlib
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from raylift.errors import BadInput, UnsupportedFormat
from raylift.io.files import MAX_PIXELS, shown

MAX_INFLATED = 1 << 28  # ours: a deflated file larger than 256 MiB is refused before it is unpacked
MANUFACTURER = "raylift"
UNDEFINED = 0xFFFFFFFF  # a length that ends where a mark says so

# what pydicom and its codecs raise on broken files, gathered from its own damaged test files
MALFORMED = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    OSError,
    ValueError,  # UnicodeDecodeError too
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    RuntimeError,  # RecursionError is one of them: sequences nested too deep
    struct.error,
    zlib.error,
    MemoryError,
    OverflowError,
    AssertionError,
)

logging.getLogger("pydicom").addHandler(logging.NullHandler())


@contextmanager
def quietly() -> Iterator[None]:
    """pydicom's warnings and log lines stay off the screen: they quote tags, and a tag may name a patient."""
    log = logging.getLogger("pydicom")
    level, log.propagate = log.level, False
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.propagate = True
        log.setLevel(level)


def is_dicom(path: Path) -> bool:
    """True where the file says DICM at its 128th byte."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def open_dicom(path: Path, *, pixels: bool = True, tags: list[str] | None = None) -> pydicom.Dataset:
    """The file's data set; with `pixels` false it ends before them, with `tags` it holds only these."""
    name = shown(path)
    if not is_dicom(path):
        raise UnsupportedFormat(f"{name}: not a DICOM file (no DICM at byte 128)")
    _check_inflated(path)
    try:
        with quietly():
            return _decoded(pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=tags))
    except RecursionError:
        raise BadInput(f"{name}: malformed DICOM (sequences nested too deep)") from None
    except EOFError:
        raise BadInput(f"{name}: malformed DICOM (cut off, or an element longer than the file)") from None
    except MALFORMED as error:
        raise BadInput(f"{name}: malformed DICOM ({type(error).__name__} while reading it)") from None


def _decoded(dataset: pydicom.Dataset) -> pydicom.Dataset:
    """The data set with all its elements parsed but the pixels', so that nothing fails later."""
    for tag in list(dataset.keys()):
        held = dataset.get_item(tag)
        if isinstance(held, RawDataElement) and held.length != UNDEFINED and len(held.value or b"") < held.length:
            raise EOFError  # it says that it is longer than the file
        if tag.group < 0x7FE0 and (not tag.is_private or tag.group == 0x0071):
            try:
                dataset[tag]
            except RecursionError:
                raise
            except MALFORMED:  # one element that cannot be read counts as absent, unless the picture hangs on it
                if tag.group == 0x0028:
                    raise
                del dataset[tag]
    return dataset


def _check_inflated(path: Path) -> None:
    """Refuses a deflated file that would fill the memory, by unpacking it in pieces that are thrown away."""
    try:
        with quietly():
            meta = pydicom.filereader.read_file_meta_info(path)
            if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
                return
            start = 132 + 12 + int(meta.get("FileMetaInformationGroupLength", 0))
        inflate, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        with open(path, "rb") as file:
            file.seek(start)
            piece = file.read(1 << 16)
            while piece and not inflate.eof:
                total += len(inflate.decompress(piece, 1 << 20))
                piece = inflate.unconsumed_tail or file.read(1 << 16)
                if total > MAX_INFLATED:
                    raise BadInput(f"{shown(path)}: unpacks to more than {MAX_INFLATED >> 20} MiB")
    except MALFORMED as error:
        raise BadInput(f"{shown(path)}: malformed DICOM ({type(error).__name__} in its header)") from None


def stored_pixels(dataset: pydicom.Dataset, name: str) -> np.ndarray:
    """The stored values as integers, as they are in the file: no rescaling, no inversion, no colour."""
    rows, columns = (number(dataset, tag) for tag in ("Rows", "Columns"))
    frames = number(dataset, "NumberOfFrames") or 1
    if "PixelData" not in dataset or not rows or not columns:
        raise BadInput(f"{name}: a DICOM file without a picture in it")
    if rows * columns * frames > MAX_PIXELS * (1 if frames == 1 else 8):
        raise BadInput(f"{name}: declares {rows:.0f} x {columns:.0f} x {frames:.0f} pixels, more than can be read")
    if (number(dataset, "BitsAllocated") or 0) not in (8, 16, 32):
        raise BadInput(f"{name}: pixels of {dataset.get('BitsAllocated', 'no')} bits are not read")
    try:
        with quietly():
            syntax = UID(getattr(dataset.file_meta, "TransferSyntaxUID", "") or "")
            if syntax.is_compressed and not pydicom.pixels.get_decoder(syntax).is_available:
                raise BadInput(f"{name}: coded as {syntax.name}; install its codec: pip install 'raylift[dicom]'")
            return np.asarray(dataset.pixel_array)
    except MALFORMED as error:
        raise BadInput(f"{name}: its picture is damaged, cut off or coded in an unknown way{_why(error)}") from None


def _why(error: BaseException) -> str:
    return f" ({type(error).__name__})"


def number(dataset: pydicom.Dataset, tag: str) -> float | None:
    """The tag as a finite number, or None where it is missing, empty or no number."""
    values = numbers(dataset, tag)
    return values[0] if values else None


def numbers(dataset: pydicom.Dataset, tag: str) -> tuple[float, ...]:
    """The tag's values as finite numbers; none where one of them is not."""
    value = dataset.get(tag)
    parts = value if isinstance(value, MultiValue | list | tuple) else [] if value in (None, "") else [value]
    try:
        found = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        return ()
    return found if np.isfinite(found).all() else ()


def text(dataset: pydicom.Dataset, tag: str) -> str:
    """The tag as upper-case text, '' where it is missing; several values are joined by a backslash."""
    value = dataset.get(tag)
    parts = value if isinstance(value, MultiValue | list | tuple) else [] if value is None else [value]
    return "\\".join(str(part).strip() for part in parts).upper()


def patient_hash(dataset: pydicom.Dataset) -> str | None:
    """16 hex digits that stand for the patient's id, the same in each file of one patient; None without an id."""
    patient, issuer = text(dataset, "PatientID"), text(dataset, "IssuerOfPatientID")
    return hashlib.sha256(f"{issuer}\n{patient}".encode()).hexdigest()[:16] if patient else None


def new_uid() -> str:
    """A fresh UID that says nothing about where it comes from."""
    return str(pydicom.uid.generate_uid(prefix=None))


def new_dataset(sop_class: str) -> pydicom.Dataset:
    """An empty data set of the class, with the marks that each of our DICOM files carries and no patient in it."""
    from datetime import datetime

    from raylift import DISCLAIMER, __version__

    dataset, now = pydicom.Dataset(), datetime.now()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, new_uid()
    for day in ("StudyDate", "SeriesDate", "ContentDate", "InstanceCreationDate"):
        setattr(dataset, day, now.strftime("%Y%m%d"))
    for time in ("StudyTime", "SeriesTime", "ContentTime", "InstanceCreationTime"):
        setattr(dataset, time, now.strftime("%H%M%S"))
    for empty in ("AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientBirthDate", "PatientSex"):
        setattr(dataset, empty, "")
    dataset.PatientID, dataset.StudyID = "RAYLIFT", "1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = new_uid(), new_uid()
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1
    dataset.Manufacturer, dataset.ManufacturerModelName = MANUFACTURER, MANUFACTURER
    dataset.SoftwareVersions, dataset.DeviceSerialNumber = __version__, "0"
    dataset.SyntheticData, dataset.ContentQualification = "YES", "RESEARCH"
    dataset.ImageComments = DISCLAIMER
    dataset.BurnedInAnnotation, dataset.LossyImageCompression = "NO", "00"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    return dataset


def save(dataset: pydicom.Dataset, path: Path) -> None:
    """The data set as a DICOM file, explicit little endian."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta = meta
    dataset.save_as(path, enforce_file_format=True)
