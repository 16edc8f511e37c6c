"""Single vertebrae (EAR): each of T1 to L5 cut out of its CT by the label map beside it, one case a vertebra."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from raylift import io
from raylift.data.prepare import check, resample, steps, views
from raylift.data.prepare.alike import likeness
from raylift.data.prepare.profiles import Profile
from raylift.data.prepare.resample import AIR_HU
from raylift.data.prepare.scores import moments
from raylift.data.prepare.steps import Made, Rejected
from raylift.data.store import whole_hu, write_case
from raylift.geometry import canonical
from raylift.segment.vertebrae import LUMBAR, THORACIC, Vertebrae, from_label_map
from raylift.types import Beam, Grid, View, Volume

CLASSES = THORACIC + LUMBAR  # EAR 4.1: 17 of them, T1 is class 0
TABLE = "structures.csv"  # beside a label map it says what its numbers are
EDGE = 8  # voxels of the CT kept about a cut, for its smoothing


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A canonical CT with its vertebrae, and what all of its cases have in common."""

    volume: Volume
    vertebrae: Vertebrae
    profile: Profile
    seen: Volume | None  # the whole patient without the table, where X-rays are made of him
    meta: Mapping[str, object]


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
    """Write a case for each whole vertebra into `folder`-t1 and so on, and return them by id; raises `Rejected`."""
    if labels is None:
        raise Rejected("no label map beside it; each vertebra is cut out by its mask")
    volume = canonical(volume)
    for reason in (check.not_a_ct(volume), check.wrong_grid(volume.grid, profile, allow_short)):
        if reason:
            raise Rejected(reason)
    found = read_labels(labels, volume.grid)
    content, look = steps.content_hash(volume), likeness(volume)
    meta = {"content": content, "settings": settings, "values": "line_integral", "rays": profile.rays}
    scan = Scan(volume=volume, vertebrae=found, profile=profile, seen=_patient(volume, profile), meta=meta)
    left = {level: reason for level in found.levels if (reason := _unfit(level, scan))}
    told = [*notes, *found.notes, *(f"{level} left out: {reason}" for level, reason in left.items())]
    made = {}
    for level in found.levels:
        if level not in left:
            name = f"{folder.name}-{level.lower()}"
            _write(scan, level, folder.with_name(name), patient, told)
            first = not made  # what is of the whole CT is told once
            made[name] = Made(content=_of_level(content, level), likeness=look * first, notes=told * first)
    if not made:
        raise Rejected("; ".join(told) or "its label map holds none of T1 to L5")
    return made


def read_labels(path: Path, scan: Grid) -> Vertebrae:
    """The vertebrae of a label map in `scan`, canonical; a table of its numbers is looked for beside it."""
    volume = canonical(replace(io.read_ct(path), source=path.name))
    inside = resample.inside(volume.grid, scan)
    table = path.with_name(TABLE)
    found = from_label_map(volume, structures=table if table.is_file() else None)
    outside = [level for level in found.levels if not inside[found.box(level)].any()]
    if outside:
        raise Rejected(f"its label map {path.name} lies elsewhere: {', '.join(outside)} outside the CT")
    return found


def cut_out(volume: Volume, vertebrae: Vertebrae, level: str, *, size: int, spacing: float) -> Volume:
    """The vertebra alone, air around it, in the middle of a cube of `size` voxels of `spacing` mm."""
    mask, grid = vertebrae.part(level, EDGE)
    low, high = _reach_mm(vertebrae, level)
    cube = Grid.canonical((size,) * 3, spacing, tuple(np.round((low + high) / 2, 1).tolist()))
    share = resample.resampled(Volume(hu=mask.astype(np.float32), grid=grid), cube, outside=0.0).hu
    hu = resample.resampled(_near(volume, grid), cube).hu
    return Volume(hu=np.where(share > 0.5, hu, np.float32(AIR_HU)), grid=cube, source=volume.source)


def _of_level(content: str, level: str) -> str:
    """The hash of one vertebra of the scan with that hash."""
    return hashlib.sha256(f"{content} {level}".encode()).hexdigest()


def _reach_mm(vertebrae: Vertebrae, level: str) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest LPS position of a vertebra's voxels."""
    corners = vertebrae.part(level, 0)[1].corners_mm
    return corners.min(0), corners.max(0)


def _near(volume: Volume, grid: Grid) -> Volume:
    """The part of `volume` about `grid`."""
    ends = volume.grid.index(grid.corners_mm)
    first, last = np.floor(ends.min(0)).astype(int) - EDGE, np.ceil(ends.max(0)).astype(int) + EDGE
    box = tuple(slice(max(0, a), min(n, b + 1)) for a, b, n in zip(first, last, volume.hu.shape, strict=True))
    return resample.cut(volume, box)


def _unfit(level: str, scan: Scan) -> str | None:
    """Why the vertebra gives no case."""
    if level not in CLASSES:
        return f"not one of {CLASSES[0]} to {CLASSES[-1]}"
    if scan.vertebrae.cut_off(level):
        return "the scan ends within it"
    low, high = _reach_mm(scan.vertebrae, level)
    if (high - low).max() > scan.profile.side_mm - 2 * scan.profile.spacing:
        return f"{(high - low).max():.0f} mm long, more than the cube of {scan.profile.side_mm:g} mm holds"
    return None


def _patient(volume: Volume, profile: Profile) -> Volume | None:
    """The patient without the table, where the X-rays are made of him."""
    if profile.rays != "whole":
        return None
    found = steps.find_patient(volume, profile)
    clean, _ = steps.alone(found, profile, volume.grid)
    return replace(clean, hu=whole_hu(clean.hu, clean.source))


def _write(scan: Scan, level: str, folder: Path, patient: str, notes: Sequence[str]) -> None:
    """Write the case of one vertebra."""
    profile = scan.profile
    ct = cut_out(scan.volume, scan.vertebrae, level, size=profile.size, spacing=profile.spacing)
    ct = replace(ct, hu=whole_hu(ct.hu, scan.volume.source))
    first, *further = (
        (_xrays(scan, ct, beams), beams)
        for beams in (views.beams_about(profile, ct.grid), *views.further_beams(profile, ct.grid, folder.name))
    )
    write_case(
        folder,
        patient=patient,
        ct=ct,
        xrays=first[0],
        beams=first[1],
        further=further,
        source=ct if profile.keep_source else None,
        notes={
            **scan.meta,
            "vertebra": level,
            "class": CLASSES.index(level),
            "labels_from": scan.vertebrae.how,
            "moments": moments(ct.hu),
            "noticed": list(notes),
            "isocentre_lps_mm": ct.grid.centre_mm.tolist(),
        },
    )


def _xrays(scan: Scan, ct: Volume, beams: Mapping[View, Beam]) -> np.ndarray:
    """The X-rays of the vertebra, or of the whole patient about it."""
    if scan.seen is None:
        return views.line_integrals(ct, beams)
    seen, reason = views.before_panels(scan.seen, beams)
    if reason:
        raise Rejected(reason)
    return views.line_integrals(seen, beams)
