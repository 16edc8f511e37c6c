"""CT series out of DICOM files: which files belong together, in which order, and whether they fill a volume."""

import itertools
import logging
from collections import Counter, defaultdict
from dataclasses import dataclass
from math import atan, degrees
from pathlib import Path

import numpy as np
import pydicom

from raylift.errors import BadInput
from raylift.io.dicom import is_dicom, number, numbers, open_dicom, stored_pixels, text
from raylift.io.files import check_voxels, shown
from raylift.io.hounsfield import HU_RANGE, check_is_ct, rescaled
from raylift.types import Grid, Volume

LOG = logging.getLogger("raylift.io")
MAX_FILES = 50_000  # ours: a folder with more is not one patient's
MAX_TILT_DEG = 0.2  # ours: beyond, the slices do not stack to a box
STEP_TOLERANCE = 0.1  # ours: of a step, how far a slice may lie from its place
SAME_PLACE_MM = 0.01  # ours: slices nearer than this lie at the same place
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
CT_MULTIFRAME = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")  # enhanced, legacy converted
TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "ImageType", "AcquisitionNumber"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "NumberOfFrames"),
    *("SamplesPerPixel", "RescaleSlope", "RescaleIntercept", "RescaleType", "SharedFunctionalGroupsSequence"),
    *("PerFrameFunctionalGroupsSequence", "SpacingBetweenSlices", "TemporalPositionIndex"),
]


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One plane of a series: where it lies, and in which file it is found."""

    path: Path
    frame: int | None  # in a multi-frame file
    uid: str
    position_mm: tuple[float, ...]  # of its first pixel, LPS
    directions: tuple[float, ...]  # along a row, then along a column
    spacing_mm: tuple[float, ...]  # between rows, between columns
    pixels: tuple[int, int]
    acquisition: str

    @property
    def normal(self) -> np.ndarray:
        """The unit vector at right angles to the plane."""
        return np.cross(self.directions[:3], self.directions[3:])

    @property
    def height_mm(self) -> float:
        """How far along the normal it lies."""
        return float(np.dot(self.normal, self.position_mm))


def read_all(path: Path) -> list[Volume]:
    """All CT series in a folder (and below it) or in a multi-frame file, the longest first."""
    return [_volume(slices, grid, shown(path)) for slices, grid in _series(path)]


def read(path: Path) -> Volume:
    """The only CT series, or the one with most slices; which one it was is logged where there was a choice."""
    series = _series(path)
    slices, grid = series[0]
    if len(series) > 1:
        rest = ", ".join(str(len(s)) for s, _ in series[1:])
        LOG.warning("%s: took the CT series of %d slices; others have %s", shown(path), len(slices), rest)
    return _volume(slices, grid, shown(path))


def read_grids(path: Path) -> list[Grid]:
    """Where the voxels of all CT series lie, from the headers alone, the longest first."""
    return [grid for _, grid in _series(path)]


def first_file(path: Path) -> Path | None:
    """A DICOM file of the folder, or `path` itself where it is one."""
    files = _files(path) if path.is_dir() else [path]
    return next((file for file in files if is_dicom(file)), None)


def _files(path: Path) -> list[Path]:
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    if len(files) > MAX_FILES:
        raise BadInput(f"{shown(path)}: {len(files)} files; give one patient's folder")
    return files


def _series(path: Path) -> list[tuple[list[Slice], Grid]]:
    """Slices in order and their grid, for each CT series; the one with most voxels first."""
    name = shown(path)
    groups: dict[tuple, list[Slice]] = defaultdict(list)
    others: Counter[str] = Counter()
    placeless: dict[str, str] = {}  # series -> a file of it that has no place in space
    for file in [f for f in _files(path) if is_dicom(f)] if path.is_dir() else [path]:
        header = open_dicom(file, pixels=False, tags=TAGS)
        kind = _kind(header)
        if kind != "CT":
            others[kind] += 1
            continue
        planes = list(_planes(header, file))
        if not planes:
            others["CT picture without position, orientation or pixel spacing"] += 1
            placeless[text(header, "SeriesInstanceUID")] = shown(file)
        for key, plane in planes:
            groups[key].append(plane)
    for uid, *_ in groups:
        if uid in placeless:
            raise BadInput(f"{placeless[uid]}: a CT slice without position, orientation or pixel spacing")
    if not groups:
        found = ", ".join(f"{kind} ({count})" for kind, count in sorted(others.items())) or "no DICOM files"
        raise BadInput(f"{name}: holds no CT images; found: {found}")
    series = [stack for group in groups.values() for stack in _without_repeats(group, name)]
    long = [stack for stack in series if len(stack) > 1]
    if not long:
        advice = "give the folder of its series" if path.is_file() else "a volume needs at least two"
        raise BadInput(f"{name}: {len(series)} CT slice{'s' * (len(series) > 1)} that stack with no other; {advice}")
    long.sort(key=lambda stack: (-len(stack) * stack[0].pixels[0] * stack[0].pixels[1], stack[0].uid))
    stacked, failed = [], None
    for stack in long:
        try:
            stacked.append((stack, _grid(stack, name)))
        except BadInput as error:  # the main series must stand; of the others, those that do
            if not stacked:
                raise
            failed = error
    if failed:
        LOG.warning("%s (left out: a smaller series)", failed)
    return stacked


def _kind(header: pydicom.Dataset) -> str:
    """'CT' for a CT image that can be part of a volume, else what it is."""
    modality, sop = text(header, "Modality"), text(header, "SOPClassUID")
    if modality != "CT":
        return modality or "DICOM without a modality"
    if sop != CT_IMAGE and sop not in CT_MULTIFRAME and "NumberOfFrames" not in header:
        return "CT report or capture"
    if "LOCALIZER" in text(header, "ImageType"):
        return "CT scout"
    if (number(header, "SamplesPerPixel") or 1) != 1:
        return "CT colour picture"
    return "CT"


def _planes(header: pydicom.Dataset, file: Path):
    """The slices of one file, each with the key of the series it belongs to; none where one has no place."""
    name, frames = shown(file), int(number(header, "NumberOfFrames") or 1)
    shared = _first(header.get("SharedFunctionalGroupsSequence"))
    each = header.get("PerFrameFunctionalGroupsSequence") or []
    if frames > 1 and len(each) != frames:
        raise BadInput(f"{name}: {frames} frames without a place for each; export it as single slices or NIfTI")
    for frame in range(frames):
        own = each[frame] if each else None
        position = _found(header, shared, own, "PlanePositionSequence", "ImagePositionPatient")
        directions = _found(header, shared, own, "PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = _found(header, shared, own, "PixelMeasuresSequence", "PixelSpacing")
        if len(position) != 3 or len(directions) != 6 or len(spacing) != 2:
            return
        along, down = np.array(directions[:3]), np.array(directions[3:])
        if abs(along @ along - 1) > 1e-2 or abs(down @ down - 1) > 1e-2 or abs(along @ down) > 1e-2:
            raise BadInput(f"{name}: its orientation is not two unit vectors at right angles")
        if not all(0.01 <= s <= 20 for s in spacing):  # ours: beyond, no CT's pixels
            raise BadInput(f"{name}: pixel spacing {spacing} mm is absurd")
        pixels = tuple(int(number(header, tag) or 0) for tag in ("Rows", "Columns"))
        plane = Slice(
            path=file,
            frame=frame if frames > 1 else None,
            uid=f"{text(header, 'SOPInstanceUID')}/{frame}",
            position_mm=position,
            directions=directions,
            spacing_mm=spacing,
            pixels=pixels,
            acquisition=f"{text(header, 'AcquisitionNumber')}/{text(header, 'TemporalPositionIndex')}",
        )
        turned = tuple(round(d, 3) + 0.0 for d in directions)
        key = (text(header, "SeriesInstanceUID"), pixels, tuple(round(s, 4) for s in spacing), turned)
        yield key, plane


def _first(sequence):
    return sequence[0] if sequence else None


def _found(header, shared, own, group: str, tag: str) -> tuple[float, ...]:
    """The tag's numbers from the frame's own group, the shared one, or the file's top."""
    for place in (_first(own.get(group)) if own else None, _first(shared.get(group)) if shared else None, header):
        if place is not None and numbers(place, tag):
            return numbers(place, tag)
    return ()


def _without_repeats(group: list[Slice], name: str) -> list[list[Slice]]:
    """The slices in order along the normal, without copies of one slice; phases become series of their own."""
    unique = list({plane.uid: plane for plane in group}.values())
    stack = sorted(unique, key=lambda plane: (plane.height_mm, plane.uid))
    twins = [(a, b) for a, b in itertools.pairwise(stack) if _same_place(a, b)]
    if not twins:
        return [stack]
    if len({plane.acquisition for plane in stack}) > 1:
        phases = defaultdict(list)
        for plane in stack:
            phases[plane.acquisition].append(plane)
        if not any(_same_place(a, b) for phase in phases.values() for a, b in itertools.pairwise(phase)):
            return list(phases.values())
    for a, b in twins:
        if not np.array_equal(_hu(a), _hu(b)):
            raise BadInput(
                f"{name}: {shown(a.path)} and {shown(b.path)} lie at the same place and differ; "
                "keep one phase or reconstruction in the folder"
            )
    LOG.warning("%s: left out %d copies of slices", name, len(twins))
    copies = {b.uid for _, b in twins}
    return [[plane for plane in stack if plane.uid not in copies]]


def _same_place(a: Slice, b: Slice) -> bool:
    return abs(a.height_mm - b.height_mm) < SAME_PLACE_MM


def _grid(stack: list[Slice], name: str) -> Grid:
    """Where the voxels lie: d along the normal, h down the rows, w along them. Gaps and tilt are errors."""
    check_voxels((len(stack), *stack[0].pixels), name)
    heights = np.array([plane.height_mm for plane in stack])
    steps = np.diff(heights)
    usual = float(np.median(steps))
    widest = int(np.argmax(steps))
    if steps[widest] > 1.5 * usual:
        a, b = stack[widest], stack[widest + 1]
        raise BadInput(
            f"{name}: a gap of {steps[widest]:.2f} mm between {shown(a.path)} and {shown(b.path)}, "
            f"{usual:.2f} mm elsewhere; a slice is missing or the series is mixed"
        )
    step = (heights[-1] - heights[0]) / (len(stack) - 1)
    off = np.abs(heights - heights[0] - step * np.arange(len(stack))).max()
    if off > STEP_TOLERANCE * step or steps.min() < step / 1.5:
        raise BadInput(
            f"{name}: slices from {steps.min():.2f} to {steps.max():.2f} mm apart; resample the series to one spacing"
        )
    first, last = np.array(stack[0].position_mm), np.array(stack[-1].position_mm)
    normal = stack[0].normal / np.linalg.norm(stack[0].normal)
    rise = float((last - first) @ normal)
    slide = float(np.linalg.norm(last - first - rise * normal))
    tilt = degrees(atan(slide / rise))
    if tilt > MAX_TILT_DEG and slide > min(stack[0].spacing_mm):
        raise BadInput(f"{name}: taken with the gantry tilted by {tilt:.1f} degrees; resample it to upright slices")
    affine = np.eye(4)
    affine[:3, 0] = normal * rise / (len(stack) - 1)
    affine[:3, 1] = np.array(stack[0].directions[3:]) * stack[0].spacing_mm[0]
    affine[:3, 2] = np.array(stack[0].directions[:3]) * stack[0].spacing_mm[1]
    affine[:3, 3] = first
    return Grid((len(stack), *stack[0].pixels), affine)


def _volume(stack: list[Slice], grid: Grid, name: str) -> Volume:
    hu = np.empty(grid.shape, np.int16)
    if stack[0].frame is None:
        for plane, out in zip(stack, hu, strict=True):
            out[:] = _hu(plane)
    else:
        dataset = open_dicom(stack[0].path)
        frames = stored_pixels(dataset, name)
        for plane, out in zip(stack, hu, strict=True):
            out[:] = _rescaled(dataset, frames[plane.frame], plane.frame, name)
    check_is_ct(hu, name)
    return Volume(hu=hu, grid=grid, source=name)


def _hu(plane: Slice) -> np.ndarray:
    dataset, name = open_dicom(plane.path), shown(plane.path)
    stored = stored_pixels(dataset, name)
    stored = stored if plane.frame is None else stored[plane.frame]
    if stored.shape != plane.pixels:
        raise BadInput(f"{name}: {stored.shape} pixels where the header says {plane.pixels}")
    return _rescaled(dataset, stored, plane.frame, name)


def _rescaled(dataset: pydicom.Dataset, stored: np.ndarray, frame: int | None, name: str) -> np.ndarray:
    """HU of one plane; what the scanner marks as padding becomes air."""
    shared = _first(dataset.get("SharedFunctionalGroupsSequence"))
    own = dataset.PerFrameFunctionalGroupsSequence[frame] if frame is not None else None
    slope, intercept = (
        _found(dataset, shared, own, "PixelValueTransformationSequence", tag)
        for tag in ("RescaleSlope", "RescaleIntercept")
    )
    if not slope or not intercept or text(dataset, "RescaleType") not in ("", "HU", "US"):
        raise BadInput(f"{name}: no rescale slope and intercept to HU")
    hu = rescaled(stored, slope[0], intercept[0], name)
    padding, limit = number(dataset, "PixelPaddingValue"), number(dataset, "PixelPaddingRangeLimit")
    if padding is not None:
        low, high = sorted((padding, padding if limit is None else limit))
        hu[(stored >= low) & (stored <= high)] = HU_RANGE[0]
    return hu
