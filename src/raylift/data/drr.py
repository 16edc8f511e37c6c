"""X-rays made of one CT (DRRs), as files that say by themselves how they were taken."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from raylift import io
from raylift.data.atomic import write_file
from raylift.data.prepare import profiles
from raylift.data.prepare.check import not_a_ct
from raylift.data.prepare.steps import cleaned
from raylift.data.prepare.views import before_panels, line_integrals
from raylift.errors import BadInput, GeometryError
from raylift.geometry import CONE_PRESETS, canonical, preset_beam
from raylift.types import Beam, Vector, View, Volume, Xray

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
) -> list[Xray]:
    """Write `<view>.dcm`, `.png` (16 bits, bone bright) and `.npy` of each view and one geometry.json into `out`.

    geometry.json holds the beams and what one grey level of each PNG stands for. The X-rays are line integrals of the
    whole CT without its table; their isocentre is where `prepare` would put the cube's centre: in the body's middle,
    at the height of the lungs where there are any.
    """
    views = [_view(view) for view in views]
    if not views or len(set(views)) != len(views):
        raise BadInput("name each view once, and at least one")
    xrays = xrays_of(
        io.read_ct(ct_path),
        views=views,
        preset=preset,
        pixels=pixels,
        isocentre_mm=isocentre_mm,
        keep_table=keep_table,
    )
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out} cannot be written ({error.strerror})") from None
    for xray in xrays:
        _write(xray, out)
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
) -> list[Xray]:
    """The X-rays (line integrals) of a CT in the preset's geometry about its isocentre, absolute LPS."""
    reason = not_a_ct(volume)
    if reason:
        raise BadInput(f"{volume.source or 'the CT'}: {reason}")
    volume = canonical(volume)
    spacing = float(np.clip(min(volume.grid.spacing_mm), *MM))
    profile = replace(profiles.get("chest"), source_spacing=spacing, remove_table=not keep_table)
    clean, cube, _ = cleaned(volume, profile)
    centre = tuple(isocentre_mm or (float(c) for c in cube.centre_mm))
    beams = {view: preset_beam(view, preset, pixels=pixels, isocentre_mm=centre) for view in views}
    clean, behind = before_panels(clean, beams)
    if behind:
        raise GeometryError(f"{volume.source or 'the CT'}: {behind} ({preset}); {_roomier()}")
    pictures = line_integrals(clean, beams)
    return [_xray(picture, view, beam, centre) for picture, (view, beam) in zip(pictures, beams.items(), strict=True)]


def _xray(picture: np.ndarray, view: View, beam: Beam, centre: Vector) -> Xray:
    return Xray(
        pixels=picture,
        pixel_mm=beam.pixel_mm,
        view=view,
        values="line_integral",
        beam=beam,
        isocentre_mm=centre,
        source=f"{view}.dcm",
    )


def _write(xray: Xray, out: Path) -> None:
    io.write_xray_dicom(xray, out / f"{xray.view}.dcm")
    write_file(out / f"{xray.view}.npy", lambda partial: _save(partial, xray.pixels))
    io.write_xray_png(xray, out / f"{xray.view}.png")


def _save(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as file:  # np.save would append a suffix
        np.save(file, array)


def _view(view: View | str) -> View:
    if view not in list(View):
        raise BadInput(f"no view '{view}': {', '.join(View)}")
    return View(view)


def _roomier() -> str:
    room = {name: to_detector - to_axis for name, (to_detector, to_axis, _, _) in CONE_PRESETS.items()}
    best = max(room, key=room.get)
    return f"preset '{best}' leaves {room[best]:g} mm behind the axis"
