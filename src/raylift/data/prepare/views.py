"""The X-rays of a CT: always projected from 1 to 1.5 mm voxels, of the whole CT or of the part in the cube."""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch

from raylift.data.prepare.profiles import Profile
from raylift.data.prepare.resample import cut, resampled
from raylift.geometry import depth_along, preset_beam
from raylift.physics import VACUUM_HU, hu_to_mu
from raylift.projector import project
from raylift.types import Beam, Grid, View, Volume

CUBE_MM = 1.25  # voxels of the part in the cube  # ours


def beams_about(profile: Profile, cube: Grid, angle_deg: float | None = None) -> dict[View, Beam]:
    """The profile's beams with the cube's centre as their isocentre, absolute LPS.

    Of two views the first is turned about the body's axis until there are `angle_deg` between them, else the profile's.
    """
    turn = 90.0 - (profile.angle_deg if angle_deg is None else angle_deg)
    turns = [turn if k == 0 and len(profile.views) == 2 else 0.0 for k in range(len(profile.views))]
    place = dict(pixels=profile.pixels, isocentre_mm=tuple(float(c) for c in cube.centre_mm))
    return {
        view: preset_beam(view, profile.preset, primary_deg=by, **place)
        for view, by in zip(profile.views, turns, strict=True)
    }


def further_beams(profile: Profile, cube: Grid, name: str) -> list[dict[View, Beam]]:
    """The beams of the profile's further poses; the angles depend on the case's name alone, whoever prepares it."""
    drawn = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    return [beams_about(profile, cube, float(a)) for a in drawn.uniform(*profile.between_deg, profile.poses).round(1)]


def crossed(volume: Volume, cube: Grid, profile: Profile) -> Volume:
    """What the rays cross of `volume`: all of it, or what lies in the cube."""
    if profile.rays != "cube":
        return volume
    count = round(profile.side_mm / CUBE_MM)
    return resampled(volume, Grid.canonical((count,) * 3, profile.side_mm / count, tuple(cube.centre_mm)))


def before_panels(volume: Volume, beams: Mapping[View, Beam]) -> tuple[Volume | None, str | None]:
    """`volume` cut to lie before every panel, or the reason why it cannot be without cutting the body (> -1000 HU)."""
    keep = [np.arange(n) for n in volume.hu.shape]
    for view, beam in beams.items():
        axis = 1 if view.axis == "frontal" else 2
        ends = np.array([[0.0 if k != axis else i for k in range(3)] for i in keep[axis]])
        last = np.array(volume.hu.shape) - 1
        opposite = ends + np.where(np.arange(3) == axis, 0, last)
        behind = np.minimum(depth_along(beam, volume.grid.world(ends)), depth_along(beam, volume.grid.world(opposite)))
        clear = behind > volume.grid.spacing_mm[axis]  # half a voxel and some room
        lost = np.delete(np.arange(volume.hu.shape[axis]), keep[axis][clear])
        if len(lost) and (np.take(volume.hu, lost, axis) > -999).any():
            return None, f"the body reaches behind the panel of the {view} view"
        keep[axis] = keep[axis][clear]
    return cut(volume, tuple(slice(int(k[0]), int(k[-1]) + 1) for k in keep)), None


def line_integrals(volume: Volume, beams: Mapping[View, Beam], floor_hu: float = VACUUM_HU) -> np.ndarray:
    """X-rays (V rows cols) of `volume`, float32 line integrals; what lies below `floor_hu` adds nothing."""
    mu = np.empty(volume.hu.shape, np.float32)
    for plane, hu in zip(mu, volume.hu, strict=True):
        plane[:] = hu_to_mu(hu.astype(np.float32), floor_hu=floor_hu)
    return project(torch.from_numpy(mu), volume.grid, list(beams.values()), backend="cpu").numpy()
