"""CT series out of DICOM files: which files belong together, in which order, and what else lies among them."""

import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pydicom

from raylift.errors import BadInput
from raylift.io.dicom import is_dicom, number, open_dicom, text
from raylift.io.dicom_stack import Slice, first_of, found_in, same_pixels, stacked_grid, stacked_volume
from raylift.io.files import shown
from raylift.io.unread import Survey, UnreadCT
from raylift.types import Grid, Volume

LOG = logging.getLogger("raylift.io")
MAX_FILES = 50_000  # ours: a folder with more is not one patient's
SAME_PLACE_MM = 0.01  # ours: slices nearer than this lie at the same place
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
CT_MULTIFRAME = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")  # enhanced, legacy converted
TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "ImageType", "AcquisitionNumber"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "NumberOfFrames"),
    *("SamplesPerPixel", "RescaleSlope", "RescaleIntercept", "RescaleType", "SharedFunctionalGroupsSequence"),
    *("PerFrameFunctionalGroupsSequence", "SpacingBetweenSlices", "TemporalPositionIndex", "PatientPosition"),
]


def survey(path: Path) -> Survey:
    """All CT series in a folder (and below it) or in a multi-frame file, from the headers alone, and the rest."""
    name = shown(path)
    groups, others, placeless = _sorted_files(path)
    for uid, *_ in groups:
        if uid in placeless:
            raise BadInput(f"{placeless[uid]}: a CT slice without position, orientation or pixel spacing")
    rest = [f"{count} file{'s' * (count > 1)}: {kind}" for kind, count in sorted(others.items())]
    if not groups:
        found = ", ".join(f"{kind} ({count})" for kind, count in sorted(others.items())) or "no DICOM files"
        raise BadInput(f"{name}: holds no CT images; found: {found}")
    cts, single = [], 0
    for group in groups.values():
        for stack, notes in _without_repeats(group, name):
            voxels = group[0].pixels[0] * group[0].pixels[1] * len(group)
            if isinstance(stack, str):
                cts.append((-voxels, group[0].uid, UnreadCT(grid=None, fault=stack, load=_nothing)))
            elif len(stack) > 1:
                cts.append((-voxels, stack[0].uid, _unread(stack, notes, name)))
            else:
                single += 1
    if not cts:
        advice = "give the folder of its series" if path.is_file() else "a volume needs at least two"
        raise BadInput(f"{name}: {single} CT slice{'s' * (single > 1)} that stack with no other; {advice}")
    if single:
        rest.append(f"{single} CT slice{'s' * (single > 1)} that stack with no other")
    cts.sort(key=lambda ct: ct[:2])
    return Survey(cts=tuple(ct for _, _, ct in cts), others=tuple(rest))


def read_all(path: Path) -> list[Volume]:
    """All CT series in a folder (and below it) or in a multi-frame file, the longest first."""
    return [ct.read() for ct in _sound(path)]


def read(path: Path) -> Volume:
    """The only CT series, or the one with most voxels; which one it was is logged where there was a choice."""
    cts = _sound(path)
    if len(cts) > 1:
        rest = ", ".join(str(ct.grid.shape[0]) for ct in cts[1:])
        LOG.warning("%s: took the CT series of %d slices; others have %s", shown(path), cts[0].grid.shape[0], rest)
    return cts[0].read()


def read_grids(path: Path) -> list[Grid]:
    """Where the voxels of all CT series lie, from the headers alone, the longest first."""
    return [ct.grid for ct in _sound(path)]


def first_file(path: Path) -> Path | None:
    """A DICOM file of the folder, or `path` itself where it is one."""
    files = _files(path) if path.is_dir() else [path]
    return next((file for file in files if is_dicom(file)), None)


def _sound(path: Path) -> list[UnreadCT]:
    """The series that can be read. The main one must be; of the others, those that can."""
    cts = survey(path).cts
    if cts[0].grid is None:
        raise BadInput(cts[0].fault)
    for ct in cts:
        if ct.grid is None:
            LOG.warning("%s (left out: a smaller series)", ct.fault)
        for note in ct.notes:
            LOG.warning("%s: %s", shown(path), note)
    return [ct for ct in cts if ct.grid is not None]


def _files(path: Path) -> list[Path]:
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    if len(files) > MAX_FILES:
        raise BadInput(f"{shown(path)}: {len(files)} files; give one patient's folder")
    return files


def _sorted_files(path: Path) -> tuple[dict[tuple, list[Slice]], Counter[str], dict[str, str]]:
    """The slices of each series; what else there is, counted; and a file of each series that has no place in space."""
    groups: dict[tuple, list[Slice]] = defaultdict(list)
    others: Counter[str] = Counter()
    placeless: dict[str, str] = {}
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
    return groups, others, placeless


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


def _planes(header: pydicom.Dataset, file: Path) -> Iterator[tuple[tuple, Slice]]:
    """The slices of one file, each with the key of the series it belongs to; none where one has no place."""
    name, frames = shown(file), int(number(header, "NumberOfFrames") or 1)
    shared = first_of(header.get("SharedFunctionalGroupsSequence"))
    each = header.get("PerFrameFunctionalGroupsSequence") or []
    if frames > 1 and len(each) != frames:
        raise BadInput(f"{name}: {frames} frames without a place for each; export it as single slices or NIfTI")
    for frame in range(frames):
        own = each[frame] if each else None
        position = found_in(header, shared, own, "PlanePositionSequence", "ImagePositionPatient")
        directions = found_in(header, shared, own, "PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = found_in(header, shared, own, "PixelMeasuresSequence", "PixelSpacing")
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
            posture=text(header, "PatientPosition"),
        )
        turned = tuple(round(d, 3) + 0.0 for d in directions)
        key = (text(header, "SeriesInstanceUID"), pixels, tuple(round(s, 4) for s in spacing), turned)
        yield key, plane


def _without_repeats(group: list[Slice], name: str) -> list[tuple[list[Slice] | str, tuple[str, ...]]]:
    """The slices in order along the normal and what was noticed; phases become series of their own.

    Copies of one slice are left out; for slices that differ at one place there are words in place of a series.
    """
    unique = list({plane.uid: plane for plane in group}.values())
    again = len(group) - len(unique)
    stack = sorted(unique, key=lambda plane: (plane.height_mm, plane.uid))
    twins = [(a, b) for a, b in itertools.pairwise(stack) if _same_place(a, b)]
    if twins and len({plane.acquisition for plane in stack}) > 1:
        phases = defaultdict(list)
        for plane in stack:
            phases[plane.acquisition].append(plane)
        if not any(_same_place(a, b) for phase in phases.values() for a, b in itertools.pairwise(phase)):
            return [(phase, ()) for phase in phases.values()]
    for a, b in twins:
        if not same_pixels(a, b):
            fault = f"{name}: {shown(a.path)} and {shown(b.path)} lie at the same place and differ; "
            return [(fault + "keep one phase or reconstruction in the folder", ())]
    copies = {b.uid for _, b in twins}
    count = len(copies) + again
    notes = (f"left out {count} cop{'ies of slices' if count > 1 else 'y of a slice'}",) if count else ()
    return [([plane for plane in stack if plane.uid not in copies], notes)]


def _same_place(a: Slice, b: Slice) -> bool:
    return abs(a.height_mm - b.height_mm) < SAME_PLACE_MM


def _unread(stack: list[Slice], notes: tuple[str, ...], name: str) -> UnreadCT:
    """The stack as a CT that can be read, or with the reason why it cannot."""
    if stack[0].posture.startswith("FF"):
        notes = (*notes, f"scanned feet first ({stack[0].posture}); its orientation tags turn it upright")
    try:
        grid = stacked_grid(stack, name)
    except BadInput as error:
        return UnreadCT(grid=None, fault=str(error), load=_nothing, notes=notes)
    return UnreadCT(grid=grid, load=partial(stacked_volume, stack, grid, name), notes=notes)


def _nothing(finest_mm: float | None) -> Volume:
    raise BadInput("this CT cannot be read")
