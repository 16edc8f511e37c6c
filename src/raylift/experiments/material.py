"""Data sets of phantoms for the experiments: drawn, X-rayed and split here, the same for the same size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import avg_pool3d

from raylift.consistency import cut
from raylift.data import store
from raylift.data.phantom import LABELS, Phantom, pneumothorax, torso, vertebra
from raylift.data.phantom.anatomy import VERTEBRAE
from raylift.data.prepare import profiles
from raylift.data.records import target_record
from raylift.data.split import split_hash
from raylift.errors import unknown_name
from raylift.experiments.spec import Size
from raylift.geometry import preset_beam, support
from raylift.io.files import write_json
from raylift.physics import Target, Unit, ZScore, hu_to_mu
from raylift.projector import project
from raylift.types import Beam, Grid, View, Volume

AIR_HU = -1000
FINER = 2  # ours: X-rays are made of voxels half as wide as the cube's, or consistency would be flattered
BONES = [LABELS[name] for name in ("bone", "vertebrae")]
LUMBAR_MM = (0.0, 25.0, -140.0)  # ours: about the torso's L1, LPS
SPINE_MM = (0.0, 75.0, -140.0)  # ours: the same with the spine in the middle
CLASSES = 17  # T1 to L5: EAR 4.1


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of phantom data: the profile that it stands for, and how a case is drawn."""

    profile: str
    draw: Callable[[tuple[int, ...], Grid, int], Phantom]  # seed, grid, the case's number
    keeps: Callable[[Phantom], np.ndarray] | None = None  # what is not air in cube and X-rays
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    within_cube: bool = False  # all of it lies in the cube
    between_deg: float = 90.0
    multiple: int = 16  # of which the cube's side is one: nets halve it four times
    labels: Mapping[str, int] | None = None
    of: str = ""  # in words


def _torso(seed: tuple[int, ...], grid: Grid, number: int) -> Phantom:
    return torso(np.random.default_rng(seed), grid=grid, table=False)


def _pneumothorax(seed: tuple[int, ...], grid: Grid, number: int) -> Phantom:
    return pneumothorax(np.random.default_rng(seed), grid=grid, table=False)


def _vertebra(seed: tuple[int, ...], grid: Grid, number: int) -> Phantom:
    return vertebra(np.random.default_rng(seed), grid=grid, level=VERTEBRAE[-1 - number % CLASSES])


def _bones(phantom: Phantom) -> np.ndarray:
    return np.isin(phantom.labels, BONES)


def _any_label(phantom: Phantom) -> np.ndarray:
    return phantom.labels > 0


VERTEBRA = Kind(profile="vertebra", draw=_vertebra, keeps=_any_label, within_cube=True, of="single vertebrae, T1 to L5")
KINDS: dict[str, Kind] = {
    "chest": Kind(profile="chest", draw=_torso, multiple=32, of="chests"),  # XctNet halves five times
    "pneumothorax": Kind(
        profile="chest-224",
        draw=_pneumothorax,
        multiple=32,
        labels=LABELS,
        of="chests with a pneumothorax of 20 to 2000 ml",
    ),
    "spine-bone": Kind(
        profile="spine-bone", draw=_torso, keeps=_bones, centre_mm=SPINE_MM, of="the bones of torsos about T12"
    ),
    "lumbar": Kind(profile="lumbar", draw=_torso, centre_mm=LUMBAR_MM, of="torsos about T12"),
    "vertebra": VERTEBRA,
    **{
        f"vertebra-{degrees}": Kind(**{**VERTEBRA.__dict__, "between_deg": float(degrees)})
        for degrees in (60, 80, 110, 120, 140)  # EAR Fig. 11; 90 is "vertebra"
    },
}


def kind_of(name: str) -> Kind:
    """The kind of that name."""
    if name not in KINDS:
        raise unknown_name("kind of phantom data", name, KINDS)
    return KINDS[name]


def size_for(name: str, size: Size) -> Size:
    """The size with as many voxels as the kind's nets can halve."""
    multiple = kind_of(name).multiple
    return replace(size, voxels=-(-size.voxels // multiple) * multiple)


def make(
    name: str, folder: Path, size: Size, *, seed: int = 0, tell: Callable[[str], None] = lambda text: None
) -> Path:
    """The data set `folder` of this kind at this size; cases that are there already stay."""
    kind = kind_of(name)
    profile = profiles.get(kind.profile)
    if (folder / "dataset.json").is_file():
        return folder
    counts = {"train": size.train, "val": size.val, "test": size.test}
    splits = {split: [f"{split}-{k:03d}" for k in range(n)] for split, n in counts.items() if n}
    for s, (split, cases) in enumerate(splits.items()):
        for k, case in enumerate(cases):
            if not (folder / "cases" / case / "meta.json").is_file():
                tell(f"{name}: drawing {case} of {len(cases)}")
                _write(kind, profile, folder / "cases" / case, (seed, s, k), k, size.voxels, kept=split == "test")
    patients = {case: case for cases in splits.values() for case in cases}
    content = dict.fromkeys(patients, f"phantom {name} {seed}")
    told = {"splits": splits, "patients": patients, "hash": split_hash(splits, patients, content)}
    write_json(folder / "splits.json", told)
    write_json(folder / "dataset.json", _described(kind, profile, folder, splits, size))
    return folder


def _write(
    kind: Kind, profile: profiles.Profile, folder: Path, seed: tuple[int, ...], number: int, n: int, *, kept: bool
) -> None:
    """Draw one case, X-ray it and write it; what was X-rayed is `kept` with those that may be X-rayed anew."""
    cube = Grid.canonical((n,) * 3, profile.side_mm / n, kind.centre_mm)
    fine = Grid.canonical((n * FINER,) * 3, profile.side_mm / n / FINER, kind.centre_mm)
    beams = beams_of(kind, profile, n)
    whole = fine if kind.within_cube else support(fine, beams.values(), spacing_mm=fine.spacing_mm[0])
    phantom = kind.draw(seed, whole, number)
    hu = phantom.volume.hu
    if kind.keeps is not None:
        hu = np.where(kind.keeps(phantom), hu, AIR_HU)
    volume = torch.from_numpy(hu.astype(np.float32))
    xrays = project(hu_to_mu(volume), whole, list(beams.values())).numpy()
    inner = cut(volume, whole, fine)
    ct = Volume(hu=avg_pool3d(inner[None], FINER)[0].numpy(), grid=cube, source=folder.name)
    labels = cut(torch.from_numpy(phantom.labels).float(), whole, fine)[::FINER, ::FINER, ::FINER].numpy()
    store.write_case(
        folder,
        patient=folder.name,
        ct=ct,
        xrays=xrays,
        beams=beams,
        source=Volume(hu=hu.astype(np.float32), grid=whole, source=folder.name) if kept else None,
        labels=None if kind.labels is None else (labels, kind.labels),
        notes={"phantom": {k: v for k, v in phantom.truth.items() if isinstance(v, (int, float, str, bool))}},
    )


def beams_of(kind: Kind, profile: profiles.Profile, pixels: int) -> dict[View, Beam]:
    """The kind's beams about its centre: the lateral stands, the frontal is turned off the right angle (EAR 4.5)."""
    place = {"pixels": pixels, "isocentre_mm": kind.centre_mm}
    first = preset_beam(View.PA, profile.preset, primary_deg=90.0 - kind.between_deg, **place)
    return {View.PA: first, View.LAT: preset_beam(View.LAT, profile.preset, **place)}


def _described(kind: Kind, profile: profiles.Profile, folder: Path, splits: Mapping[str, list], size: Size) -> dict:
    return {
        "version": store.VERSION,
        "profile": profile.name,
        "preset": profile.preset,
        "rays": profile.rays,
        "spacing": profile.side_mm / size.voxels,
        "size": size.voxels,
        "pixels": size.voxels,
        "views": [str(View.PA), str(View.LAT)],
        "target": target_record(_target(profile.target, folder, splits["train"])),
        "complete_rays": True,
        "phantoms": kind.of,
    }


def _target(target: Target, folder: Path, cases: list[str]) -> Target:
    """The profile's target; a standard score is the training set's own."""
    if isinstance(target, Unit):
        return target
    values: list[Any] = [np.load(folder / "cases" / case / "ct.npy").astype(np.float64) for case in cases]
    return ZScore(mean=float(np.mean(values)), sd=float(np.std(values)))
