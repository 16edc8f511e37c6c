"""From X-ray files to shots: which file is which view, where its beam stood, and what of that had to be guessed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from raylift import io
from raylift.errors import BadInput
from raylift.geometry import CONE_PRESETS, cone_beam
from raylift.models import Model
from raylift.types import Vector, View, Xray

APART_MM = 1.0  # ours: isocentres further apart than this are told


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One X-ray as it will be used: placed in the world, with what is known of it and what was guessed."""

    xray: Xray  # its `beam` and `view` are set
    model_view: View  # the view of the model that it stands for
    geometry_from: str  # 'file' or 'guessed'

    @property
    def calibrated(self) -> bool:
        """True where beam and line integrals come from the file or the geometry given."""
        return self.geometry_from == "file" and self.xray.values == "line_integral"


def read_shots(paths: Sequence[Path], model: Model, *, spacing=None, geometry=None, lateral_faces=None):
    """The files' shots in the order of the model's views, the isocentre (LPS mm), and notes on what was guessed."""
    options = {"spacing": spacing, "geometry": geometry, "lateral_faces": lateral_faces}
    check_count(paths, model)
    xrays = [io.read_xray(path, **options) for path in paths]
    order = order_of(xrays, model.views)
    notes = [] if order == sorted(order) else ["The files were given in the other order; their tags say which is which"]
    paths, xrays = [paths[k] for k in order], [xrays[k] for k in order]
    for index, (xray, view) in enumerate(zip(xrays, model.views, strict=True)):
        if xray.view is None:  # read again as what it is taken for: a lateral hangs otherwise
            xrays[index] = io.read_xray(paths[index], view=view, **options)
            notes.append(f"{view}: the file does not say which view it shows; taken as {view} because of its place")
    isocentre, more = isocentre_of(xrays)
    shots = [placed(xray, view, isocentre) for xray, view in zip(xrays, model.views, strict=True)]
    notes += more
    for shot in shots:
        notes += [f"{shot.model_view}: {note}" for note in (*shot.xray.notes, *_guesses(shot))]
    return shots, isocentre, notes


def check_count(paths: Sequence[Path], model: Model) -> None:
    """Raises where there are not as many X-rays as the model has views."""
    if len(paths) != len(model.views):
        wanted = "one X-ray" if len(model.views) == 1 else f"{len(model.views)} X-rays"
        raise BadInput(f"{model.name} takes {wanted} ({', '.join(model.views)}), not {len(paths)}")


def order_of(xrays: Sequence[Xray], views: Sequence[View]) -> list[int]:
    """Which X-ray is which of `views`, by what the files say; one that says nothing takes the place that is left."""
    wanted, said = [v.axis for v in views], [x.view.axis if x.view else None for x in xrays]
    for axis in ("frontal", "lateral"):
        names = [x.source for x, a in zip(xrays, said, strict=True) if a == axis]
        if len(names) > wanted.count(axis):
            raise BadInput(f"{' and '.join(names)}: {axis} by tag, but the model takes {' and '.join(wanted)}")
    given = list(range(len(xrays)))
    fits = all(s in (None, w) for s, w in zip(said, wanted, strict=True))
    return given if fits else given[::-1]


def isocentre_of(xrays: Sequence[Xray]) -> tuple[Vector, list[str]]:
    """Where the result will be centred: the first isocentre that a file states, else LPS 0."""
    stated = [x.isocentre_mm for x in xrays if x.isocentre_mm is not None]
    if not stated:
        return (0.0, 0.0, 0.0), ["No file states the isocentre; the CT is centred on LPS 0"]
    apart = max(float(np.linalg.norm(np.subtract(point, stated[0]))) for point in stated)
    if apart > APART_MM:
        return stated[0], [f"The files' isocentres lie {apart:.0f} mm apart; the first was taken"]
    return stated[0], []


def placed(xray: Xray, view: View, isocentre: Vector) -> Shot:
    """The X-ray with a beam: its own, or the chest stand's at the picture's own panel."""
    view = xray.view if xray.view is not None else view
    if xray.beam is not None:
        return Shot(xray=replace(xray, view=view), model_view=_stands_for(view), geometry_from="file")
    if xray.pixel_mm is None:
        raise BadInput(f"{xray.source}: does not say how large a pixel is; give it in mm with --spacing")
    to_detector, to_axis, _, _ = CONE_PRESETS["chest"]
    beam = cone_beam(
        view,
        source_to_detector_mm=to_detector,
        source_to_axis_mm=to_axis,
        detector_mm=tuple(n * s for n, s in zip(xray.pixels.shape, xray.pixel_mm, strict=True)),
        pixels=xray.pixels.shape,
        isocentre_mm=isocentre,
    )
    return Shot(xray=replace(xray, view=view, beam=beam), model_view=_stands_for(view), geometry_from="guessed")


def _stands_for(view: View) -> View:
    """The pose that models know for this view's axis."""
    return View.PA if view.axis == "frontal" else View.LAT


def _guesses(shot: Shot) -> list[str]:
    """What was assumed of this X-ray beyond what reading it told."""
    told = []
    if shot.geometry_from == "guessed":
        to_detector, to_axis, _, _ = CONE_PRESETS["chest"]
        told.append(
            f"Guessed geometry: a chest stand, {to_detector:g} mm from source to detector and {to_axis:g} mm to the "
            "patient's axis, the panel centred; --geometry states the true one"
        )
    if shot.xray.values == "intensity":
        told.append("Unattenuated intensity is not stated; the picture's brightest part was taken for it")
    elif shot.xray.values == "unknown":
        told.append("The scale of its grey levels is not known; no absolute attenuation can be read from it")
    return told
