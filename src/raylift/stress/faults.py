"""What goes wrong in an X-ray room, each fault as a function of its severity."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, radians, sin

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from raylift.physics import MU_WATER, intensity_to_line_integral, line_integral_to_intensity
from raylift.physics.materials import METAL_DENSITY, attenuation
from raylift.types import Beam, ConeBeam, Grid, Vector, Volume

TITANIUM_HU = (float(attenuation("titanium", 60.0)) * METAL_DENSITY["titanium"] / 10 / MU_WATER - 1) * 1000
METAL_AT_MM = (40.0, -60.0, 30.0)  # ours: left, front and above the cube's centre, where a pacemaker lies
Picture = Float[Tensor, "V rows cols"]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What an X-ray room holds: the patient, the beams as they really stand, and the cube that is asked for."""

    volume: Volume
    beams: tuple[Beam, ...]  # absolute LPS, at the model's pixels
    cube: Grid


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault, its severities in words of `unit`, and what it does to the scene before or the pictures after."""

    unit: str
    severities: tuple[float, ...]
    before: Callable[[Scene, float], Scene] = lambda scene, severity: scene
    after: Callable[[Picture, float, torch.Generator], Picture] = lambda picture, severity, generator: picture
    least_views: int = 1


def turned(beam: Beam, degrees: float, centre_mm: Vector) -> Beam:
    """The beam turned about the body's axis through `centre_mm`, from the front to the patient's left."""
    c, s = cos(radians(degrees)), sin(radians(degrees))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    place = lambda point: tuple(turn @ np.subtract(point, centre_mm) + centre_mm)  # noqa: E731
    moved = {"detector_centre_mm": place(beam.detector_centre_mm)}
    moved |= {name: tuple(turn @ getattr(beam, name)) for name in ("column_dir", "row_dir")}
    if isinstance(beam, ConeBeam):
        return replace(beam, **moved, source_mm=place(beam.source_mm))
    return replace(beam, **moved, ray_dir=tuple(turn @ beam.ray_dir))


def _angle(scene: Scene, degrees: float) -> Scene:
    *others, last = scene.beams
    return replace(scene, beams=(*others, turned(last, degrees, tuple(scene.cube.centre_mm))))


def _spacing(scene: Scene, share: float) -> Scene:
    wider = [replace(b, pixel_mm=tuple(mm * (1 + share) for mm in b.pixel_mm)) for b in scene.beams]
    return replace(scene, beams=tuple(wider))


def _shift(scene: Scene, mm: float) -> Scene:
    """The patient slides by `mm` to the feet before the last exposure, so the beam stands higher."""
    *others, last = scene.beams
    return replace(scene, beams=(*others, last.moved((0.0, 0.0, mm))))


def _metal(scene: Scene, radius_mm: float) -> Scene:
    """A titanium ball in the chest; the truth has it too."""
    grid = scene.volume.grid
    centre = scene.cube.centre_mm + METAL_AT_MM
    axes = [np.arange(n) for n in grid.shape]
    first = grid.affine[:3, 3]
    squared = sum(
        ((first[axis] + grid.affine[axis, k] * steps - centre[axis]) ** 2).reshape(
            [-1 if j == k else 1 for j in range(3)]
        )
        for k, (axis, steps) in enumerate(zip((2, 1, 0), axes, strict=True))
    )
    hu = np.where(squared < radius_mm**2, TITANIUM_HU, scene.volume.hu.astype(np.float32))
    return replace(scene, volume=replace(scene.volume, hu=hu.astype(np.float32)))


def _collimated(picture: Picture, open_share: float, generator: torch.Generator) -> Picture:
    """Black, as a shutter is shown, outside the middle `open_share` of each side."""
    rows, columns = (round(n * (1 - open_share) / 2) for n in picture.shape[-2:])
    kept = torch.zeros_like(picture)
    inner = (..., slice(rows, picture.shape[-2] - rows), slice(columns, picture.shape[-1] - columns))
    kept[inner] = picture[inner]
    return kept


def _noisy(picture: Picture, photons: float, generator: torch.Generator) -> Picture:
    """Quantum noise of so many photons a pixel in air; a pixel without a photon counts as one with half a photon."""
    counts = torch.poisson(line_integral_to_intensity(picture.double(), photons), generator=generator)
    return intensity_to_line_integral(counts, photons, darkest=0.5 / photons).to(picture.dtype)


FAULTS: dict[str, Fault] = {
    "none": Fault(unit="", severities=(0.0,)),
    "angle": Fault(unit="degrees off", severities=(5.0, 10.0, 20.0), before=_angle),
    "spacing": Fault(unit="of the pixel spacing", severities=(-0.3, -0.1, 0.1, 0.3), before=_spacing),
    "shift": Fault(unit="mm between the exposures", severities=(5.0, 10.0, 20.0), before=_shift, least_views=2),
    "collimation": Fault(unit="of each side left open", severities=(0.9, 0.75, 0.5), after=_collimated),
    "noise": Fault(unit="photons a pixel in air", severities=(1e5, 1e4, 1e3), after=_noisy),
    "metal": Fault(unit="mm, radius of a titanium ball", severities=(5.0, 10.0, 20.0), before=_metal),
    "swapped": Fault(unit="", severities=(1.0,), after=lambda x, severity, generator: x.flip(0), least_views=2),
}
