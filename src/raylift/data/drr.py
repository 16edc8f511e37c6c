"""X-rays made of one CT (DRRs), as files that say by themselves how they were taken."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from raylift import io
from raylift.data.exposure import PRESET_EXPOSURES, exposures, integrals, jittered
from raylift.data.prepare import profiles
from raylift.data.prepare.check import not_a_ct
from raylift.data.prepare.steps import cleaned
from raylift.data.prepare.views import before_panels, line_integrals
from raylift.errors import BadInput, GeometryError
from raylift.geometry import CONE_PRESETS, canonical, preset_beam
from raylift.io.files import whole_file
from raylift.physics import VACUUM_HU, Exposure
from raylift.types import Beam, Values, Vector, View, Volume, Xray

MM = (1.0, 1.5)  # the voxels that X-rays are projected from


def make_drr(
    ct_path: Path | str,
    out: Path | str,
    *,
    views: Sequence[View | str] = (View.PA, View.LAT),
    preset: str = "chest",
    pixels: int | None = None,
    isocentre_mm: Vector | None = None,
    keep_table: bool = False,
    exposure: Exposure | None = None,
    floor_hu: float | None = None,
    jitter_source_mm: float = 0.0,
    seed: int = 0,
) -> list[Xray]:
    """Write `<view>.dcm`, `.png` (16 bits, bone bright) and `.npy` of each view and one geometry.json into `out`.

    geometry.json holds the beams and what one grey level of each PNG stands for. The X-rays are line integrals of the
    whole CT without its table; their isocentre is where `prepare` would put the cube's centre: in the body's middle,
    at the height of the lungs where there are any.

    With an `exposure` (the preset `ear` has its own) they are what a detector measures; `exposure.values` says whether
    the files hold its intensities (1 in air) or line integrals estimated from them. Beside intensities, .npy has those
    line integrals and `<view>-look.png` shows them with bone bright. `jitter_source_mm` moves each view's source at
    random, and the beams written say so; `seed` fixes that and the noise. What lies below `floor_hu` adds nothing;
    XctNet's presets have a floor of their own. Files with a floor say that the scale of their values is not known.
    """
    views = [_view(view) for view in views]
    exposure = exposure or PRESET_EXPOSURES.get(preset)
    if not views or len(set(views)) != len(views):
        raise BadInput("name each view once, and at least one")
    xrays = xrays_of(
        io.read_ct(ct_path),
        views=views,
        preset=preset,
        pixels=pixels,
        isocentre_mm=isocentre_mm,
        keep_table=keep_table,
        exposure=exposure,
        floor_hu=floor_hu,
        jitter_source_mm=jitter_source_mm,
        seed=seed,
    )
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out} cannot be written ({error.strerror})") from None
    for xray in xrays:
        _write(xray, out, exposure)
    io.write_geometry(out / "geometry.json", xrays)
    return xrays


def xrays_of(
    volume: Volume,
    *,
    views: Sequence[View],
    preset: str = "chest",
    pixels: int | None = None,
    isocentre_mm: Vector | None = None,
    keep_table: bool = False,
    exposure: Exposure | None = None,
    floor_hu: float | None = None,
    jitter_source_mm: float = 0.0,
    seed: int = 0,
) -> list[Xray]:
    """The X-rays (line integrals, `exposure.values`, or unknown with a floor) of a CT in the preset's geometry, LPS."""
    reason = not_a_ct(volume)
    if reason:
        raise BadInput(f"{volume.source or 'the CT'}: {reason}")
    volume = canonical(volume)
    spacing = float(np.clip(min(volume.grid.spacing_mm), *MM))
    floor = _floor(preset, floor_hu, exposure)
    profile = replace(profiles.get("chest"), source_spacing=spacing, remove_table=not keep_table)
    clean, cube, _ = cleaned(volume, profile)
    centre = tuple(isocentre_mm or (float(c) for c in cube.centre_mm))
    beams = {view: preset_beam(view, preset, pixels=pixels, isocentre_mm=centre) for view in views}
    beams = jittered(beams, jitter_source_mm, seed)
    clean, behind = before_panels(clean, beams)
    if behind:
        raise GeometryError(f"{volume.source or 'the CT'}: {behind} ({preset}); {_roomier()}")
    if exposure is None:
        pictures = line_integrals(clean, beams, floor)
        values = "line_integral" if floor <= VACUUM_HU else "unknown"
    else:
        pictures, values = exposures(clean, beams, exposure, centre, seed), exposure.values
    return [
        _xray(picture, view, beam, centre, values)
        for picture, (view, beam) in zip(pictures, beams.items(), strict=True)
    ]


def _floor(preset: str, floor_hu: float | None, exposure: Exposure | None) -> float:
    """What is asked for, else what the preset has; a tube's photons know no floor."""
    if exposure is None:
        return profiles.get("chest", preset, floor_hu=floor_hu).floor_hu
    if floor_hu is not None:
        raise BadInput("a floor of the X-rays goes with line integrals alone; leave spectrum, noise and scatter out")
    return VACUUM_HU


def _xray(picture: np.ndarray, view: View, beam: Beam, centre: Vector, values: Values) -> Xray:
    return Xray(
        pixels=picture,
        pixel_mm=beam.pixel_mm,
        view=view,
        values=values,
        beam=beam,
        isocentre_mm=centre,
        source=f"{view}.dcm",
    )


def _write(xray: Xray, out: Path, exposure: Exposure | None) -> None:
    io.write_xray_dicom(xray, out / f"{xray.view}.dcm")
    io.write_xray_png(xray, out / f"{xray.view}.png")
    if xray.values == "intensity":
        xray = replace(xray, pixels=integrals(xray.pixels, exposure), values="line_integral")
        io.write_xray_png(xray, out / f"{xray.view}-look.png")
    with whole_file(out / f"{xray.view}.npy") as beside:
        np.save(beside, xray.pixels)


def _view(view: View | str) -> View:
    if view not in list(View):
        raise BadInput(f"no view '{view}': {', '.join(View)}")
    return View(view)


def _roomier() -> str:
    room = {name: to_detector - to_axis for name, (to_detector, to_axis, _, _) in CONE_PRESETS.items()}
    room = {name: mm for name, mm in room.items() if name not in PRESET_EXPOSURES}
    best = max(room, key=room.get)
    return f"preset '{best}' leaves {room[best]:g} mm behind the axis"
