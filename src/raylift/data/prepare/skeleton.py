"""What a profile keeps of the patient: all of him, or his skeleton in air."""

from dataclasses import replace

import numpy as np

from raylift.data.prepare.profiles import Profile
from raylift.data.prepare.resample import AIR_HU
from raylift.segment import bone
from raylift.types import Volume


def kept(volume: Volume, profile: Profile) -> Volume:
    """`volume`, or for a profile that keeps the skeleton the bones alone, air everywhere else."""
    if profile.keeps != "skeleton":
        return volume
    mask = bone.skeleton(volume.hu, volume.grid.spacing_mm)
    return replace(volume, hu=np.where(mask, volume.hu, np.float32(AIR_HU)))
