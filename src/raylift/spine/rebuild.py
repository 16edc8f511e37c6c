"""From two X-rays and places to single vertebrae: each reconstructed about its own place, by any model.

A model of the profile `vertebra` (EAR) makes one cube for each place. Any other model (SART, a chest network) makes
one volume for all, which is divided among the places by planes half-way between neighbours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from raylift import consistency
from raylift.data.prepare import profiles
from raylift.data.prepare.resample import resampled
from raylift.errors import BadInput
from raylift.estimate import choose, cube_of, infer, run
from raylift.geometry import cone_beam, preset_beam, shadow
from raylift.inputs import Shot
from raylift.models import Model
from raylift.panels import for_net, for_rays
from raylift.physics import hu_to_mu, mu_to_hu
from raylift.projector import project
from raylift.segment.bone import bone_begins_hu
from raylift.segment.measure import directions
from raylift.segment.stitch import Piece, piece
from raylift.segment.vertebrae import Vertebrae
from raylift.spine.places import Place
from raylift.types import ConeBeam, Grid, View, Volume, Xray

VERTEBRA = "vertebra"  # the profile whose models make one vertebra at a time
SIDE, SPACING_MM = 128, 1.0  # EAR 3.1: of a single vertebra's cube
PANEL_MARGIN_MM = 60.0  # ours: beyond the outermost vertebra
FILM_PIXEL_MM = 0.84  # ours: half of the chest panel's, so that a vertebra keeps its outline
REACH_MM = 55.0  # ours: no part of a vertebra lies further from the middle of its bone
AIR_HU = -1000.0


def film_beams(points_mm, pixel_mm: float = FILM_PIXEL_MM) -> dict[str, ConeBeam]:
    """PA and lateral beams of a chest stand (1800 and 1500 mm) about the points' middle; the panels hold them all."""
    points = np.asarray(points_mm, float)
    middle = tuple((points.max(0) + points.min(0)) / 2)
    beams, away = {}, []
    for view in (View.PA, View.LAT):
        stand = dict(source_to_detector_mm=1800, source_to_axis_mm=1500, detector_mm=100, pixels=100)
        beams[str(view)] = cone_beam(view, **stand, isocentre_mm=middle)
        away.append(np.abs(shadow(beams[str(view)], points) - 49.5).max(0))  # pixels of 1 mm
    side = np.max(away, 0) + PANEL_MARGIN_MM
    pixels = tuple(int(n) for n in np.ceil(2 * side / pixel_mm))
    return {view: replace(beam, pixels=pixels, pixel_mm=(pixel_mm, pixel_mm)) for view, beam in beams.items()}


def alone(ct: Volume, vertebrae: Vertebrae, level: str, margin: int = 3) -> Volume:
    """One vertebra cut out by its mask, air about it."""
    box = vertebrae.box(level, margin)
    mask, grid = vertebrae.part(level, margin)
    hu = np.where(mask, ct.hu[box], AIR_HU).astype(np.float32)
    return Volume(hu=hu, grid=grid, source=level)


def cube_about(place: Place, model: Model | None = None) -> Grid:
    """The cube of a place: the model's own, or 128 voxels of 1 mm."""
    if model is not None and model.profile == VERTEBRA:
        return cube_of(model, place.centre_mm)
    return Grid.canonical((SIDE,) * 3, SPACING_MM, place.centre_mm)


def true_piece(truth: Vertebrae, place: Place) -> Piece:
    """The true vertebra in the place's cube, as if it had been reconstructed without error."""
    mask, grid = truth.part(place.level, 3)
    filled = Volume(hu=mask.astype(np.float32), grid=grid, source=place.level)
    cube = cube_about(place)
    return piece(place.level, resampled(filled, cube, outside=0.0).hu, cube, 0.5)


def piece_alone(ct: Volume, truth: Vertebrae, place: Place, model: Model, net: nn.Module) -> Piece:
    """One vertebra of X-rays of it alone (EAR 4.1), in the place's cube; refined by nothing."""
    cube = cube_about(place, model)
    one = alone(ct, truth, place.level)
    preset = profiles.get(VERTEBRA).preset
    size = model.size if model.profile == VERTEBRA else SIDE
    beams = [preset_beam(view, preset, pixels=size, isocentre_mm=place.centre_mm) for view in model.views]
    xrays = project(torch.from_numpy(hu_to_mu(one.hu)), one.grid, beams)
    if model.name == "sart":  # the cube holds all that the rays cross
        hu = mu_to_hu(consistency.sart(xrays, beams, cube))
    elif model.profile == VERTEBRA:
        hu = infer(model, net, xrays, [b.moved(-np.asarray(place.centre_mm)) for b in beams], refine=False)
    else:
        raise BadInput(f"{model.name} makes no single vertebra; give --rays whole, or a model of the profile vertebra")
    return piece(place.level, hu.cpu().numpy(), cube)


def film_shots(ct: Volume, beams: Mapping[str, ConeBeam]) -> list[Shot]:
    """The X-rays (line integrals) of the whole CT on these beams."""
    mu = torch.from_numpy(hu_to_mu(ct.hu.astype(np.float32)))
    pictures = project(mu, ct.grid, list(beams.values())).numpy()
    return [
        Shot(
            xray=Xray(
                pixels=picture, pixel_mm=beam.pixel_mm, view=View(view), values="line_integral", beam=beam, source=view
            ),
            model_view=View(view),
            geometry_from="file",
        )
        for (view, beam), picture in zip(beams.items(), pictures, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """The vertebrae's pieces, and what must be told about them."""

    pieces: tuple[Piece, ...]
    notes: tuple[str, ...] = ()


@torch.no_grad()
def pieces_of(
    shots: Sequence[Shot],
    places: Mapping[str, Place],
    model: Model,
    net: nn.Module,
    *,
    begins: float | None = None,
    on_done: Callable[[str], None] | None = None,
) -> Rebuilt:
    """Each place's vertebra from X-rays of the whole patient; `begins` is where bone begins (HU), else it is found."""
    if model.profile != VERTEBRA:
        volume = _whole(shots, places, model, net)
        cut = bone_begins_hu(volume.hu) if begins is None else begins
        note = f"{model.name} made one volume; above {cut:.0f} HU it was divided among the vertebrae"
        return Rebuilt(pieces=divided(volume, places, cut), notes=(note,))
    pieces, notes = [], {f"{model.name} knows X-rays of single vertebrae; these show the whole patient": None}
    for level, place in places.items():
        if model.told_geometry:
            xrays, beams = for_rays(shots, model, place.centre_mm)
        else:
            xrays, more = for_net(shots, model, place.centre_mm)
            beams = [shot.xray.beam.moved(-np.asarray(place.centre_mm)) for shot in shots]
            notes |= {f"{level}, {note}": None for note in more}
        hu = infer(model, net, xrays, beams, refine=False)
        pieces.append(piece(level, hu.cpu().numpy(), cube_about(place, model), begins))
        if on_done is not None:
            on_done(level)
    return Rebuilt(pieces=tuple(pieces), notes=tuple(notes))


def _whole(shots, places: Mapping[str, Place], model: Model, net: nn.Module) -> Volume:
    """The model's one volume about the middle of all places."""
    centre = tuple(float(x) for x in np.mean([p.centre_mm for p in places.values()], 0))
    choice = choose(None, model, shots)
    xrays, beams = for_rays(shots, model, centre)
    pictures = None if model.told_geometry else for_net(shots, model, centre)[0]
    found = run(model, net, xrays, beams, choice, pictures)
    return Volume(hu=found.hu.cpu().numpy(), grid=cube_of(model, centre), source=model.name)


def divided(volume: Volume, places: Mapping[str, Place], begins: float) -> tuple[Piece, ...]:
    """What of one volume belongs to which place: between the planes half-way to the neighbours, REACH_MM at most."""
    names = list(places)
    points = np.array([places[name].centre_mm for name in names])
    along = np.array(list(directions(dict(zip(names, points, strict=True))).values()))
    pieces = []
    for k, name in enumerate(names):
        cube = Grid.canonical((SIDE,) * 3, SPACING_MM, places[name].centre_mm)
        hu = resampled(volume, cube).hu
        where = cube.world(np.stack(np.meshgrid(*map(np.arange, cube.shape), indexing="ij"), -1))
        keep = np.linalg.norm(where - points[k], axis=-1) < REACH_MM
        for other, sign in ((k - 1, 1), (k + 1, -1)):  # above, below
            if len(names) > 1:
                ends = not 0 <= other < len(names)  # beyond the last place, as far as to its only neighbour
                middle = (points[k] + points[other]) / 2 if not ends else (3 * points[k] - points[2 * k - other]) / 2
                normal = along[k] if ends else along[k] + along[other]
                keep &= sign * ((where - middle) @ normal) < 0
        pieces.append(piece(name, np.where(keep, hu, np.minimum(hu, AIR_HU)), cube, begins))
    return tuple(pieces)
