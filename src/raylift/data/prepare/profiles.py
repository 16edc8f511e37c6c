"""What each kind of data set is made like: one declaration a profile, and no other place that knows its name."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

from raylift.errors import unknown_name
from raylift.geometry import CONE_PRESETS
from raylift.physics import CHEST_WINDOW, Target, Unit
from raylift.types import View

STEPS_VERSION = 1  # raise it when a step's result changes: cases of another version are prepared again


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A cube of `size` voxels of `spacing` mm, its target, and how its X-rays are made."""

    name: str
    size: int  # voxels a side
    spacing: float  # mm
    target: Target
    preset: str  # in geometry.CONE_PRESETS
    pixels: int  # of the panel, a multiple of `size`
    shortest_mm: float  # a CT shorter than this along the body is rejected
    views: tuple[View, ...] = (View.PA, View.LAT)
    centre: Literal["lungs", "scan"] = "lungs"  # what the cube is centred on along the body
    rays: Literal["whole", "cube"] = "whole"  # what the X-rays are made of
    complete_rays: bool = True  # the target is cut from all that the rays crossed
    remove_table: bool = True
    keep_source: bool = True
    source_spacing: float = 1.5  # mm; of source.npy, which the X-rays are projected from  # ours
    thickest_mm: float = 6.0  # the largest distance between slices  # ours

    @property
    def side_mm(self) -> float:
        """Length of the cube's edge."""
        return self.size * self.spacing


CHEST = Profile(
    name="chest",
    size=128,
    spacing=2.5,  # X2CT-GAN 4.1: 320 mm, 128 voxels
    target=Unit(CHEST_WINDOW),
    preset="chest",
    pixels=256,
    shortest_mm=280.0,  # ours
)

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        CHEST,
        replace(CHEST, name="chest-224", size=224, spacing=1.6, preset="chest-224", pixels=448),  # X-Recon
        Profile(
            name="lumbar",
            size=128,
            spacing=2.0,  # CVAA-GAN: 2 mm, centre crop of 128 voxels
            target=Unit((-1000.0, 4096.0)),  # CVAA-GAN: clipped, min-max on the fixed range
            preset="chest",
            pixels=256,
            shortest_mm=220.0,  # ours
            centre="scan",
        ),
    )
}

# the papers' own geometries project the CT cropped to the cube, as their code does
CUBE_PRESETS = ("x2ct", "xctnet-paper", "xctnet-code")


def get(name: str, preset: str | None = None) -> Profile:
    """The profile of that name, with another geometry where `preset` names one."""
    if name not in PROFILES:
        raise unknown_name("profile", name, PROFILES)
    profile = PROFILES[name]
    if preset is None or preset == profile.preset:
        return profile
    if preset not in CONE_PRESETS:
        raise unknown_name("geometry preset", preset, CONE_PRESETS)
    return replace(profile, preset=preset, rays="cube" if preset in CUBE_PRESETS else "whole")


def settings_hash(profile: Profile, allow_short: bool) -> str:
    """What two cases share when they were made in the same way."""
    told = {"profile": asdict(profile), "preset": CONE_PRESETS[profile.preset], "short": allow_short}
    told |= {"target": repr(profile.target), "steps": STEPS_VERSION}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
