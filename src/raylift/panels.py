"""A shot's picture on a panel: its own at the model's size, or the one that a net's training X-rays had."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from raylift.data.prepare import profiles
from raylift.errors import BadInput
from raylift.geometry import preset_beam, shadow
from raylift.inputs import Shot
from raylift.models import Model
from raylift.models.raylift import NOMINAL_RANGE
from raylift.physics import intensity_to_line_integral
from raylift.segment.bone import bone_xray
from raylift.types import Beam, ConeBeam, Vector, View, Xray

COVERED = 0.98  # ours: a panel seen by less than this is told


def line_integrals(xray: Xray, *, nominal: bool) -> Float[np.ndarray, "rows cols"]:
    """The picture with dense high: line integrals where its scale is known.

    Where it is not, and `nominal` is true, its 0.5 and 99.5 percentiles are laid on NOMINAL_RANGE.
    """
    pixels = xray.pixels
    if xray.values == "line_integral":
        return pixels
    if xray.values == "intensity":
        air = float(np.percentile(pixels, 99.9))
        if air <= 0:
            raise BadInput(f"{xray.source}: said to hold intensities, but most of it is 0 or less")
        return intensity_to_line_integral(pixels, air).clip(0).astype(np.float32)
    if not nominal:
        return pixels
    low, high = np.percentile(pixels, [0.5, 99.5])
    first, last = NOMINAL_RANGE
    unit = (pixels - low) / max(float(high - low), 1e-6)
    return (first + unit.clip(0) * (last - first)).astype(np.float32)


def wants_skeletons(model: Model) -> bool:
    """True where the model's training X-rays show the skeleton alone."""
    return profiles.get(model.profile).keeps == "skeleton" and model.complete_rays


def skeletons(shots: Sequence[Shot]) -> tuple[list[Shot], list[str]]:
    """The shots with what stands out of the flesh in each picture, its scale unknown, and notes that it is a guess."""
    pictures = [line_integrals(shot.xray, nominal=False).astype(np.float32) for shot in shots]
    bones = [bone_xray(p, shot.xray.beam.pixel_mm) for p, shot in zip(pictures, shots, strict=True)]
    seen = [
        replace(shot, xray=replace(shot.xray, pixels=picture, values="unknown"))
        for shot, picture in zip(shots, bones, strict=True)
    ]
    told = "the skeleton was separated from the picture by what stands out of the flesh, which is a guess; "
    return seen, [f"{shot.model_view}: {told}--no-bone leaves the picture as it is" for shot in shots]


def averaged(values: Float[np.ndarray, "..."], *counts: int) -> Float[np.ndarray, "..."]:
    """A picture or volume of the same outline in other pixels or voxels, each the mean of what it covers."""
    for axis, count in enumerate(counts):
        values = np.moveaxis(np.tensordot(_overlap(values.shape[axis], count), values, (1, axis)), 0, axis)
    return values.astype(np.float32)


def _overlap(old: int, new: int) -> Float[np.ndarray, "n o"]:
    """How much of each new pixel each old one fills; the rows' sums are 1."""
    edges = np.arange(new + 1) * (old / new)
    start, end = np.maximum.outer(edges[:-1], np.arange(old)), np.minimum.outer(edges[1:], np.arange(old) + 1)
    return (end - start).clip(0) * (new / old)


def panel_of(model: Model, view: View, isocentre: Vector = (0.0, 0.0, 0.0)) -> ConeBeam:
    """The beam and panel that the model's training X-rays of this view had, binned to the model's size."""
    preset = profiles.get(model.profile).preset
    return preset_beam(view, preset, pixels=model.size, isocentre_mm=isocentre)


def same_outline(a: Beam, b: Beam, tolerance_mm: float = 1e-3) -> bool:
    """True where both have the same source or rays and the same panel, whatever its pixels."""
    if type(a) is not type(b):
        return False
    corner = np.array([(0, 0), (0, 1), (1, 0)])[:, ::-1]
    ends = [
        np.asarray(x.detector_centre_mm)
        + (corner[:, :1] - 0.5) * x.size_mm[1] * np.asarray(x.column_dir)
        + (corner[:, 1:] - 0.5) * x.size_mm[0] * np.asarray(x.row_dir)
        for x in (a, b)
    ]
    if np.abs(ends[0] - ends[1]).max() > tolerance_mm:
        return False
    if isinstance(a, ConeBeam):
        return bool(np.abs(np.subtract(a.source_mm, b.source_mm)).max() <= tolerance_mm)
    return bool(np.abs(np.subtract(a.ray_dir, b.ray_dir)).max() <= 1e-6)


def on_panel(picture: Float[np.ndarray, "rows cols"], beam: Beam, panel: ConeBeam, isocentre: Vector):
    """The picture as `panel` would have shown it, exact for what lies in the plane through the isocentre.

    Also gives the share of the panel that the picture covers; the rest is filled with the picture's lowest value.
    """
    if same_outline(beam, panel):
        return averaged(picture, *panel.pixels), 1.0
    source, spots = np.asarray(panel.source_mm), panel.pixel_centres_mm()
    points = source + (spots - source) / panel.magnification(isocentre)
    place = shadow(beam, points)  # rows cols 2
    step = [max(1.0, float(np.abs(np.diff(place[..., k], axis=k)).mean())) for k in (0, 1)]
    rows, columns = (max(1, round(n / s)) for n, s in zip(beam.pixels, step, strict=True))
    picture = averaged(picture, rows, columns)
    place = (place + 0.5) / beam.pixels  # 0..1 over the picture
    inside = ((place >= 0) & (place <= 1)).all(-1)
    seen = _sampled(torch.from_numpy(picture), torch.from_numpy(place)).numpy()
    return np.where(inside, seen, picture.min()).astype(np.float32), float(inside.mean())


def _sampled(picture: Float[Tensor, "rows cols"], place: Float[Tensor, "r c 2"]) -> Float[Tensor, "r c"]:
    """The picture, interpolated, at places given as shares (row, column) of its height and width."""
    where = (2 * place - 1).flip(-1)[None].to(picture)
    return F.grid_sample(picture[None, None], where, padding_mode="border", align_corners=False)[0, 0]


def for_rays(shots: Sequence[Shot], model: Model, isocentre: Vector):
    """X-rays (V rows cols) on their own panels at the model's size, and their beams about the cube's centre."""
    pictures = [averaged(line_integrals(s.xray, nominal=True), model.size, model.size) for s in shots]
    beams = tuple(s.xray.beam.resized(model.size, model.size).moved(-np.asarray(isocentre)) for s in shots)
    return torch.from_numpy(np.stack(pictures)), beams


def for_net(shots: Sequence[Shot], model: Model, isocentre: Vector) -> tuple[Float[Tensor, "V rows cols"], list[str]]:
    """X-rays (V rows cols) on the panels that a net knows that is not told the geometry, and notes."""
    pictures, notes = [], []
    for shot in shots:
        nominal = model.xray_values == "line_integral"
        picture = line_integrals(shot.xray, nominal=nominal)
        panel = panel_of(model, shot.model_view, isocentre)
        seen, covered = on_panel(picture, shot.xray.beam, panel, isocentre)
        pictures.append(seen)
        if covered < COVERED:
            notes.append(f"{shot.model_view}: shows {covered:.0%} of what {model.name} was trained to see")
    return torch.from_numpy(np.stack(pictures)), notes
