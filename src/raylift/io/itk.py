"""NRRD and MetaImage in and out by SimpleITK, behind a look at the header: ITK fills a short file with zeros."""

import bz2
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from raylift import DISCLAIMER
from raylift.errors import BadInput, UnsupportedFormat
from raylift.io.files import check_voxels, shown, whole_file
from raylift.io.hounsfield import check_is_ct, to_int16
from raylift.io.large import WHOLE, binned_grid, bins_for, gathered
from raylift.types import Grid, Volume

sitk.ProcessObject.SetGlobalWarningDisplay(False)
HEADER_BYTES = 1 << 20  # ours: a header is some hundred bytes
SIZES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "FLOAT": 4, "DOUBLE": 8, "LONG_LONG": 8}  # MetaImage's MET_...
NRRD_SIZES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(
        ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"), 4
    ),
    **dict.fromkeys(("longlong", "int64", "int64_t", "ulonglong", "uint64", "uint64_t", "double"), 8),
}


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What a header promises, and where the voxels are to be found."""

    shape: tuple[int, ...]
    voxel_bytes: int
    spacings: tuple[float, ...]
    file: Path
    start: int  # -1: the voxels are the last bytes of the file
    coding: str  # raw, zlib, gzip, bzip2


def read_grid(path: Path, large: bool = False) -> Grid:
    """Where the file's voxels lie, from the header alone; ITK reads a file at once, so `large` allows no more."""
    _check(_declared(path), shown(path))
    return _grid(_reader(path), shown(path))


def read(path: Path, finest_mm: float | None = None) -> Volume:
    """The CT in the file, int16 HU, as stored; d runs along the file's third axis.

    One that is too large for the memory is averaged to voxels of at most `finest_mm`, but only after it is read.
    """
    name = shown(path)
    declared = _declared(path)
    _check(declared, name)
    _check_length(declared, name)
    reader = _reader(path)
    grid = _grid(reader, name)
    try:
        values = sitk.GetArrayViewFromImage(image := reader.Execute())
    except (RuntimeError, ValueError, MemoryError):
        raise BadInput(f"{name}: damaged; its voxels cannot be read") from None
    hu = to_int16(values.reshape(grid.shape), name)
    check_is_ct(hu, name, was_float=values.dtype.kind == "f")
    del values, image
    bins = bins_for(grid, finest_mm)
    return Volume(hu=hu if bins == WHOLE else gathered(hu, grid, bins), grid=binned_grid(grid, bins), source=name)


def write(volume: Volume, path: Path) -> None:
    """`volume` as int16 HU, compressed, with the disclaimer in its header."""
    image = sitk.GetImageFromArray(to_int16(volume.hu, volume.source or "the volume"))
    directions = volume.grid.affine[:3, :3] / volume.grid.spacing_mm
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-4:
        raise BadInput(f"{volume.source or 'the volume'}: a sheared grid fits no such file; write NIfTI")
    image.SetSpacing(volume.grid.spacing_mm[::-1])
    image.SetOrigin(volume.grid.affine[:3, 3].tolist())
    image.SetDirection(directions[:, ::-1].ravel().tolist())
    image.SetMetaData("Comment", DISCLAIMER)
    with whole_file(path) as beside:
        try:
            sitk.WriteImage(image, str(beside), useCompression=True)
        except RuntimeError:
            raise BadInput(f"{shown(path)}: cannot be written") from None


def _reader(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise BadInput(f"{shown(path)}: its header cannot be read") from None
    return reader


def _grid(reader: sitk.ImageFileReader, name: str) -> Grid:
    size = list(reader.GetSize())
    if reader.GetNumberOfComponents() != 1:
        raise BadInput(f"{name}: {reader.GetNumberOfComponents()} values a voxel; a CT has one")
    if len(size) < 3 or any(n != 1 for n in size[3:]):
        raise BadInput(f"{name}: a CT has three axes, not {' x '.join(map(str, size))}")
    rank = len(size)
    spacing = np.array(reader.GetSpacing())[:3]
    directions = np.array(reader.GetDirection()).reshape(rank, rank)[:3, :3]
    if not np.isfinite(spacing).all() or (spacing <= 0).any() or not np.isfinite(directions).all():
        raise BadInput(f"{name}: its spacing or orientation is not finite")
    affine = np.eye(4)
    affine[:3, :3] = (directions * spacing)[:, ::-1]
    affine[:3, 3] = reader.GetOrigin()[:3]
    return Grid(tuple(size[2::-1]), affine)


def _check(declared: Declared, name: str) -> None:
    check_voxels(declared.shape, name)
    if not declared.spacings:
        raise BadInput(f"{name}: does not say how large a voxel is")
    if not all(np.isfinite(s) and 0 < abs(s) < 1e6 for s in declared.spacings):
        raise BadInput(f"{name}: voxel sizes {declared.spacings} are not positive numbers")
    if not declared.file.is_file():
        raise BadInput(f"{name}: its voxels should be in {shown(declared.file)}, which is not there")


def _check_length(declared: Declared, name: str) -> None:
    """Raises where fewer bytes of voxels can be had than the header promises; compressed ones are unpacked to count."""
    wanted = int(np.prod(declared.shape, dtype=object)) * declared.voxel_bytes
    held = declared.file.stat().st_size
    found = held - max(declared.start, 0) if declared.coding == "raw" else _unpacked(declared, wanted, name)
    if found < wanted:
        raise BadInput(f"{name}: cut off; {wanted - found} of {wanted} bytes of voxels are missing")


def _unpacked(declared: Declared, wanted: int, name: str) -> int:
    """How many bytes the packed voxels give, counted to the end of the stream or past `wanted`."""
    unpack = {
        "zlib": lambda: zlib.decompressobj(),
        "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
        "bzip2": lambda: bz2.BZ2Decompressor(),
    }[declared.coding]()
    total = 0
    try:
        with open(declared.file, "rb") as file:
            file.seek(declared.start)
            while not unpack.eof and total <= wanted:
                piece = getattr(unpack, "unconsumed_tail", b"") or (
                    b"" if not getattr(unpack, "needs_input", True) else file.read(1 << 18)
                )
                if not piece and getattr(unpack, "needs_input", True):
                    raise EOFError
                total += len(unpack.decompress(piece, 1 << 24))
    except (OSError, EOFError, zlib.error):
        raise BadInput(f"{name}: damaged or cut off in its packed voxels") from None
    return total


def _declared(path: Path) -> Declared:
    with open(path, "rb") as file:
        start = file.read(HEADER_BYTES)
    return _nrrd(path, start) if path.suffix.lower() in (".nrrd", ".nhdr") else _meta(path, start)


def _nrrd(path: Path, start: bytes) -> Declared:
    name = shown(path)
    if not start.startswith(b"NRRD000"):
        raise UnsupportedFormat(f"{name}: not an NRRD file")
    head, gap, _ = start.partition(b"\r\n\r\n" if b"\r\n\r\n" in start[:4096] else b"\n\n")
    lines = head.decode("latin-1").splitlines()[1:]
    fields = dict(re.split(r":\s*", line, maxsplit=1) for line in lines if ": " in line and ":=" not in line)
    fields = {key.strip().lower(): value.strip() for key, value in fields.items()}
    file = fields.get("data file") or fields.get("datafile")
    coding = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}.get(
        fields.get("encoding", "").lower()
    )
    skipped = any(
        int(fields.get(key, 0) or 0)
        for key in ("line skip", "lineskip", "byte skip", "byteskip")
        if _whole(fields.get(key))
    )
    if coding is None or skipped:
        raise UnsupportedFormat(f"{name}: its encoding is not read; save it as raw or gzip")
    if "space directions" in fields:
        vectors = re.findall(r"\(([^)]*)\)", fields["space directions"])
        spacings = tuple(float(np.linalg.norm(_floats(v.replace(",", " "), name))) for v in vectors)
    else:
        spacings = _floats(fields.get("spacings", ""), name)
    return Declared(
        shape=_counts(fields.get("sizes", ""), name),
        voxel_bytes=_of(NRRD_SIZES, fields.get("type", "").lower(), name),
        spacings=spacings,
        file=_inside(path, file) if file else path,
        start=0 if file else len(head) + len(gap),
        coding=coding,
    )


def _whole(value: str | None) -> bool:
    return bool(value) and value.lstrip("+-").isdigit()


def _meta(path: Path, start: bytes) -> Declared:
    name = shown(path)
    fields: dict[str, str] = {}
    at = 0
    for line in start.split(b"\n"):
        at += len(line) + 1
        key, equals, value = line.decode("latin-1").partition("=")
        if not equals or len(key) > 100:
            break
        fields[key.strip().lower()] = value.strip()
        if key.strip().lower() == "elementdatafile":
            break
    file = fields.get("elementdatafile")
    if file is None or "dimsize" not in fields:
        raise UnsupportedFormat(f"{name}: not a MetaImage file (no DimSize or ElementDataFile)")
    local = file.upper() == "LOCAL"
    if file.upper().startswith("LIST") or "%" in file or len(file.split()) > 1 or _skips(fields):
        raise UnsupportedFormat(f"{name}: voxels in several files or after a skip are not read; save it as one .mha")
    kind = fields.get("elementtype", "").upper().removeprefix("MET_").removeprefix("U").removesuffix("_ARRAY")
    spacing = fields.get("elementspacing") or fields.get("elementsize") or ""
    return Declared(
        shape=(*_counts(fields["dimsize"], name), *_counts(fields.get("elementnumberofchannels", "1"), name)),
        voxel_bytes=_of(SIZES, kind, name),
        spacings=_floats(spacing, name),
        file=path if local else _inside(path, file),
        start=at if local else 0,
        coding="zlib" if fields.get("compresseddata", "").lower() in ("true", "1") else "raw",
    )


def _skips(fields: dict[str, str]) -> bool:
    return fields.get("headersize", "0") not in ("0", "")


def _inside(path: Path, file: str) -> Path:
    """The data file beside the header; one that lies elsewhere, or is a link to elsewhere, is refused."""
    folder = path.resolve().parent
    data = Path(os.path.realpath(folder / file))
    if Path(file).is_absolute() or not data.is_relative_to(folder):
        raise BadInput(f"{shown(path)}: names a data file outside its own folder; put both in one folder")
    return data


def _counts(value: str, name: str) -> tuple[int, ...]:
    parts = value.split()
    if not parts or not all(part.isascii() and part.isdigit() and len(part) < 16 for part in parts):
        raise BadInput(f"{name}: its size is not a list of counts")
    return tuple(int(part) for part in parts)


def _floats(value: str, name: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in value.split())
    except ValueError:
        raise BadInput(f"{name}: its spacing is not a list of numbers") from None


def _of(sizes: dict[str, int], kind: str, name: str) -> int:
    if kind not in sizes:
        raise UnsupportedFormat(f"{name}: voxels of type {kind[:20] or 'unknown'} are not read")
    return sizes[kind]
