"""The spine of a CT that is assessed: measured on its label map; on a reconstruction, beside the true one."""

from collections.abc import Mapping
from itertools import pairwise
from math import acos, degrees
from os import PathLike
from typing import Any

import numpy as np

from raylift.errors import BadInput
from raylift.geometry import canonical
from raylift.io import read_ct
from raylift.segment.bone import bone_begins_hu
from raylift.segment.column import from_bone
from raylift.segment.measure import Body, angles, measure_all
from raylift.segment.stitch import stitch
from raylift.segment.vertebrae import DOWN, Vertebrae, from_label_map
from raylift.spine.compare import measure_pieces, measured_beside
from raylift.spine.compose import Spine, measured
from raylift.spine.places import Place
from raylift.spine.rebuild import divided
from raylift.types import Volume

WITHIN_MM = 20.0  # ours: half a vertebral body; one whose middle is nearer to the cube's side is cut
TOLD = ("how", "source", "notes", "confidence", "bodies", "not_measured", "doubts", "angles", "beside")
FLESH_HU = 50.0  # ours: a volume whose densest part begins below shows no bone
HEIGHT_SHARE = (0.4, 1.05)  # ours: of the way from a body's middle to its neighbours'; LIDC-IDRI-0001 has up to 0.96
DISC_DEG = 25.0  # ours: no disc is wedged more


def vertebrae_of(
    ct: Volume,
    labels: str | PathLike | None = None,
    *,
    numbering: str | None = None,
    structures: str | PathLike | None = None,
    lowest: str | None = None,
) -> Vertebrae:
    """The vertebrae of an upright CT: those of a label map's file, or those found by bone, counted up from `lowest`."""
    if labels is None:
        return from_bone(ct, lowest=lowest)
    return from_label_map(canonical(read_ct(labels)), numbering=numbering, structures=structures)


def spine_of(ct: Volume, vertebrae: Vertebrae, *, model: str | None = None) -> Spine:
    """A CT's spine as measured on its `vertebrae`; with a `model`, the CT is its reconstruction and they the truth.

    The reconstruction's bone is then divided half-way between the true vertebrae's centroids.
    """
    spine = measured(vertebrae, source=ct.source) if model is None else _reconstructed(ct, vertebrae, model)
    spine.manifest["doubts"] = doubts(spine.bodies)
    return spine


def doubts(bodies: Mapping[str, Body]) -> dict[str, str]:
    """Why a level's measures cannot be true beside those of its neighbours, level by level from the head down."""
    names = sorted(bodies, key=DOWN.__getitem__)
    found = {}
    for upper, lower in pairwise(names):
        if DOWN[lower] - DOWN[upper] > (2 if (upper, lower) == ("T12", "L1") else 1):  # T13 stands between these two
            continue
        above, below = bodies[upper], bodies[lower]
        apart = float(np.linalg.norm(np.subtract(above.centre_mm, below.centre_mm)))
        for name, body in ((upper, above), (lower, below)):
            share = (body.anterior_mm + body.posterior_mm) / 2 / max(apart, 1e-6)
            if not HEIGHT_SHARE[0] < share < HEIGHT_SHARE[1]:
                found[name] = f"its height is {100 * share:.0f} % of the way between {upper} and {lower}"
        disc = _angle_deg(above.inferior.normal, below.superior.normal)
        if disc > DISC_DEG:
            found.setdefault(lower, f"the endplates about the disc above it are {disc:.0f}° apart")
    return found


def _angle_deg(a, b) -> float:
    return degrees(acos(float(np.clip(np.dot(a, b), -1, 1))))


def told(spine: Spine) -> dict[str, Any]:
    """What a JSON file says of a spine."""
    return {name: spine.manifest[name] for name in TOLD if name in spine.manifest}


def _reconstructed(ct: Volume, truth: Vertebrae, model: str) -> Spine:
    places, notes = _places(ct, truth)
    begins = bone_begins_hu(ct.hu)
    if begins < FLESH_HU or not (ct.hu > begins).any():
        return _boneless(ct, truth, f"{model}'s volume shows no bone: what is densest in it begins at {begins:.0f} HU")
    pieces = divided(ct, places, begins)
    found = stitch(pieces, how=f"{model}'s volume above {begins:.0f} HU, divided among the true vertebrae")
    bodies, failed = measure_pieces(pieces)
    true, not_true = measure_all(truth)
    manifest = {
        "how": found.how,
        "source": ct.source,
        "notes": [*truth.notes, *notes],
        "bodies": {level: body.record() for level, body in bodies.items()},
        "not_measured": failed | {level: f"not even on its label map: {why}" for level, why in not_true.items()},
        "angles": angles(bodies),
        "beside": measured_beside(bodies, true),
    }
    return Spine(vertebrae=found, bodies=bodies, manifest=manifest, truth=truth)


def _boneless(ct: Volume, truth: Vertebrae, why: str) -> Spine:
    """Nothing measured, and the truth beside it: slabs cut by the true places would look like vertebrae."""
    empty = Vertebrae(labels=np.zeros_like(truth.labels), grid=truth.grid, how="nothing measured")
    manifest = {
        "how": empty.how,
        "source": ct.source,
        "notes": [*truth.notes, why],
        "bodies": {},
        "not_measured": {},
        "angles": angles({}),
        "beside": measured_beside({}, {}) | {"true_angles": angles(measure_all(truth)[0])},
    }
    return Spine(vertebrae=empty, bodies={}, manifest=manifest, truth=truth)


def _places(ct: Volume, truth: Vertebrae) -> tuple[Mapping[str, Place], list[str]]:
    """Where the true vertebrae lie that are whole in the scan and in the reconstruction's cube."""
    places, left_out = {}, []
    margin = WITHIN_MM / np.array(ct.grid.spacing_mm)
    for level in truth.levels:
        centre = truth.centroid_mm(level)
        index = ct.grid.index(centre)
        if truth.cut_off(level) or (index < margin).any() or (index > np.array(ct.hu.shape) - 1 - margin).any():
            left_out.append(level)
        else:
            places[level] = Place(level=level, centre_mm=tuple(float(x) for x in centre), gap_mm=0.0)
    if not places:
        raise BadInput(f"{ct.source or 'the reconstruction'}: no vertebra of the label map lies wholly in it")
    notes = [f"{', '.join(left_out)} left out: not wholly in scan and reconstruction"] if left_out else []
    return places, notes
