"""How a method stands what goes wrong in a clinic: each fault at rising severity, what is told stays as it should be.

The X-rays are made anew of each case's CT (or of its cube where the whole CT is not kept) under the fault; the method
is told the beams of a faultless exposure. So a panel that stood 10 degrees off is told as if it had stood right.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from raylift import io
from raylift.data import drr, store
from raylift.data.prepare import profiles
from raylift.data.prepare.resample import cut, inside, resampled
from raylift.data.store import Case, Dataset, open_dataset
from raylift.errors import BadInput, RayliftError, unknown_name
from raylift.estimate import infer
from raylift.evaluate import summarised, value
from raylift.fit import check_fit
from raylift.geometry import canonical
from raylift.models import sart
from raylift.models.spec import Model
from raylift.physics import VACUUM_HU, hu_to_mu
from raylift.projector import project
from raylift.reconstruct import device_of, find_model, load_net
from raylift.segment.morphology import box_of
from raylift.stress.faults import FAULTS, Fault, Picture, Scene
from raylift.types import Beam, Grid, Volume

METRICS = ("mae", "psnr", "ssim")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One method under one fault at one severity: each case's metrics, refined or not."""

    method: str
    fault: str
    severity: float
    label: str  # the severity in words; of other anatomy, which
    refined: bool
    cases: Mapping[str, Mapping[str, float | None]]
    failed: Mapping[str, str] = field(default_factory=dict)

    def mean(self, metric: str) -> float | None:
        """The mean over the cases."""
        return summarised([row[metric] for row in self.cases.values()])["mean"]


@dataclass(frozen=True, kw_only=True)
class Stress:
    """All trials of some methods on one data set's cases."""

    data: str
    split: str
    window: tuple[float, float]
    trials: tuple[Trial, ...]
    missing: tuple[str, ...] = ()  # what was not tried, and why

    def record(self) -> dict[str, Any]:
        """Everything as JSON content."""
        return {
            "version": 1,
            "data": self.data,
            "split": self.split,
            "window_hu": list(self.window),
            "missing": list(self.missing),
            "trials": [
                {
                    **{name: getattr(t, name) for name in ("method", "fault", "severity", "label", "refined")},
                    "cases": {case: dict(row) for case, row in t.cases.items()},
                    "failed": dict(t.failed),
                    "mean": {metric: t.mean(metric) for metric in METRICS},
                }
                for t in self.trials
            ],
        }


def stress(
    methods: Sequence[str | PathLike],
    data: Path | str,
    *,
    window: tuple[float, float],
    split: str = "test",
    faults: Sequence[str] = tuple(FAULTS),
    count: int | None = None,
    others: Mapping[str, Path | str] | None = None,
    device: str | None = None,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Stress:
    """Each method (a name or a run's folder) under each fault, with and without consistency.

    `count` takes the split's first cases only; `others` names CT files of other anatomy ("abdomen", "head").
    """
    dataset, place = open_dataset(data), device_of(device)
    for fault in faults:
        if fault not in FAULTS:
            raise unknown_name("fault", fault, FAULTS)
    cases = dataset.cases(split)[:count]
    if not cases:
        raise BadInput(f"{dataset.folder}: its split '{split}' has no case")
    subjects = [_subject(method, dataset, window, place) for method in methods]
    trials: list[Trial] = []
    for one in subjects:
        for fault in faults:
            if len(one.model.views) >= FAULTS[fault].least_views:
                tell(f"{one.name}: {fault}")
                trials += one.under(fault, cases, seed)
        for anatomy, path in (others or {}).items():
            tell(f"{one.name}: {anatomy}")
            trials += one.elsewhere(anatomy, path)
    missing = [] if others else ["other anatomy: no CT of it was given (--other abdomen=CT)"]
    whole = profiles.get(dataset.profile, dataset.preset).rays == "whole"
    if whole and any(case.source_grid is None for case in cases):
        missing.append("the data set keeps no whole CTs: X-rays here are of the cube alone")
    return Stress(data=dataset.folder.name, split=split, window=window, trials=tuple(trials), missing=tuple(missing))


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A method that is put under stress, and how it is judged."""

    name: str
    model: Model
    net: nn.Module
    dataset: Dataset
    window: tuple[float, float]
    device: torch.device

    @property
    def ways(self) -> tuple[bool, ...]:
        """Plain and refined; one of them where there is no choice: SART is nothing but consistency."""
        algebra = self.model.recipe is None and self.model.consistent
        return (False, True) if self.dataset.complete_rays and not algebra else (self.dataset.complete_rays,)

    def under(self, fault: str, cases: Sequence[Case], seed: int) -> list[Trial]:
        """The trials under one fault, at each severity."""
        found = []
        for severity in FAULTS[fault].severities:
            rows: dict[bool, dict[str, dict]] = {way: {} for way in self.ways}
            failed: dict[str, str] = {}
            for k, case in enumerate(cases):
                generator = torch.Generator().manual_seed(seed * 1000 + k)
                try:
                    shown = exposed(case, self.model, FAULTS[fault], severity, generator)
                    for way in self.ways:
                        rows[way][case.id] = self.score(*shown, way)
                except (RayliftError, OSError) as error:
                    failed[case.id] = str(error)
            label = f"{severity:g}" if FAULTS[fault].unit else ""
            common = {"method": self.name, "fault": fault, "severity": severity, "label": label, "failed": failed}
            found += [Trial(**common, refined=way, cases=rows[way]) for way in self.ways]
        return found

    def elsewhere(self, anatomy: str, path: Path | str) -> list[Trial]:
        """The trials on the CT of another part of the body, exposed without a fault."""
        rows: dict[bool, dict[str, dict]] = {way: {} for way in self.ways}
        failed = {}
        try:
            shown = exposed_file(path, self.model, self.dataset.preset)
            for way in self.ways:
                rows[way][anatomy] = self.score(*shown, way)
        except (RayliftError, OSError) as error:
            failed[anatomy] = str(error)
        common = {"method": self.name, "fault": "anatomy", "severity": 0.0, "label": anatomy, "failed": failed}
        return [Trial(**common, refined=way, cases=rows[way]) for way in self.ways]

    @torch.no_grad()
    def score(
        self, xrays: Picture, told: tuple[Beam, ...], truth: Tensor, valid: Tensor | None, refine: bool
    ) -> dict[str, float | None]:
        """The metrics of what the method makes of these X-rays, told these beams."""
        hu = infer(self.model, self.net, xrays.to(self.device), told, refine=refine)
        truth, valid = truth.to(self.device), None if valid is None else valid.to(self.device)
        return {metric: value(metric, hu, truth, window=self.window, valid=valid) for metric in METRICS}


def _subject(method: str | PathLike, dataset: Dataset, window: tuple[float, float], device: torch.device) -> Subject:
    """The method of a name or a run's folder; SART fits any data."""
    model, folder = find_model(method)
    if model.name == sart.MODEL.name:
        model = sart.fitted(dataset.size, dataset.spacing, dataset.profile, dataset.views)
    check_fit(model, dataset)
    name = model.name if folder is None else Path(method).name
    net = load_net(model, folder).to(device)
    return Subject(name=name, model=model, net=net, dataset=dataset, window=window, device=device)


def exposed(
    case: Case, model: Model, fault: Fault, severity: float, generator: torch.Generator
) -> tuple[Picture, tuple[Beam, ...], Float[Tensor, "D H W"], Bool[Tensor, "D H W"] | None]:
    """The case's X-rays under the fault, the beams that are told, the true cube (HU) and where it is known."""
    n = model.size
    told = tuple(case.beams[case.views.index(view)].resized(n, n) for view in model.views)
    source = case.source() or Volume(hu=case.ct(), grid=case.grid, source=case.id)
    scene = fault.before(Scene(volume=source, beams=told, cube=case.grid), severity)
    seen = _without_air_around(scene.volume)
    mu = hu_to_mu(torch.from_numpy(np.array(seen.hu, np.float32)))
    xrays = fault.after(project(mu, seen.grid, list(scene.beams)), severity, generator)
    batch = store.load_batch([case], views=model.views, size=n)
    truth = batch.hu[0, 0]
    if scene.volume is not source:  # what the fault changed, and nothing that another resampling would
        cube = Grid.canonical((n,) * 3, model.spacing, tuple(case.grid.centre_mm))
        after, before = (resampled(volume, cube).hu for volume in (scene.volume, source))
        truth = truth + torch.from_numpy(after - before)
    valid = None if batch.valid is None else batch.valid[0, 0]
    return xrays, store.centred_beams(told, case.grid), truth, valid


def _without_air_around(volume: Volume) -> Volume:
    """The box of all that attenuates: a CT's empty corners may reach behind a panel that is turned."""
    dense = volume.hu > VACUUM_HU
    return cut(volume, box_of(dense, 1)) if dense.any() else volume


def exposed_file(
    path: Path | str, model: Model, preset: str
) -> tuple[Picture, tuple[Beam, ...], Float[Tensor, "D H W"], Bool[Tensor, "D H W"]]:
    """The X-rays of a CT file, the beams that are told, the true cube (HU) and where it is known."""
    volume = canonical(io.read_ct(path))
    shots = drr.xrays_of(volume, views=model.views, preset=preset, pixels=model.size)
    centre = shots[0].isocentre_mm
    cube = Grid.canonical((model.size,) * 3, model.spacing, centre)
    truth = torch.from_numpy(np.array(resampled(volume, cube).hu, np.float32))
    told = tuple(shot.beam.moved(-np.asarray(centre)) for shot in shots)
    xrays = torch.from_numpy(np.stack([shot.pixels for shot in shots]))
    return xrays, told, truth, torch.from_numpy(inside(cube, volume.grid))
