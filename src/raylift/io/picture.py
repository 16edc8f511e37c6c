"""From what a file shows to an X-ray as it hangs on a light box: spacing, orientation, and the beam that made it."""

from dataclasses import dataclass, field, replace

import numpy as np

from raylift.errors import BadInput, GeometryError
from raylift.geometry import cone_beam
from raylift.io.geometry_file import Geometry, ViewGeometry
from raylift.types import Beam, Values, Vector, View, Xray

PIXEL_MM = (0.005, 100.0)  # ours: finer or coarser is a slip of the pen; test panels are coarse
PANEL_MM = (1.0, 5000.0)  # ours: the side of a panel
UPRIGHT = {"frontal": ("L", "F"), "lateral": ("P", "F")}  # where columns and rows grow on a light box
OPPOSITE = dict(["LR", "RL", "AP", "PA", "HF", "FH"])
ANGLE = {View.PA: 0.0, View.LAT: 90.0, View.AP: 180.0, View.RLAT: -90.0}  # DICOM's primary angle of each pose
MAX_TURN_DEG = 45.0  # ours: a positioner further off its view's pose is not believed


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What one file says of itself. `pixels` as `types.Xray` has them; `grey` the file's numbers as stored."""

    pixels: np.ndarray
    grey: np.ndarray
    values: Values = "unknown"
    own_scale: bool = False  # `grey` are line integrals already: a geometry's scale is not for them
    letters: tuple[str, str] | None = None  # where columns and rows grow: L R A P H F
    view: View | None = None
    pixel_mm: tuple[float, float] | None = None
    beam: Beam | None = None
    isocentre_mm: Vector | None = None
    source_to_detector_mm: float | None = None
    magnification: float | None = None
    angles_deg: tuple[float, float] | None = None
    notes: tuple[str, ...] = field(default=())


def to_xray(
    picture: Picture,
    name: str,
    *,
    spacing: float | tuple[float, float] | None = None,
    view: View | None = None,
    lateral_faces: str | None = None,
    geometry: Geometry | None = None,
    needs_spacing: bool = True,
) -> Xray:
    """The X-ray in canonical order. `geometry` wins over `spacing`, which wins over the file's own tags."""
    check_pixels(picture.pixels, name)
    if geometry is not None:
        picture, view = _with_geometry(picture, _entry(geometry, picture, name, view), geometry, name)
    picture, view = _with_view(picture, view)
    if spacing is not None and picture.beam is None:
        picture = replace(picture, pixel_mm=_pair(spacing))
    elif spacing is not None and not np.allclose(_pair(spacing), picture.beam.pixel_mm, rtol=1e-3):
        picture = _noted(picture, "The spacing given was not used: the geometry states the panel's")
    if picture.beam is not None:
        picture = replace(picture, pixel_mm=picture.beam.pixel_mm)
    if picture.pixel_mm is not None:
        check_spacing(picture.pixel_mm, picture.pixels.shape, name)
    elif needs_spacing:
        raise BadInput(f"{name}: does not say how large a pixel is; give it in mm with --spacing")
    picture = _upright(picture, view, lateral_faces, name)
    beam, notes = _beam(picture, view, name)
    return Xray(
        pixels=np.ascontiguousarray(picture.pixels, dtype=np.float32),
        pixel_mm=picture.pixel_mm,
        view=view,
        values=picture.values,
        beam=beam,
        isocentre_mm=picture.isocentre_mm,
        source=name,
        notes=(*picture.notes, *notes),
    )


def check_pixels(pixels: np.ndarray, name: str) -> None:
    """Raises for a picture that is empty, constant or not finite."""
    if pixels.size == 0:
        raise BadInput(f"{name}: an empty picture")
    if not np.isfinite(pixels).all():
        raise BadInput(f"{name}: holds values that are not finite (NaN or infinite)")
    if pixels.min() == pixels.max():
        raise BadInput(f"{name}: every pixel has the same value; this is no X-ray")


def check_spacing(pixel_mm: tuple[float, float], shape: tuple[int, ...], name: str) -> None:
    """Raises for a pixel size that no panel has."""
    if not all(np.isfinite(s) and PIXEL_MM[0] <= s <= PIXEL_MM[1] for s in pixel_mm):
        raise BadInput(f"{name}: a pixel of {pixel_mm[0]:g} x {pixel_mm[1]:g} mm is absurd; give it with --spacing")
    sides = [n * s for n, s in zip(shape, pixel_mm, strict=True)]
    if not all(PANEL_MM[0] <= side <= PANEL_MM[1] for side in sides):
        raise BadInput(f"{name}: a panel of {sides[0]:g} x {sides[1]:g} mm is absurd; give --spacing")


def _pair(spacing: float | tuple[float, float]) -> tuple[float, float]:
    pair = np.broadcast_to(np.asarray(spacing, float), 2)
    return float(pair[0]), float(pair[1])


def _noted(picture: Picture, *notes: str) -> Picture:
    return replace(picture, notes=(*picture.notes, *notes))


def _entry(geometry: Geometry, picture: Picture, name: str, view: View | None) -> ViewGeometry:
    """The geometry's entry for this file: by the view given, the file's own, its name, or the only one there is."""
    stem = name.split(".")[0].upper()
    wanted = view or picture.view or (View(stem) if stem in View.__members__ else None)
    if wanted is None and len(geometry.views) == 1:
        return geometry.views[0]
    found = [entry for entry in geometry.views if entry.view == wanted]
    if not found:
        known = ", ".join(entry.view for entry in geometry.views)
        raise BadInput(f"{name}: the geometry has {known}, and not {wanted or 'a view that fits'}; name it with --view")
    return found[0]


def _with_geometry(picture: Picture, entry: ViewGeometry, geometry: Geometry, name: str) -> tuple[Picture, View]:
    if entry.beam.pixels != picture.pixels.shape:
        raise GeometryError(
            f"{name}: the picture has {picture.pixels.shape} pixels, its geometry says {entry.beam.pixels}"
        )
    picture = replace(
        picture, beam=entry.beam, isocentre_mm=geometry.isocentre_mm, letters=_letters(entry.beam), angles_deg=None
    )
    if picture.own_scale or entry.values == "unknown":
        return picture, entry.view
    pixels = picture.grey * np.float32(entry.scale if entry.values == "line_integral" else 1.0)
    return replace(picture, pixels=pixels, values=entry.values), entry.view


def _letters(beam: Beam) -> tuple[str, str]:
    """Where a beam's columns and rows grow, as DICOM's letters."""
    pairs = ("RL", "AP", "FH")  # LPS: negative and positive end of each axis
    ends = []
    for direction in (beam.column_dir, beam.row_dir):
        axis = int(np.argmax(np.abs(direction)))
        ends.append(pairs[axis][direction[axis] > 0])
    return ends[0], ends[1]


def _with_view(picture: Picture, view: View | None) -> tuple[Picture, View | None]:
    """The view that was asked for, else the file's own; where they disagree a note says so."""
    if view is None:
        return picture, picture.view
    view = View(view)
    if picture.view is not None and picture.view.axis != view.axis:
        picture = _noted(picture, f"The file says it is {picture.view}, but it was given as {view}")
        if picture.beam is not None and picture.own_scale:
            picture = _noted(picture, "Its own beam was kept")
    return picture, view


def _upright(picture: Picture, view: View | None, lateral_faces: str | None, name: str) -> Picture:
    """The picture turned and mirrored so that it hangs as on a light box; a beam turns with it."""
    letters = _cross(picture.letters)
    axis = view.axis if view else "lateral" if letters and set(letters) & set("AP") else "frontal"
    if letters and not set(letters) & set(UPRIGHT[axis][0] + OPPOSITE[UPRIGHT[axis][0]]):
        picture = _noted(picture, f"Its PatientOrientation does not fit a {axis} view and was not used")
        letters = None
    if letters is None:
        faces = lateral_faces or "left"
        if faces not in ("left", "right"):
            raise BadInput(f"{name}: a lateral faces left or right, not {faces!r}")
        letters = UPRIGHT[axis] if axis == "frontal" or faces == "left" else ("A", "F")
        if axis == "frontal":
            picture = _noted(picture, "Taken to hang as on a light box, the patient's right at the viewer's left")
        elif lateral_faces is None:
            picture = _noted(picture, "The lateral was taken to face left; if not, say --lateral-faces right")
    return _turned(picture, letters, UPRIGHT[axis])


def _cross(letters: tuple[str, str] | None) -> tuple[str, str] | None:
    """The letters if one runs along the body and one across it, else None."""
    if letters is None or len({letter in "HF" for letter in letters}) != 2:
        return None
    return letters


def _turned(picture: Picture, letters: tuple[str, str], wanted: tuple[str, str]) -> Picture:
    pixels, beam, pixel_mm = picture.pixels, picture.beam, picture.pixel_mm
    if letters[0] in "HF":
        pixels, letters = pixels.T, letters[::-1]
        pixel_mm = pixel_mm[::-1] if pixel_mm else None
        if beam:
            beam = replace(
                beam,
                column_dir=beam.row_dir,
                row_dir=beam.column_dir,
                pixels=beam.pixels[::-1],
                pixel_mm=beam.pixel_mm[::-1],
            )
    for axis, grows, side in ((1, "column_dir", 0), (0, "row_dir", 1)):
        if letters[side] != wanted[side]:
            pixels = np.flip(pixels, axis)
            if beam:
                beam = replace(beam, **{grows: tuple(-x + 0.0 for x in getattr(beam, grows))})
    return replace(picture, pixels=pixels, beam=beam, pixel_mm=pixel_mm, letters=wanted)


def _beam(picture: Picture, view: View | None, name: str) -> tuple[Beam | None, tuple[str, ...]]:
    """The file's own beam, or one from its distances, centred on LPS 0; with what was assumed."""
    if picture.beam is not None:
        return picture.beam, ()
    distance, magnification = picture.source_to_detector_mm, picture.magnification
    if distance is None or magnification is None or view is None or picture.pixel_mm is None:
        return None, ()
    if not (100 <= distance <= 10_000 and 1 <= magnification <= 10):  # ours: beyond, no X-ray stand
        return None, (f"Distances of {distance:g} mm and a magnification of {magnification:g} were not believed",)
    turn, tilt, notes = 0.0, 0.0, ["The patient is taken to stand at LPS 0: the file does not say where"]
    if picture.angles_deg is not None:
        turn = (picture.angles_deg[0] - ANGLE[view] + 180) % 360 - 180
        tilt = picture.angles_deg[1]
        if max(abs(turn), abs(tilt)) > MAX_TURN_DEG:
            notes.append(f"Its positioner's angles do not fit {view} and were not used")
            turn = tilt = 0.0
    size = tuple(n * s for n, s in zip(picture.pixels.shape, picture.pixel_mm, strict=True))
    beam = cone_beam(
        view,
        source_to_detector_mm=distance,
        source_to_axis_mm=distance / magnification,
        detector_mm=size,
        pixels=picture.pixels.shape,
        primary_deg=turn,
        secondary_deg=tilt,
    )
    return beam, tuple(notes)
