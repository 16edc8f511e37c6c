"""From the volume to the answer: the lungs and the air beside them in a CT, beside the true ones, and over a study."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from raylift import DISCLAIMER, __version__, io
from raylift.data import store
from raylift.data.prepare.resample import on_grid_of, upright
from raylift.errors import BadInput, RayliftError
from raylift.estimate import Choice, cube_of, run
from raylift.fit import check_fit
from raylift.geometry import canonical, is_upright
from raylift.io.files import existing, shown
from raylift.reconstruct import device_of, find_model, load_net
from raylift.segment.agreement import agreement
from raylift.segment.chest import Chest, segment_chest
from raylift.segment.lungs import LungModel
from raylift.segment.pneumothorax import FEWEST_ML
from raylift.segment.quantities import against, dices, doubts, quantities
from raylift.spine import Spine
from raylift.spine.assessed import spine_of, told, vertebrae_of
from raylift.types import Grid, Volume

FINEST_MM = 1.6  # X-Recon's grid; finer voxels add minutes and no millilitres
COARSEST_MM = 5.0  # ours: coarser voxels have no pleura
LIMITS = (
    "Fluid, consolidated or collapsed lung and masses at the wall count as wall: lung volumes leave them out.",
    f"Less than {FEWEST_ML:.0f} ml of air beside a lung is not reported, and less than 10 ml may be missed; bullae at "
    "the wall can be taken for it.",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Assessment:
    """A CT's label map, the true CT's on the same grid where there is one, the spine where its vertebrae are known, and
    `record`, all as JSON.
    """

    ct: Volume
    chest: Chest
    truth: Volume | None
    true_chest: Chest | None
    record: dict[str, Any]
    spine: Spine | None = None


def working(volume: Volume) -> Volume:
    """`volume` upright with cubic voxels of 1.6 mm or more, float32 HU; as it is where it is that already."""
    volume = canonical(volume)
    spacing = volume.grid.spacing_mm
    if max(spacing) > COARSEST_MM * 1.5:
        raise BadInput(f"{volume.source}: voxels of {max(spacing):.1f} mm are too coarse for lungs and pleura")
    volume = replace(volume, hu=volume.hu.astype(np.float32).clip(-1024))
    if is_upright(volume.grid) and max(spacing) < 1.01 * min(spacing) and spacing[0] > 0.99 * FINEST_MM:
        return volume
    return upright(volume, max(FINEST_MM, min(spacing)))


def segment_ct(ct: Volume, *, thresholds: str = "absolute", lungs: LungModel | None = None) -> Chest:
    """The label map of `ct` on its own canonical grid (`geometry.canonical`), found on `working` voxels."""
    volume = working(ct)
    return on_grid(segment_chest(volume, thresholds=thresholds, lungs=lungs), canonical(ct).grid)


def on_grid(chest: Chest, grid: Grid) -> Chest:
    """The label map on another grid: each voxel has the nearest one's label and share of air."""
    if grid == chest.grid:
        return chest
    labels = np.zeros(grid.shape, np.uint8)
    air = None if chest.air is None else np.zeros(grid.shape, np.float32)
    step = np.linalg.inv(chest.grid.affine) @ grid.affine
    last = np.array(chest.labels.shape)[:, None, None] - 1
    rows, columns = (np.arange(n, dtype=np.float64) for n in grid.shape[1:])
    for d in range(grid.shape[0]):
        at = step[:3, 0, None, None] * d + step[:3, 1, None, None] * rows[:, None] + step[:3, 2, None, None] * columns
        index = np.rint(at + step[:3, 3, None, None]).astype(np.intp)
        there = ((index >= 0) & (index <= last)).all(0)
        nearest = tuple(index.clip(0, last))
        labels[d] = np.where(there, chest.labels[nearest], 0)
        if air is not None:
            air[d] = np.where(there, chest.air[nearest], 0)
    return replace(chest, labels=labels, grid=grid, air=air)


def assess(
    ct_or_result: str | PathLike,
    *,
    truth: str | PathLike | None = None,
    thresholds: str | None = None,
    lungs: LungModel | None = None,
    labels: str | PathLike | None = None,
    numbering: str | None = None,
    structures: str | PathLike | None = None,
    lowest: str | None = None,
) -> Assessment:
    """Lungs and pneumothorax of a CT, or of the folder that `raylift reconstruct` made, beside those of the true CT;
    and its spine, where `labels` (the CT's or the true CT's) or `lowest` say which vertebra is which.

    `thresholds` None: relative for a reconstruction and what is compared with one, absolute for a CT by itself.
    """
    begun = perf_counter()
    ct, model = read(ct_or_result)
    kind = thresholds or ("absolute" if model is None and truth is None else "relative")
    volume = working(ct)
    true_ct = None if truth is None else canonical(io.read_ct(truth))
    true, filled = (None, None) if true_ct is None else on_grid_of(volume, true_ct, volume.source)
    chest = segment_chest(volume, thresholds=kind, lungs=lungs)
    true_chest = None if true is None else segment_chest(true, thresholds=kind, lungs=lungs)
    record = {
        "program": "raylift",
        "version": __version__,
        "disclaimer": DISCLAIMER,
        "source": ct.source,
        "reconstructed_by": model,
        "spacing_mm": volume.grid.spacing_mm[0],
        "chest": _record(chest, filled),
        "limits": list(LIMITS),
    }
    if true_chest is not None:
        record |= {"filled": float(filled.mean()), "truth": _record(true_chest, filled) | {"source": true.source}}
        record["error"] = against(record["chest"]["quantities"], record["truth"]["quantities"])
        record["dice"] = dices(chest, true_chest, filled)
    spine = None
    if labels is not None or lowest is not None:
        ct = canonical(ct)
        known = {"numbering": numbering, "structures": structures, "lowest": lowest}
        vertebrae = vertebrae_of(ct if true_ct is None else true_ct, labels, **known)
        spine = spine_of(ct, vertebrae, model=model if truth is None else model or "assessed CT")
        record["spine"] = told(spine)
    record |= {"runtime_s": round(perf_counter() - begun, 2), "memory_mib": most_memory_mib()}
    return Assessment(ct=volume, chest=chest, truth=true, true_chest=true_chest, record=record, spine=spine)


def most_memory_mib() -> float | None:
    """The most memory that this process has held so far, MiB; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _record(chest: Chest, filled: np.ndarray | None) -> dict[str, Any]:
    levels, found = chest.levels, quantities(chest, filled)
    return {
        "thresholds": levels.kind,
        "air_hu": levels.air,
        "lung_hu": levels.lung,
        "tissue_cut_hu": levels.tissue_cut,
        "quantities": found,
        "doubts": doubts(found),
    }


def read(path: str | PathLike) -> tuple[Volume, str | None]:
    """A CT and None, or the CT in a folder of `raylift reconstruct` and the name of the model that made it."""
    path = existing(path)
    manifest = path / "manifest.json"
    if not manifest.is_file():
        return io.read_ct(path), None
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        name, model = content["files"][0], content["model"]["name"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise BadInput(f"{shown(path)}: its manifest.json is damaged ({error}); reconstruct again") from None
    if Path(name).name != name:
        raise BadInput(f"{shown(path)}: its manifest.json names a file elsewhere")
    return io.read_ct(path / name), str(model)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A model's lungs and pneumothoraces on a split against the true ones: `cases`, failures, and their agreement."""

    model: str
    data: str
    split: str
    cases: Mapping[str, Mapping[str, Any]]  # case -> found, true, dice
    failed: Mapping[str, str]
    refine: bool

    def values(self, side: str, name: str) -> tuple[list[float], list[float]]:
        """The true and the found values of a quantity, of the cases that have both."""
        pairs = [(row["true"][side][name], row["found"][side][name]) for row in self.cases.values()]
        known = [(t, f) for t, f in pairs if t is not None and f is not None]
        return [t for t, _ in known], [f for _, f in known]

    def record(self) -> dict[str, Any]:
        """Everything as JSON content."""
        return {
            "program": "raylift",
            "version": __version__,
            "disclaimer": DISCLAIMER,
            **{k: getattr(self, k) for k in ("model", "data", "split", "refine")},
            "cases": {case: dict(row) for case, row in self.cases.items()},
            "failed": dict(self.failed),
            "agreement": {
                f"{side} {name}": agreement(*self.values(side, name))
                for side, name in (("right", "lung_ml"), ("left", "lung_ml"), ("total", "pneumothorax_ml"))
            }
            | {"total occupancy_percent": agreement(*self.values("total", "occupancy_percent"))},
            "limits": list(LIMITS),
        }


def study(
    model_or_run: str | PathLike,
    dataset_folder: str | PathLike,
    *,
    split: str = "test",
    thresholds: str = "relative",
    refine: bool | None = None,
    device: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Study:
    """A model's name or a run on a split of a data set: the same rules on each true cube and on what came of its
    X-rays. A case that fails is named with its reason.
    """
    dataset = store.open_dataset(dataset_folder)
    model, folder = find_model(model_or_run)
    check_fit(model, dataset)
    chosen = dataset.cases(split)
    if not chosen:
        raise BadInput(f"{dataset.folder}: its split '{split}' has no case")
    place = device_of(device)
    net = load_net(model, folder).to(place)
    on = dataset.complete_rays if refine is None else refine
    choice = Choice(on=on, unknown_scale=False, why="the data set's own rays")
    found, failed = {}, {}
    for number, case in enumerate(chosen):
        try:
            found[case.id] = _study_case(model, net, case, choice, place, thresholds)
        except (RayliftError, OSError) as error:
            failed[case.id] = str(error)
        if progress is not None:
            progress(number + 1, len(chosen), case.id)
    name = Path(model_or_run).name if folder is not None else model.name
    return Study(model=name, data=dataset.folder.name, split=split, cases=found, failed=failed, refine=on)


def _study_case(model, net, case: store.Case, choice: Choice, place, thresholds: str) -> dict[str, Any]:
    """One case's quantities, true and found, and Dice."""
    import torch

    batch = store.load_batch([case], views=model.views, size=model.size).to(place)
    with torch.no_grad():
        hu = run(model, net, batch.xrays[0], batch.beams[0], choice).hu
    grid = cube_of(model)
    valid = None if batch.valid is None else batch.valid[0, 0].cpu().numpy()
    true, seen = (
        segment_chest(working(Volume(hu=x.float().cpu().numpy(), grid=grid, source=case.id)), thresholds=thresholds)
        for x in (batch.hu[0, 0], hu)
    )
    return {"true": quantities(true, valid), "found": quantities(seen, valid), "dice": dices(seen, true, valid)}
