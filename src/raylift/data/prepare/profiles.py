"""What each kind of data set is made like: one declaration a profile, and no other place that knows its name."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

from raylift.errors import BadInput, unknown_name
from raylift.geometry import CONE_PRESETS
from raylift.physics import CHEST_WINDOW, VACUUM_HU, Target, Unit, ZScore
from raylift.types import View

STEPS_VERSION = 3  # raise it when a step's result changes: cases of another version are prepared again
BETWEEN_DEG = (20.0, 160.0)  # ours: views that lie closer to one line than this are one view
MOST_POSES = 1000  # ours
HIGHEST_FLOOR_HU = 1000.0  # ours: above it X-rays show metal alone

Kept = Literal["body", "skeleton", "vertebra"]
RaysOf = Literal["whole", "kept", "cube"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A cube of `size` voxels of `spacing` mm, what of the patient it holds, and how its X-rays are made."""

    name: str
    size: int  # voxels a side
    spacing: float  # mm
    target: Target  # a `ZScore` stands in for the training set's own, which the data set states
    preset: str  # in geometry.CONE_PRESETS
    pixels: int  # of the panel, a multiple of `size`
    shortest_mm: float  # a CT shorter than this along the body is rejected
    narrowest_mm: float = 150.0  # a CT narrower or flatter than this is rejected  # ours
    views: tuple[View, ...] = (View.PA, View.LAT)
    centre: Literal["lungs", "scan"] = "lungs"  # what the cube is centred on along the body
    keeps: Kept = "body"  # what of the CT the cube holds: all of the patient, the skeleton, one vertebra a case
    rays: RaysOf = "whole"  # made of the whole patient, of what is kept, or of what of that lies in the cube
    complete_rays: bool = True  # the cube is cut from all that the rays crossed
    floor_hu: float = VACUUM_HU  # in X-rays what lies below it adds nothing: `physics.hu_to_mu`
    gamma: float | None = None  # where the automatic gamma of a net's input puts a grey level equal to the mean
    angle_deg: float = 90.0  # between two views; another one turns the first about the body's axis
    poses: int = 0  # further pairs of X-rays a case, which differ in that angle alone
    between_deg: tuple[float, float] = (60.0, 140.0)  # what it is drawn from, evenly: EAR 4.3's range
    masks: bool = False  # body, bone, lungs and air of the cube stored beside it
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
CHEST_224 = replace(CHEST, name="chest-224", size=224, spacing=1.6, preset="chest-224", pixels=448)  # X-Recon
LUMBAR = Profile(
    name="lumbar",
    size=128,
    spacing=2.0,  # CVAA-GAN III.A: 2 mm, centre crop of 128 voxels
    target=Unit((-1000.0, 4096.0)),  # CVAA-GAN III.A: clipped, min-max on the fixed range
    preset="chest",
    pixels=256,
    shortest_mm=220.0,  # ours
    centre="scan",
)
SPINE_BONE = replace(
    LUMBAR,  # 3DSRNet resizes scans of any extent to 128 voxels; 2 mm is ours, as in models/threedsrnet.py
    name="spine-bone",
    target=Unit(CHEST_WINDOW),  # 3DSRNet, original code: 0 to 2500 of HU + 1024
    narrowest_mm=80.0,  # ours: VerSe's scans are often cut to the spine
    keeps="skeleton",  # 3DSRNet IV-A1: the skeleton is separated, then X-rayed
    rays="kept",
    gamma=0.5,  # ours: the 0.01 of 3DSRNet's formula makes the mean grey level black
)
VERTEBRA = Profile(
    name="vertebra",
    size=128,
    spacing=1.0,  # EAR 3.1 and 4.1: 1 mm, 128 voxels
    target=ZScore(mean=-935.0, sd=330.0),  # ours: see models/ear.py; used where no case is in train
    preset="ear",
    pixels=384,
    shortest_mm=40.0,  # ours: of the CT; whether a vertebra is whole is asked of each
    narrowest_mm=40.0,  # ours
    centre="scan",
    keeps="vertebra",
    rays="kept",  # EAR 4.1: X-rays of the vertebra that was cut out
    poses=4,  # ours
    keep_source=False,  # the cube holds all of it, at its own spacing
)

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        CHEST,
        CHEST_224,
        LUMBAR,
        SPINE_BONE,
        VERTEBRA,
        replace(CHEST_224, name="pneumothorax", masks=True),  # X-Recon's assessment
    )
}

# Geometries of papers project the CT cropped to the cube, as their code does. XctNet's X-rays and target, each with
# its origin: models/xctnet.py has the same target.
XCTNET_TARGET = Unit((-1000.0, 2000.0))  # ours: the paper says [0, 1] only, its code scales each volume by itself
PAPERS: dict[str, dict[str, object]] = {
    "x2ct": {},
    "xctnet-paper": {"floor_hu": -80.0, "target": XCTNET_TARGET},  # XctNet 3.1: its threshold is printed as "L80"
    "xctnet-code": {"floor_hu": -600.0, "target": XCTNET_TARGET},  # XctNet's DRR tool: threshold -600
}


def get(
    name: str,
    preset: str | None = None,
    *,
    rays: str | None = None,
    gamma: float | None = None,
    angle_deg: float | None = None,
    poses: int | None = None,
    between_deg: tuple[float, float] | None = None,
    floor_hu: float | None = None,
) -> Profile:
    """The profile of that name, with another geometry where `preset` names one, and the rest where it is given."""
    if name not in PROFILES:
        raise unknown_name("profile", name, PROFILES)
    profile = PROFILES[name]
    if preset is not None and preset != profile.preset:
        if preset not in CONE_PRESETS:
            raise unknown_name("geometry preset", preset, CONE_PRESETS)
        profile = _with_preset(profile, preset)
    if rays is not None:
        profile = _with_rays(profile, rays)
    given = {"gamma": gamma, "angle_deg": angle_deg, "poses": poses, "between_deg": between_deg, "floor_hu": floor_hu}
    profile = replace(profile, **{key: value for key, value in given.items() if value is not None})
    _check(profile)
    return profile


def _with_preset(profile: Profile, preset: str) -> Profile:
    """`profile` with another geometry, and with what else that paper does where it holds the whole body."""
    everything = "whole" if profile.keeps == "body" else "kept"
    further = PAPERS.get(preset, {}) if profile.keeps == "body" else {}
    return replace(profile, preset=preset, rays="cube" if preset in PAPERS else everything, **further)


def _with_rays(profile: Profile, rays: str) -> Profile:
    """`profile` with X-rays of something else; those of the whole patient say more than a part of him can explain."""
    if rays not in RaysOf.__args__:
        raise unknown_name("kind of rays", rays, RaysOf.__args__)
    if profile.keeps == "body":
        return replace(profile, rays="whole" if rays == "kept" else rays)
    more = rays == "whole"
    return replace(profile, rays=rays, complete_rays=not more, keep_source=profile.keep_source and not more)


def _check(profile: Profile) -> None:
    """Refuses settings that cannot be meant."""
    (low, high), (least, most) = profile.between_deg, BETWEEN_DEG
    if not low <= high or not all(least <= angle <= most for angle in (low, profile.angle_deg, high)):
        raise BadInput(
            f"angles between the views lie between {least:g} and {most:g} degrees, not {low:g} to {high:g} and "
            f"{profile.angle_deg:g}"
        )
    if not 0 <= profile.poses <= MOST_POSES:
        raise BadInput(f"a case has 0 to {MOST_POSES} further poses, not {profile.poses}")
    if not VACUUM_HU <= profile.floor_hu <= HIGHEST_FLOOR_HU:
        raise BadInput(
            f"the floor of the X-rays lies between {VACUUM_HU:g} and {HIGHEST_FLOOR_HU:g} HU, not at "
            f"{profile.floor_hu:g}"
        )
    if profile.floor_hu > VACUUM_HU and profile.keeps != "body":
        raise BadInput(
            f"{profile.name} keeps the {profile.keeps} alone; a floor of the X-rays has nothing to leave out"
        )
    if profile.gamma is not None and not 0 < profile.gamma < 1:
        raise BadInput(f"the automatic gamma aims at a grey level between 0 and 1, not at {profile.gamma:g}")


def settings_hash(profile: Profile, allow_short: bool) -> str:
    """What two cases share when they were made in the same way."""
    made = asdict(profile)
    del made["gamma"]  # it is a net's, not the stored X-rays'
    told = {"profile": made, "preset": CONE_PRESETS[profile.preset], "short": allow_short}
    told |= {"target": repr(profile.target), "steps": STEPS_VERSION}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
