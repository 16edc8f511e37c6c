"""A composed spine beside the true one: where each vertebra lies, how much of it overlaps, how far the surfaces are."""

from collections.abc import Mapping, Sequence

import numpy as np

from raylift.errors import BadInput
from raylift.metrics.surface import assd, hd95, signed_surface_distance
from raylift.segment.measure import Body, angles, cobb_deg, directions, measure
from raylift.segment.stitch import Piece, stitch
from raylift.segment.vertebrae import VERSE, Vertebrae
from raylift.spine.places import Place

HEIGHTS = ("anterior_mm", "middle_mm", "posterior_mm", "wedge_deg")


def compare(
    pieces: Sequence[Piece], places: Mapping[str, Place], truth: Vertebrae, marked: Mapping[str, np.ndarray]
) -> list[dict]:
    """A row a level, from the head down: distances in mm, Dice in [0, 1]; all on the truth's own grid.

    `placed_mm` is how far the place lies from the point that was `marked` (LPS mm), `centroid_mm` how far the
    reconstructed bone's centroid lies from the true one, and `_voxels` the same in the truth's own voxels along the
    axis where they are most. `signed_mm` is negative where the reconstruction is too small.
    """
    found = stitch(pieces, truth.grid)
    rows = []
    for each in pieces:
        level = each.level
        true = truth.centroid_mm(level)
        row: dict = {"level": level, "gap_mm": places[level].gap_mm}
        row |= _apart("placed", places[level].centre_mm, marked[level], truth)
        if level not in found.spans:
            rows.append(row | {"dice": 0.0, "failed": "nothing of it was reconstructed"})
            continue
        row |= _apart("centroid", found.centroid_mm(level), true, truth)
        a, b = _both(found, truth, level)
        spacing = truth.grid.spacing_mm
        row["dice"] = float(2 * (a & b).sum() / (a.sum() + b.sum()))
        row |= {"assd_mm": assd(a, b, spacing), "hd95_mm": hd95(a, b, spacing)}
        row["signed_mm"] = signed_surface_distance(a, b, spacing)
        rows.append(row)
    return rows


def _apart(name: str, found, true, truth: Vertebrae) -> dict:
    voxels = np.abs(truth.grid.index(np.asarray(found, float)) - truth.grid.index(true)).max()
    return {
        f"{name}_mm": float(np.linalg.norm(np.asarray(found, float) - true)),
        f"{name}_voxels": float(voxels),
    }


def _both(found: Vertebrae, truth: Vertebrae, level: str):
    """Both masks of a level in the smallest box that holds the two."""
    boxes = [v.spans[level] for v in (found, truth)]
    box = tuple(
        slice(max(0, min(s.start for s in sides) - 1), max(s.stop for s in sides) + 1)
        for sides in zip(*boxes, strict=True)
    )
    return tuple(v.labels[box] == VERSE[level] for v in (found, truth))


def measure_pieces(pieces: Sequence[Piece]) -> tuple[dict[str, Body], dict[str, str]]:
    """The body of each piece, and the reason for each in which none was found."""
    axes = directions({p.level: p.grid.centre_mm for p in pieces})
    bodies, failed = {}, {}
    for each in pieces:
        try:
            bodies[each.level] = measure(each.mask, each.grid, axis=axes[each.level], name=each.level)
        except BadInput as error:
            failed[each.level] = str(error)
    return bodies, failed


def measured_beside(found: Mapping[str, Body], true: Mapping[str, Body]) -> dict:
    """Heights, wedges and angles of both, level by level, and the mean and largest absolute error of each kind.

    Angles are those between levels that both have.
    """
    both = [level for level in true if level in found]
    rows = [
        {"level": level}
        | {name: _value(found[level], name) for name in HEIGHTS}
        | {f"true_{name}": _value(true[level], name) for name in HEIGHTS}
        for level in both
    ]
    errors = {
        name: {"mean_abs": float(np.mean(gaps)), "max_abs": float(np.max(gaps)), "n": len(gaps)}
        for name in HEIGHTS
        if (gaps := [abs(row[name] - row[f"true_{name}"]) for row in rows])
    }
    told = {"levels": rows, "errors": errors}
    told |= {"angles": angles({k: found[k] for k in both}), "true_angles": angles({k: true[k] for k in both})}
    curve = told["true_angles"]["cobb"]
    if curve and curve["upper"] in found and curve["lower"] in found:
        told["cobb_at_true_levels_deg"] = cobb_deg(found, curve["upper"], curve["lower"])
    return told


def _value(body: Body, name: str) -> float:
    return float(getattr(body, name))
