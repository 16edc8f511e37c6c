"""One volume's way to a case: canonical, checked, without its table, cropped, resampled, projected, written."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from raylift.data.prepare import body, check, crop, resample, views
from raylift.data.prepare.profiles import Profile
from raylift.data.store import LOWEST_HU, whole_hu, write_case
from raylift.errors import BadInput
from raylift.geometry import canonical
from raylift.types import Grid, Volume

MARGIN_MM = 9.0  # air kept round the body  # ours


class Rejected(BadInput):
    """A volume that was read but does not fit the profile; the text is the reason."""


def prepare_volume(
    volume: Volume, folder: Path, *, profile: Profile, allow_short: bool, patient: str, settings: str
) -> str:
    """Write the case of `volume` into `folder` and return its scan's content hash; raises `Rejected`."""
    _refuse(check.not_a_ct(volume))
    volume = canonical(volume)
    _refuse(check.wrong_grid(volume.grid, profile, allow_short))
    content = content_hash(volume)
    scan = volume.grid
    clean, cube, lungs = cleaned(volume, profile)
    beams = views.beams_about(profile, cube)
    clean, reason = views.before_panels(views.crossed(clean, cube, profile), beams)
    _refuse(reason)
    source = replace(clean, hu=whole_hu(clean.hu, volume.source))
    ct = resample.resampled(source, cube)
    write_case(
        folder,
        patient=patient,
        ct=ct,
        xrays=views.line_integrals(source, beams),
        beams=beams,
        source=source if profile.keep_source else None,
        valid=resample.inside(cube, scan),
        notes={
            "content": content,
            "settings": settings,
            "lungs": lungs,
            "values": "line_integral",
            "rays": profile.rays,
            "isocentre_lps_mm": cube.centre_mm.tolist(),
            "scan": {"shape": list(scan.shape), "spacing_mm": list(scan.spacing_mm)},
        },
    )
    return content


def cleaned(volume: Volume, profile: Profile) -> tuple[Volume, Grid, bool]:
    """The patient alone on an upright grid, the cube about the body, and whether lungs were found."""
    padded = replace(volume, hu=volume.hu.clip(LOWEST_HU))
    whole = resample.upright(padded, profile.source_spacing, multiple=body.COARSE)
    small = body.coarse(whole)
    mask = body.body_mask(small)
    if not mask.any():
        raise Rejected("no body found in it")
    lungs = body.lung_mask(small, mask)
    _refuse(check.back_to_front(small, mask, lungs))
    cube = crop.cube_grid(profile, small, mask, lungs, volume.grid)
    if profile.remove_table:
        whole = body.without_table(whole, mask)
    return resample.cut(whole, _box(mask, whole)), cube, lungs is not None


def _box(mask: np.ndarray, whole: Volume) -> tuple[slice, slice, slice]:
    """The body and a margin, in voxels of `whole`."""
    margin = int(np.ceil(MARGIN_MM / whole.grid.spacing_mm[0]))
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    ends = [(s.start * body.COARSE - margin, s.stop * body.COARSE + margin) for s in box]
    return tuple(slice(max(a, 0), min(b, n)) for (a, b), n in zip(ends, whole.hu.shape, strict=True))


def content_hash(volume: Volume) -> str:
    """A hash of a canonical scan's voxels and spacing, the same for its DICOM series and its NIfTI copy."""
    spacing = [round(s, 3) for s in volume.grid.spacing_mm]
    total = hashlib.sha256(f"{volume.grid.shape} {spacing}\n".encode())
    for plane in volume.hu:
        total.update(whole_hu(plane, volume.source).tobytes())
    return total.hexdigest()


def _refuse(reason: str | None) -> None:
    if reason:
        raise Rejected(reason)
