"""One volume's way to a case: canonical, checked, without its table, cropped, resampled, projected, written."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from raylift.data.prepare import body, check, crop, gates, masks, resample, skeleton, views
from raylift.data.prepare.alike import likeness
from raylift.data.prepare.profiles import Profile
from raylift.data.store import LOWEST_HU, whole_hu, write_case
from raylift.errors import BadInput
from raylift.geometry import canonical
from raylift.segment.morphology import box_of
from raylift.types import Grid, Volume

MARGIN_MM = 9.0  # air kept round the body  # ours


class Rejected(BadInput):
    """A volume that was read but does not fit the profile; the text is the reason."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a case was made of: its scan's content hash and likeness, and what was noticed about it."""

    content: str
    likeness: list[float]  # empty: another case of the same CT tells it
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """The whole of a CT upright, and where the patient is in it; the masks and `small` are coarse."""

    whole: Volume
    small: Volume
    mask: np.ndarray
    lungs: np.ndarray | None


def prepare_cases(
    volume: Volume,
    folder: Path,
    *,
    profile: Profile,
    allow_short: bool,
    patient: str,
    settings: str,
    labels: Path | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Made]:
    """Write the one case of a CT into `folder`, and return it by its id; raises `Rejected`.

    `notes` are what the reader noticed; `labels`, the file of the CT's label map, is for `vertebrae.prepare_cases`.
    """
    del labels  # the body needs none
    _refuse(check.not_a_ct(volume))
    volume = canonical(volume)
    _refuse(check.wrong_grid(volume.grid, profile, allow_short))
    _refuse(gates.repeated_slices(volume))
    _refuse(gates.missing_slices(volume))
    content, look, scan = content_hash(volume), likeness(volume), volume.grid
    found = find_patient(volume, profile)
    del volume
    notes = [*notes, *_looked_at(found, profile)]
    clean, cube = alone(found, profile, scan)
    beams = views.beams_about(profile, cube)
    kept = skeleton.kept(clean, profile)
    seen = clean if profile.rays == "whole" else kept
    seen, reason = views.before_panels(views.crossed(seen, cube, profile), beams)
    _refuse(reason)
    source = replace(seen, hu=np.stack([whole_hu(plane, seen.source) for plane in seen.hu]))
    ct = resample.resampled(source if profile.complete_rays else kept, cube)
    further = views.further_beams(profile, cube, folder.name)
    write_case(
        folder,
        patient=patient,
        ct=ct,
        xrays=views.line_integrals(source, beams, profile.floor_hu),
        beams=beams,
        further=[(views.line_integrals(source, turned, profile.floor_hu), turned) for turned in further],
        labels=masks.of_cube(ct) if profile.masks else None,
        source=source if profile.keep_source else None,
        valid=resample.inside(cube, scan),
        notes={
            "content": content,
            "settings": settings,
            "lungs": found.lungs is not None,
            "noticed": notes,
            "values": "line_integral",
            "rays": profile.rays,
            "floor_hu": profile.floor_hu,
            "isocentre_lps_mm": cube.centre_mm.tolist(),
            "scan": {"shape": list(scan.shape), "spacing_mm": list(scan.spacing_mm)},
        },
    )
    return {folder.name: Made(content=content, likeness=look, notes=notes)}


def find_patient(volume: Volume, profile: Profile) -> Scanned:
    """The whole CT upright at the profile's source spacing, and the patient in it; refuses one back to front."""
    if volume.hu.min() < LOWEST_HU:
        volume = replace(volume, hu=volume.hu.clip(LOWEST_HU))
    whole = resample.upright(volume, profile.source_spacing, multiple=body.COARSE)
    small = body.coarse(whole)
    mask = body.body_mask(small)
    if not mask.any():
        raise Rejected("no body found in it")
    lungs = body.lung_mask(small, mask)
    _refuse(check.back_to_front(small, mask, lungs))
    _refuse(gates.upside_down(small, mask, lungs))
    return Scanned(whole=whole, small=small, mask=mask, lungs=lungs)


def alone(found: Scanned, profile: Profile, scan: Grid) -> tuple[Volume, Grid]:
    """The patient without the table, cut to his box, and the profile's cube about him."""
    cube = crop.cube_grid(profile, found.small, found.mask, found.lungs, scan)
    near = _box(found.mask, found.small.grid)
    clean = resample.cut(found.whole, tuple(slice(body.COARSE * s.start, body.COARSE * s.stop) for s in near))
    return body.without_table(clean, found.mask[near]) if profile.remove_table else clean, cube


def cleaned(volume: Volume, profile: Profile) -> tuple[Volume, Grid, bool]:
    """The patient alone on an upright grid, the cube about the body, and whether lungs were found."""
    found = find_patient(volume, profile)
    return *alone(found, profile, volume.grid), found.lungs is not None


def _looked_at(found: Scanned, profile: Profile) -> list[str]:
    """What is noted about a patient cut off or full of metal; refused where X-rays of all of him are made of it."""
    share = gates.cut_share(found.small, found.mask)
    metal = gates.metal_ml(found.whole, found.mask, body.COARSE)
    if profile.keeps == "body":
        _refuse(gates.truncated(share))
        _refuse(gates.full_of_metal(metal))
    return gates.noted(share, metal)


def _box(mask: np.ndarray, small: Grid) -> tuple[slice, slice, slice]:
    """The body and a margin, in coarse voxels."""
    return box_of(mask, int(np.ceil(MARGIN_MM / small.spacing_mm[0] - 1e-6)))


def content_hash(volume: Volume) -> str:
    """A hash of a canonical scan's voxels and spacing, the same for its DICOM series and its NIfTI copy."""
    spacing = [round(s, 3) for s in volume.grid.spacing_mm]
    total = hashlib.sha256(f"{volume.grid.shape} {spacing}\n".encode())
    whole = volume.hu.dtype == np.int16 and volume.hu.min() >= LOWEST_HU  # as every CT that was read
    for plane in volume.hu:
        total.update(np.ascontiguousarray(plane if whole else whole_hu(plane, volume.source)))
    return total.hexdigest()


def _refuse(reason: str | None) -> None:
    if reason:
        raise Rejected(reason)
