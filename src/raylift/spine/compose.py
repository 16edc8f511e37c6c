"""The ways to a spine: measured on a label map, composed of X-rays and places, or both side by side in a study."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from raylift import DISCLAIMER, __version__
from raylift.errors import BadInput, unknown_name
from raylift.inputs import read_shots
from raylift.models import Model
from raylift.reconstruct import device_of, find_model, load_net
from raylift.segment.measure import Body, angles, measure_all
from raylift.segment.stitch import Piece, stitch
from raylift.segment.vertebrae import Vertebrae
from raylift.spine.compare import compare, measure_pieces, measured_beside
from raylift.spine.places import Place, find_places, project_places, read_places
from raylift.spine.rebuild import VERTEBRA, film_beams, film_shots, piece_alone, pieces_of, true_piece
from raylift.types import Volume

TRUTH = "truth"  # the model that gives the true vertebra back, to test placing and stitching
RAYS = ("vertebra", "whole")


@dataclass(frozen=True, kw_only=True, eq=False)
class Spine:
    """A spine, nothing of it written yet: label map, bodies, and, in a study, the truth and the table beside it."""

    vertebrae: Vertebrae
    bodies: dict[str, Body]
    manifest: dict[str, Any]
    truth: Vertebrae | None = None
    pixels: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)


def measured(vertebrae: Vertebrae, *, source: str = "") -> Spine:
    """The bodies and angles of a label map."""
    began = perf_counter()
    bodies, failed = measure_all(vertebrae)
    manifest = _about(source=source, how=vertebrae.how) | {
        "notes": list(vertebrae.notes),
        "confidence": vertebrae.confidence,
        **_measures(bodies, failed),
        "runtime_s": {"measure": round(perf_counter() - began, 2)},
    }
    return Spine(vertebrae=vertebrae, bodies=bodies, manifest=manifest)


def study(
    ct: Volume,
    truth: Vertebrae,
    *,
    model: str = TRUTH,
    rays: str = "vertebra",
    levels: Sequence[str] | None = None,
    device: str | None = None,
    on_done: Callable[[str], None] | None = None,
) -> Spine:
    """A spine whose truth is known, composed again of X-rays made of its CT, with the table of errors.

    The places are where the true centroids (for a model of the profile `vertebra` the middles of the boxes, as in its
    training) appear in a PA and a lateral X-ray, to a hundredth of a pixel. `rays`
    'vertebra': each vertebra X-rayed alone, as EAR's were; 'whole': the whole patient. Vertebrae that the scan cuts off
    are left out. `model` 'truth' gives each true vertebra back: what then is wrong is placing and stitching alone.
    """
    if rays not in RAYS:
        raise unknown_name("kind of rays", rays, RAYS)
    began = perf_counter()
    asked = [level for level in truth.levels if levels is None or level in levels]
    used = [level for level in asked if not truth.cut_off(level)]
    if not used:
        raise BadInput(f"{ct.source or 'the CT'}: none of the levels asked for lies wholly in the scan")
    declared, net = (None, None) if model == TRUTH else _model(model, device)
    boxed = declared is not None and declared.profile == VERTEBRA  # such a model was trained on cubes about boxes
    centres = {level: truth.middle_mm(level) if boxed else truth.centroid_mm(level) for level in used}
    beams = film_beams(list(centres.values()))
    pixels = {
        level: {view: tuple(round(x, 2) for x in spot) for view, spot in views.items()}
        for level, views in project_places(centres, beams).items()
    }
    places = find_places(pixels, beams)
    pieces, notes, about = _study_pieces(ct, truth, places, beams, declared, net, rays, on_done)
    found = _composed(pieces, places, model)
    bodies, failed = measure_pieces(pieces)
    true_bodies, _ = measure_all(truth)
    manifest = _about(source=ct.source, how=found.how) | {
        "model": about,
        "rays": rays if model != TRUTH else None,
        "notes": [*truth.notes, *_left_out(asked, used), *notes],
        "places": _told(places),
        **_measures(bodies, failed),
        "table": compare(pieces, places, truth, centres),
        "beside": measured_beside(bodies, true_bodies),
        "runtime_s": {"total": round(perf_counter() - began, 2)},
    }
    return Spine(vertebrae=found, bodies=bodies, manifest=manifest, truth=truth, pixels=pixels)


def _study_pieces(ct, truth, places, beams, declared: Model | None, net, rays: str, on_done):
    if declared is None:
        return [true_piece(truth, place) for place in places.values()], [], {"name": TRUTH}
    about = {"name": declared.name, "paper": declared.paper}
    with torch.no_grad():
        if rays == "whole":
            built = pieces_of(film_shots(ct, beams), places, declared, net, on_done=on_done)
            return list(built.pieces), list(built.notes), about
        pieces = []
        for level, place in places.items():
            pieces.append(piece_alone(ct, truth, place, declared, net))
            if on_done is not None:
                on_done(level)
    return pieces, [], about


def compose(
    pa: Path | str,
    lateral: Path | str,
    places: Path | str,
    *,
    model: str,
    spacing: float | None = None,
    geometry: Path | str | None = None,
    lateral_faces: str | None = None,
    begins_hu: float | None = None,
    device: str | None = None,
    on_done: Callable[[str], None] | None = None,
) -> Spine:
    """The spine of two X-ray files, its vertebrae where the places' file says that they are."""
    began = perf_counter()
    declared, net = _model(model, device)
    pixels = read_places(places)
    options = {"spacing": spacing, "geometry": geometry, "lateral_faces": lateral_faces}
    shots, _, notes = read_shots([Path(pa), Path(lateral)], declared, **options)
    found_places = find_places(pixels, {str(shot.model_view): shot.xray.beam for shot in shots})
    built = pieces_of(shots, found_places, declared, net, begins=begins_hu, on_done=on_done)
    found = _composed(built.pieces, found_places, model)
    bodies, failed = measure_pieces(built.pieces)
    manifest = _about(source="two X-rays", how=found.how) | {
        "model": {"name": declared.name, "paper": declared.paper},
        "rays": "whole",
        "notes": [*notes, *built.notes],
        "places": _told(found_places),
        **_measures(bodies, failed),
        "runtime_s": {"total": round(perf_counter() - began, 2)},
    }
    return Spine(vertebrae=found, bodies=bodies, manifest=manifest, pixels=pixels)


def _model(name: str, device: str | None) -> tuple[Model, torch.nn.Module]:
    declared, folder = find_model(name)
    if len(declared.views) != 2 and declared.profile != VERTEBRA:
        raise BadInput(f"{declared.name} takes one X-ray; a spine is composed of two")
    return declared, load_net(declared, folder).to(device_of(device)).eval()


def _composed(pieces: Sequence[Piece], places: dict[str, Place], model: str) -> Vertebrae:
    found = stitch(pieces, how=f"composed of single vertebrae by {Path(model).name}")  # a run's folder lies anywhere
    found.confidence.update({level: 1.0 for level in found.levels if level in places})
    return found


def _about(**more: Any) -> dict[str, Any]:
    return {"program": "raylift", "version": __version__, "disclaimer": DISCLAIMER, "frame": "LPS, mm", **more}


def _told(places: dict[str, Place]) -> dict[str, Any]:
    return {level: {"centre_mm": list(p.centre_mm), "gap_mm": p.gap_mm} for level, p in places.items()}


def _measures(bodies: dict[str, Body], failed: dict[str, str]) -> dict[str, Any]:
    return {
        "bodies": {level: body.record() for level, body in bodies.items()},
        "not_measured": failed,
        "angles": angles(bodies),
    }


def _left_out(asked: Sequence[str], used: Sequence[str]) -> list[str]:
    cut = [level for level in asked if level not in used]
    return [f"{', '.join(cut)} left out: the scan ends within them"] if cut else []
