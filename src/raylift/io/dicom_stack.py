"""A stack of CT slices as a volume: where its voxels lie, what is wrong with how they lie, and their HU."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import atan, degrees
from pathlib import Path

import numpy as np
import pydicom

from raylift.errors import BadInput
from raylift.io.dicom import number, numbers, open_dicom, stored_pixels, text
from raylift.io.files import shown
from raylift.io.hounsfield import HU_RANGE, check_is_ct, rescaled
from raylift.io.large import binned_grid, bins_for, check_size, gathered
from raylift.types import Grid, Volume

MAX_TILT_DEG = 0.2  # ours: beyond, the slices do not stack to a box
PIXEL_TAGS = [  # what a slice's HU hang on; a file has ten times as many
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "SharedFunctionalGroupsSequence"),
    *("PerFrameFunctionalGroupsSequence", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"),
]
STEP_TOLERANCE = 0.1  # ours: of a step, how far a slice may lie from its place


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
    posture: str  # DICOM's PatientPosition, such as HFS or FFP

    @property
    def normal(self) -> np.ndarray:
        """The unit vector at right angles to the plane."""
        return np.cross(self.directions[:3], self.directions[3:])

    @property
    def height_mm(self) -> float:
        """How far along the normal it lies."""
        return float(np.dot(self.normal, self.position_mm))


def stacked_grid(stack: Sequence[Slice], name: str) -> Grid:
    """Where the voxels lie: d along the normal, h down the rows, w along them. Gaps and tilt are errors."""
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


def stacked_volume(stack: Sequence[Slice], grid: Grid, name: str, finest_mm: float | None = None) -> Volume:
    """The stack's HU, int16; a slice at a time is in memory beside them. For `finest_mm` see `large.bins_for`."""
    bins = bins_for(grid, finest_mm)
    check_size(grid.shape, bins, name)
    hu = gathered(_planes(stack, name), grid, bins)
    check_is_ct(hu, name)
    return Volume(hu=hu, grid=binned_grid(grid, bins), source=name)


def same_pixels(a: Slice, b: Slice) -> bool:
    """Whether two slices show the same."""
    return np.array_equal(_hu(a), _hu(b))


def _planes(stack: Sequence[Slice], name: str) -> Iterator[np.ndarray]:
    if stack[0].frame is None:
        yield from map(_hu, stack)
        return
    dataset = open_dicom(stack[0].path, tags=PIXEL_TAGS)
    frames = stored_pixels(dataset, name)
    for plane in stack:
        yield _rescaled(dataset, frames[plane.frame], plane.frame, name)


def _hu(plane: Slice) -> np.ndarray:
    dataset, name = open_dicom(plane.path, tags=PIXEL_TAGS), shown(plane.path)
    stored = stored_pixels(dataset, name)
    stored = stored if plane.frame is None else stored[plane.frame]
    if stored.shape != plane.pixels:
        raise BadInput(f"{name}: {stored.shape} pixels where the header says {plane.pixels}")
    return _rescaled(dataset, stored, plane.frame, name)


def _rescaled(dataset: pydicom.Dataset, stored: np.ndarray, frame: int | None, name: str) -> np.ndarray:
    """HU of one plane; what the scanner marks as padding becomes air."""
    shared = first_of(dataset.get("SharedFunctionalGroupsSequence"))
    own = dataset.PerFrameFunctionalGroupsSequence[frame] if frame is not None else None
    slope, intercept = (
        found_in(dataset, shared, own, "PixelValueTransformationSequence", tag)
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


def first_of(sequence):
    """A sequence's first item, or None."""
    return sequence[0] if sequence else None


def found_in(header, shared, own, group: str, tag: str) -> tuple[float, ...]:
    """The tag's numbers from the frame's own group, the shared one, or the file's top."""
    for place in (first_of(own.get(group)) if own else None, first_of(shared.get(group)) if shared else None, header):
        if place is not None and numbers(place, tag):
            return numbers(place, tag)
    return ()
