"""Any set of models on one data set under one protocol: trained or taken, judged on the same split, side by side."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raylift.compare import baselines
from raylift.compare.baselines import MEAN, SART
from raylift.compare.cost import cost
from raylift.compare.entrants import Entrant, entrant, fitted, trained
from raylift.compare.reported import with_definitions
from raylift.compare.table import Comparison, Row
from raylift.data.store import Dataset, open_dataset
from raylift.errors import BadInput, RayliftError, Stopped
from raylift.evaluate import COLUMNS, Scores, judged
from raylift.fit import check_fit
from raylift.io.files import write_json
from raylift.models.sart import fitted as fitted_sart
from raylift.models.spec import Model
from raylift.models.weights import describe, load_weights, read_model, sha256, weights_folder
from raylift.reconstruct import device_of
from raylift.types import View

__all__ = ["Comparison", "Entrant", "Row", "compare", "entrant"]

Told = Callable[[str], None]
NEAR = 2  # ours: steps up


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What all rows of a comparison share."""

    dataset: Dataset
    out: Path
    scores: Path
    split: str
    window: tuple[float, float]
    columns: tuple[str, ...]
    device: torch.device
    tell: Told

    def record(self) -> dict[str, Any]:
        """What must be the same when a comparison goes on."""
        return {
            "data": self.dataset.folder.name,
            "split": self.split,
            "split_hash": self.dataset.split_hash,
            "window_hu": list(self.window),
        }


def compare(
    entrants: Sequence[str | PathLike | Entrant],
    data: Path | str,
    out: Path | str,
    *,
    window: tuple[float, float],
    split: str = "test",
    columns: Sequence[str] = tuple(COLUMNS),
    size: int | None = None,
    steps: int | None = None,
    reference: str = SART,
    device: str | None = None,
    tell: Told = lambda text: None,
    runs: Path | str | None = None,
) -> Comparison:
    """Train what is not trained yet, judge all on the split, with and without consistency; rows in the given order.

    `out` fills with comparison.json, runs/ and scores/ (or they lie at `runs` and beside it); a second call goes on
    where the first stopped. A method that fails is a row that says why. SART and the training set's mean volume are
    always among the rows.
    `size` makes those that are to be trained of so many voxels a side; `steps` replaces the recipes' epochs.
    """
    dataset, out = open_dataset(data), Path(out)
    runs = out / "runs" if runs is None else Path(runs)
    chosen = [fitted(one if isinstance(one, Entrant) else entrant(one), dataset, size) for one in entrants]
    _check_labels(chosen)
    protocol = Protocol(
        dataset=dataset,
        out=out,
        scores=runs.parent / "scores",
        split=split,
        window=window,
        columns=tuple(columns),
        device=device_of(device),
        tell=tell,
    )
    _begin(protocol)
    common = size or min((one.model.size for one in chosen), default=dataset.size)
    rows = [row for one in chosen for row in _entrant_rows(one, protocol, runs, steps, device)]
    rows += _baseline_rows(protocol, runs, common, [one.model.views for one in chosen])
    found = Comparison(
        data=dataset.folder.name,
        profile=dataset.profile,
        split=split,
        split_hash=dataset.split_hash,
        window=window,
        columns=tuple(columns),
        reference=_reference(reference, rows),
        rows=tuple(rows),
    )
    write_json(out / "comparison.json", found.record())
    return found


def _check_labels(chosen: Sequence[Entrant]) -> None:
    seen: set[str] = set()
    for one in chosen:
        if one.label in seen:
            raise BadInput(f"two rows are named '{one.label}'; give the run folders different names")
        seen.add(one.label)


def _begin(protocol: Protocol) -> None:
    """Note the protocol, or check that a comparison that is there had the same one."""
    path = protocol.out / "protocol.json"
    wanted = protocol.record()
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        for key, value in wanted.items():
            if before.get(key) != value:
                raise BadInput(
                    f"{protocol.out} was begun with another {key}: {before.get(key)}, now {value}; name another folder"
                )
        return
    write_json(path, wanted)


def _reference(name: str, rows: Sequence[Row]) -> str:
    """The title of the row that `name` means: a title itself, or a label, then as it is not refined."""
    titles = [row.title for row in rows]
    if name in titles:
        return name
    raise BadInput(f"no row '{name}' to compare with; there are {', '.join(titles)}")


def _entrant_rows(one: Entrant, protocol: Protocol, runs: Path, steps: int | None, device: str | None) -> list[Row]:
    """A method's rows: plain, and refined where the data allow it; one row that says why where it failed."""
    about = {
        "label": one.label,
        "model": one.model.name,
        "paper": one.model.paper,
        "views": tuple(map(str, one.model.views)),
        "reported": with_definitions(one.model.reported),
    }
    place = one.run or runs / one.label
    try:
        check_fit(one.model, protocol.dataset)
        if one.run is None:
            protocol.tell(f"{one.label}: training")
        trained(one, protocol.dataset, place, steps=steps, device=device)
        weights = weights_folder(place)
        model = read_model(weights)
        net = load_weights(model, weights).to(protocol.device)
        key = _weights_key(weights)
        ways = (False, True) if protocol.dataset.complete_rays else (False,)
        return [
            Row(
                **about,
                refined=way,
                run=_seen_from(protocol.out, place),
                **_judged(one.label, model, net, protocol, key, way),
            )
            for way in ways
        ]
    except Stopped:
        raise
    except (RayliftError, OSError) as error:
        protocol.tell(f"{one.label}: failed: {error}")
        return [Row(**about, refined=None, run=_seen_from(protocol.out, place), scores=None, failure=str(error))]


def _baseline_rows(protocol: Protocol, runs: Path, size: int, seen: Sequence[tuple[View, ...]]) -> list[Row]:
    """SART from each set of views that a method sees (`sart` from the most), and the mean volume plain and refined."""
    dataset, found = protocol.dataset, []
    sets = sorted(dict.fromkeys(seen), key=len) or [dataset.views]
    for views in sets[::-1]:
        label = SART if views == sets[-1] else f"{SART}-{'-'.join(views).lower()}"
        sart = fitted_sart(size, dataset.size * dataset.spacing / size, dataset.profile, views)
        place = runs / f"{label}-{size}"
        baselines.note_sart(sart, place)
        found.append(_baseline_row(label, sart, sart.build().eval(), protocol, place, None))
    mean, place = baselines.mean_model(dataset, size), runs / f"{MEAN}-{size}"
    net = baselines.mean_net(dataset, mean, place)
    for way in (False, True) if dataset.complete_rays else (False,):
        found.append(_baseline_row(MEAN, mean, net, protocol, place, way))
    return found


def _baseline_row(label: str, model: Model, net: nn.Module, protocol: Protocol, place: Path, way: bool | None) -> Row:
    refine = protocol.dataset.complete_rays if way is None else way
    found = _judged(label, model, net.to(protocol.device), protocol, f"{label} {model.size}", refine)
    return Row(
        label=label,
        model=model.name,
        paper=model.paper,
        views=tuple(map(str, model.views)),
        refined=way,
        run=_seen_from(protocol.out, place),
        **found,
    )


def _judged(label: str, model: Model, net: nn.Module, protocol: Protocol, key: str, refine: bool) -> dict[str, Any]:
    """Scores and cost, from `scores/` where they are of the same weights, split, window and columns."""
    wanted = {**protocol.record(), "weights": key, "columns": list(protocol.columns), "net": describe_of(model)}

    def scores() -> dict[str, Any]:
        protocol.tell(f"{label}: judging, {'refined' if refine else 'plain'}")
        return judged(
            model,
            net,
            protocol.dataset,
            name=label,
            split=protocol.split,
            window=protocol.window,
            refine=refine,
            device=protocol.device,
            columns=protocol.columns,
        ).record()

    def spent() -> dict[str, Any]:
        case = protocol.dataset.cases(protocol.split)[0]
        return {**cost(model, net, case, device=protocol.device), "failed": {}}

    folder = protocol.scores
    found = _once(folder / f"{label}-{'refined' if refine else 'plain'}.json", wanted, scores)
    costs = _once(folder / f"{label}-cost.json", {"weights": key, "net": describe_of(model)}, spent)
    return {"scores": Scores.from_record(found), "cost": {k: v for k, v in costs.items() if k != "failed"}}


def _once(path: Path, wanted: Mapping[str, Any], reckon: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the file holds where it is of `wanted` and nothing failed, else `reckon` anew, and kept."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.get("of") == wanted and not kept["found"]["failed"]:
            return kept["found"]
    except (OSError, ValueError, KeyError):
        pass
    found = reckon()
    write_json(path, {"of": wanted, "found": found})
    return found


def describe_of(model: Model) -> dict[str, Any]:
    """What the scores depend on beside the weights."""
    return json.loads(json.dumps(describe(model)))


def _weights_key(folder: Path) -> str:
    return " ".join(f"{path.name}:{sha256(path)[:16]}" for path in sorted(folder.glob("*.safetensors")))


def _seen_from(out: Path, place: Path) -> str:
    """The run folder as seen from the comparison's where it lies in it or near it, else its name."""
    seen = os.path.relpath(place.resolve(), out.resolve())
    return seen if seen.count("..") <= NEAR else place.resolve().name
