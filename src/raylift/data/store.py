"""A data set on disk: a folder with `dataset.json`, `splits.json` and one folder a case, memory-mapped.

cases/<id>/ct.npy       int16 HU (D H W), the model's cube
           xrays.npy    float32 line integrals (V rows cols)
           source.npy   int16 HU, the whole CT, where the profile keeps it
           xrays_1.npy  and so on: the same from further poses
           valid.npy    bool, where the CT does not fill the cube
           labels.npy   uint8, what is where in the cube, where the profile keeps masks
           meta.json    patient, affines, beams, the labels' names
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, avg_pool3d

from raylift.data.records import beam_from_record, beam_record, grid_from_record, grid_record, target_from_record
from raylift.errors import BadInput, RayliftError, unknown_name
from raylift.io.files import as_json, whole_folder
from raylift.physics import VACUUM_HU, Target
from raylift.types import Beam, ConeBeam, Grid, View, Volume

VERSION = 1
LOWEST_HU = -1024  # air; what scanners pad with beneath it says nothing


@dataclass(frozen=True, kw_only=True)
class Case:
    """One patient's cube and its X-rays; arrays are opened when they are asked for."""

    id: str
    patient: str
    folder: Path
    grid: Grid  # of the cube, LPS
    beams: tuple[Beam, ...]  # absolute LPS
    views: tuple[View, ...]
    further: tuple[tuple[Beam, ...], ...] = ()  # the beams of each further pose
    label_names: Mapping[str, int] = field(default_factory=dict, hash=False)  # of `labels`; empty: there are none
    source_grid: Grid | None
    partly_filled: bool
    floor_hu: float = VACUUM_HU  # what lies below it adds nothing to the X-rays

    def ct(self) -> np.ndarray:
        """The cube (D H W), int16 HU."""
        return self._array("ct.npy", np.int16, self.grid.shape)

    @property
    def poses(self) -> tuple[tuple[Beam, ...], ...]:
        """The beams of each pose; the first are `beams`."""
        return (self.beams, *self.further)

    def xrays(self, pose: int = 0) -> np.ndarray:
        """Line integrals (V rows cols), float32, in the order of `views`; further poses count from 1."""
        beams = self.poses[pose]
        return self._array(f"xrays_{pose}.npy" if pose else "xrays.npy", np.float32, (len(beams), *beams[0].pixels))

    def labels(self) -> np.ndarray | None:
        """What is where in the cube (D H W), uint8, by the numbers of `label_names`; None where no masks are kept."""
        return self._array("labels.npy", np.uint8, self.grid.shape) if self.label_names else None

    def valid(self) -> np.ndarray | None:
        """Which voxels of the cube the CT filled (D H W), bool; None: all of them."""
        return self._array("valid.npy", np.bool_, self.grid.shape) if self.partly_filled else None

    def source(self) -> Volume | None:
        """The whole CT, finer than the cube; None where the profile does not keep it."""
        if self.source_grid is None:
            return None
        hu = self._array("source.npy", np.int16, self.source_grid.shape)
        return Volume(hu=hu, grid=self.source_grid, source=self.id)

    def _array(self, name: str, kind, shape: tuple[int, ...]) -> np.ndarray:
        path = self.folder / name
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise _damaged(self.folder, f"{name}: {error}") from None
        if array.dtype != kind or array.shape != tuple(shape):
            raise _damaged(self.folder, f"{name} holds {array.dtype} {array.shape}, meta.json says {tuple(shape)}")
        return array


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A prepared data set: what its cases have in common, and which case is in which split."""

    folder: Path
    profile: str
    preset: str
    spacing: float  # mm
    size: int  # voxels a side
    views: tuple[View, ...]
    complete_rays: bool  # its X-rays are line integrals of all that the cubes are cut from, and of nothing else
    floor_hu: float = VACUUM_HU  # in its X-rays what lies below it adds nothing, see `physics.hu_to_mu`
    rays: str  # what X-rays are made of: see `prepare.profiles.Profile`
    gamma: float | None  # the target of the automatic gamma of a net's input
    target: Target
    splits: Mapping[str, list[str]]
    split_hash: str
    patients: Mapping[str, str] = field(repr=False)  # case id -> patient

    def cases(self, split: str) -> list[Case]:
        """The cases of `split`, in the order of their names."""
        if split not in self.splits:
            raise unknown_name("split", split, self.splits)
        return [self.case(name) for name in self.splits[split]]

    def case(self, name: str) -> Case:
        """The case of that name."""
        if name not in self.patients:
            raise unknown_name(f"case of {self.folder}", name, self.patients)
        return open_case(self.folder / "cases" / name)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Cases as tensors; beams are in the frame of each cube's centre, so that equal presets are equal values."""

    xrays: Float[Tensor, "b v rows cols"]  # line integrals
    hu: Float[Tensor, "b 1 d h w"]
    valid: Bool[Tensor, "b 1 d h w"] | None
    beams: tuple[tuple[Beam, ...], ...]  # for each sample, for each view
    ids: tuple[str, ...]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        valid = None if self.valid is None else self.valid.to(device)
        return replace(self, xrays=self.xrays.to(device), hu=self.hu.to(device), valid=valid)


def open_dataset(folder: Path | str) -> Dataset:
    """The data set in `folder`; its cases are not opened yet."""
    folder = Path(folder)
    described, split = _json(folder / "dataset.json", folder), _json(folder / "splits.json", folder)
    if described.get("version") != VERSION:
        raise BadInput(f"{folder}: data set version {described.get('version')}, this program reads {VERSION}")
    try:
        return Dataset(
            folder=folder,
            profile=described["profile"],
            preset=described["preset"],
            spacing=described["spacing"],
            size=described["size"],
            views=tuple(View(v) for v in described["views"]),
            complete_rays=described["complete_rays"],
            floor_hu=described.get("floor_hu", VACUUM_HU),
            rays=described.get("rays", "whole"),
            gamma=described.get("gamma"),
            target=target_from_record(described["target"]),
            splits=split["splits"],
            split_hash=split["hash"],
            patients=split["patients"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{folder}: dataset.json or splits.json is damaged ({error}); prepare the data again") from None


def open_case(folder: Path | str) -> Case:
    """The case in `folder`, as its meta.json says."""
    folder = Path(folder)
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        return Case(
            id=folder.name,
            patient=meta["patient"],
            folder=folder,
            grid=grid_from_record(meta["ct"]),
            beams=tuple(beam_from_record(view) for view in meta["views"]),
            views=tuple(View(view["view"]) for view in meta["views"]),
            further=tuple(tuple(beam_from_record(view) for view in pose) for pose in meta.get("poses", ())),
            label_names={str(name): int(number) for name, number in meta.get("labels", {}).items()},
            source_grid=grid_from_record(meta["source"]) if meta["source"] else None,
            partly_filled=meta["filled"] < 1,
            floor_hu=float(meta.get("floor_hu", VACUUM_HU)),
        )
    except (OSError, KeyError, TypeError, ValueError, RayliftError) as error:
        raise _damaged(folder, f"meta.json: {error}") from None


def write_case(
    folder: Path,
    *,
    patient: str,
    ct: Volume,
    xrays: np.ndarray,
    beams: Mapping[View, Beam],
    source: Volume | None = None,
    valid: np.ndarray | None = None,
    further: Sequence[tuple[np.ndarray, Mapping[View, Beam]]] = (),
    labels: tuple[np.ndarray, Mapping[str, int]] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write one case, whole or not at all; `notes` go into its meta.json as they are.

    `xrays` are line integrals (V rows cols) in the order of `beams`, `further` the same of more poses; float HU are
    rounded, a NaN is refused. `labels` are a map of the cube and the names of its numbers.
    """
    meta = dict(notes or {})
    poses = [xrays, *(pictures for pictures, _ in further)]
    pictures = {f"xrays_{k}" if k else "xrays": np.ascontiguousarray(p, np.float32) for k, p in enumerate(poses)}
    if not all(np.isfinite(p).all() for p in pictures.values()):
        raise BadInput(f"{ct.source}: the X-rays made of it are not finite")
    arrays = {"ct": whole_hu(ct.hu, ct.source), **pictures}
    if labels is not None:
        arrays["labels"] = labels[0].astype(np.uint8)
        meta["labels"] = dict(labels[1])
    if source is not None:
        arrays["source"] = whole_hu(source.hu, source.source)
    if valid is not None and not valid.all():
        arrays["valid"] = valid.astype(np.bool_)
    meta |= {
        "version": VERSION,
        "patient": patient,
        "ct": grid_record(ct.grid),
        "source": grid_record(source.grid) if source is not None else None,
        "filled": float(valid.mean()) if valid is not None else 1.0,
        "views": [beam_record(beam, view) for view, beam in beams.items()],
    }
    if further:
        meta["poses"] = [[beam_record(beam, view) for view, beam in pose.items()] for _, pose in further]
    with whole_folder(folder) as partial:
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array)
        (partial / "meta.json").write_text(as_json(meta), encoding="utf-8")


def whole_hu(hu: np.ndarray, name: str = "volume") -> np.ndarray:
    """HU as int16, rounded, clipped to -1024 .. 32767; a NaN or an infinite value is refused with its count."""
    if hu.dtype.kind == "f":
        wrong = int(hu.size - np.isfinite(hu).sum())
        if wrong:
            raise BadInput(f"{name}: {wrong} voxels are not finite")
        hu = np.rint(hu)
    return np.ascontiguousarray(hu.clip(LOWEST_HU, np.iinfo(np.int16).max).astype(np.int16))


def load_batch(cases: Sequence[Case], *, views: Sequence[View], size: int, poses: Sequence[int] | None = None) -> Batch:
    """`cases` as one batch at `size` voxels and pixels a side; stored cubes and X-rays are averaged down to it.

    `poses` says which of each case's poses is taken; the first unless it is given.
    """
    if not cases:
        raise BadInput("a batch needs at least one case")
    samples = [
        _sample(case, tuple(views), size, pose) for case, pose in zip(cases, poses or [0] * len(cases), strict=True)
    ]
    valids = [valid for _, _, valid, _ in samples]
    valid = None
    if any(v is not None for v in valids):
        valid = torch.stack([torch.ones(1, size, size, size, dtype=torch.bool) if v is None else v for v in valids])
    return Batch(
        xrays=torch.stack([xrays for xrays, _, _, _ in samples]),
        hu=torch.stack([hu for _, hu, _, _ in samples]),
        valid=valid,
        beams=tuple(beams for _, _, _, beams in samples),
        ids=tuple(case.id for case in cases),
    )


def _sample(case: Case, views: tuple[View, ...], size: int, pose: int):
    """One case's X-rays (V size size), HU (1 size size size), valid mask or None, and beams."""
    missing = [view for view in views if view not in case.views]
    if missing:
        raise BadInput(f"case {case.id} has no view {missing[0]}, only {', '.join(case.views)}")
    order = [case.views.index(view) for view in views]
    xrays = torch.from_numpy(np.array(case.xrays(pose)[order]))
    hu = torch.from_numpy(np.array(case.ct(), np.float32))[None]
    xrays = _averaged(avg_pool2d, xrays, [_step(case, n, size) for n in xrays.shape[1:]])
    steps = [_step(case, n, size) for n in hu.shape[1:]]
    valid = case.valid()
    if valid is not None:  # a binned voxel is valid where all that it averages is
        valid = _averaged(avg_pool3d, torch.from_numpy(np.array(valid)).float()[None], steps) == 1
    beams = centred_beams([case.poses[pose][k] for k in order], case.grid)
    return xrays, _averaged(avg_pool3d, hu, steps), valid, tuple(beam.resized(size, size) for beam in beams)


def _averaged(pool: Callable[..., Tensor], values: Tensor, steps: Sequence[int]) -> Tensor:
    """`values` averaged over blocks of `steps`; as they are where each block is one of them, which pooling copies."""
    return values if max(steps) == 1 else pool(values, steps)


def _step(case: Case, stored: int, size: int) -> int:
    if size < 1 or stored % size:
        raise BadInput(f"case {case.id}: {stored} stored pixels or voxels a side cannot be averaged to {size}")
    return stored // size


def centred_beams(beams: Sequence[Beam], cube: Grid) -> tuple[Beam, ...]:
    """`beams` in the frame of the cube's centre, to a millionth of a millimetre."""
    return tuple(_rounded(beam.moved(-cube.centre_mm)) for beam in beams)


def _rounded(beam: Beam) -> Beam:
    names = ("source_mm", "detector_centre_mm") if isinstance(beam, ConeBeam) else ("detector_centre_mm",)
    return replace(beam, **{name: tuple(round(x, 6) + 0.0 for x in getattr(beam, name)) for name in names})


def _json(path: Path, folder: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{folder} is no data set (it has no {path.name}); `raylift prepare` makes one") from None
    except ValueError:
        raise BadInput(f"{path} is damaged; prepare the data again") from None


def _damaged(folder: Path, reason: str) -> BadInput:
    return BadInput(f"case {folder.name} is damaged: {reason}; delete {folder} and prepare the data again")
