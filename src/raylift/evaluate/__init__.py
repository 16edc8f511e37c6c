"""How well a model does on a data set's split: each case's numbers, their mean, SD and confidence interval."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raylift.data import store
from raylift.data.store import Batch, Case, Dataset, open_dataset
from raylift.errors import BadInput, RayliftError, unknown_name
from raylift.estimate import Choice, infer, run
from raylift.evaluate.columns import BETTER, BODY_HU, COLUMNS, DEFINITIONS, EVERY, MORE, definitions, text_of, value
from raylift.evaluate.scores import FEWEST_FOR_INTERVAL, Scores, summarised
from raylift.fit import check_fit
from raylift.models.spec import Model
from raylift.reconstruct import device_of, find_model, load_net

__all__ = [
    "BETTER",
    "BODY_HU",
    "COLUMNS",
    "DEFINITIONS",
    "EVERY",
    "FEWEST_FOR_INTERVAL",
    "MORE",
    "Scores",
    "definitions",
    "evaluate",
    "judged",
    "score",
    "summarised",
    "text_of",
    "value",
]


def evaluate(
    model_or_run: str | PathLike,
    dataset_folder: Path | str,
    *,
    split: str = "test",
    window: tuple[float, float],
    refine: bool | None = None,
    device: str | None = None,
    columns: Sequence[str] = tuple(COLUMNS),
    progress: Callable[[int, int, str], None] | None = None,
) -> Scores:
    """The scores of a model's name or a run's folder on a split of a data set, within `window` (HU).

    `refine` None means: where the rays are complete. `columns` are names of EVERY; `progress` is called with (done,
    all, case). A case that fails is named in the scores with its reason, and the rest goes on.
    """
    dataset = open_dataset(dataset_folder)
    model, folder = find_model(model_or_run)
    check_fit(model, dataset)
    if refine and not dataset.complete_rays:
        raise BadInput(
            f"{dataset.folder}: its cubes are a part of what the rays crossed, so nothing can be refined by them; "
            "leave --refine out"
        )
    place = device_of(device)
    return judged(
        model,
        load_net(model, folder).to(place),
        dataset,
        name=Path(model_or_run).name if folder is not None else model.name,
        split=split,
        window=window,
        refine=dataset.complete_rays if refine is None else refine,
        device=place,
        columns=columns,
        progress=progress,
    )


def judged(
    model: Model,
    net: nn.Module,
    dataset: Dataset,
    *,
    name: str,
    split: str,
    window: tuple[float, float],
    refine: bool,
    device: torch.device,
    columns: Sequence[str] = tuple(COLUMNS),
    progress: Callable[[int, int, str], None] | None = None,
) -> Scores:
    """The scores of a net that fits the data set, refined or not; `name` is what they are filed under."""
    for column in columns:
        if column not in EVERY:
            raise unknown_name("metric", column, EVERY)
    chosen = dataset.splits.get(split) or dataset.cases(split)  # an unknown split's name is an error here
    if not chosen:
        raise BadInput(f"{dataset.folder}: its split '{split}' has no case")
    found, failed = {}, {}
    for number, case in enumerate(chosen):
        try:
            found[case] = score(
                model, net, dataset.case(case), window=window, refine=refine, device=device, columns=columns
            )
        except (RayliftError, OSError) as error:
            failed[case] = str(error)
        if progress is not None:
            progress(number + 1, len(chosen), case)
    if not dataset.complete_rays and "reprojection_before" in columns:
        for row in found.values():
            row["reprojection_before"] = None
    return Scores(
        model=name,
        data=dataset.folder.name,
        split=split,
        split_hash=dataset.split_hash,
        window=window,
        size=model.size,
        spacing=model.spacing,
        refine=refine,
        cases=found,
        failed=failed,
        columns=tuple(columns),
    )


@torch.no_grad()
def score(
    model: Model,
    net: nn.Module,
    case: Case,
    *,
    window: tuple[float, float],
    refine: bool,
    device: torch.device,
    columns: Sequence[str] = tuple(COLUMNS),
) -> dict[str, float | None]:
    """One case's values; the truth is the case's CT averaged down to the model's size."""
    batch = store.load_batch([case], views=model.views, size=model.size).to(device)
    begun = perf_counter()
    hu, values = _reconstructed(model, net, batch, refine, any(name.startswith("reprojection") for name in columns))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    values["seconds"] = perf_counter() - begun
    truth, valid = batch.hu[0, 0], None if batch.valid is None else batch.valid[0, 0]
    return {n: values[n] if n in values else value(n, hu, truth, window=window, valid=valid) for n in columns}


def _reconstructed(
    model: Model, net: nn.Module, batch: Batch, refine: bool, again: bool
) -> tuple[Tensor, dict[str, float | None]]:
    """HU of a batch of one, and how far its own X-rays are from the given ones where they are asked for (`again`)."""
    if not again:
        return infer(model, net, batch.xrays[0], batch.beams[0], refine=refine), {}
    choice = Choice(on=refine, unknown_scale=False, why="the data set's own rays")
    found = run(model, net, batch.xrays[0], batch.beams[0], choice)
    return found.hu, {f"reprojection_{when}": _over_views(found.errors, when) for when in ("before", "after")}


def _over_views(errors: Mapping[str, Mapping[str, Any]], when: str) -> float | None:
    """The mean over the views of |Ax - b| / |b|; None where nothing was measured."""
    found = [stages[when]["relative_l2"] for stages in errors.values() if stages[when] is not None]
    return float(np.mean(found)) if found else None
