"""Who takes part in a comparison: a declared model to train, or a run that is trained already."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from raylift import models
from raylift.compare.baselines import MEAN, SART
from raylift.data.store import Dataset
from raylift.errors import BadInput, Stopped
from raylift.models.spec import Model, Recipe
from raylift.models.weights import find_weights, read_model, weights_folder
from raylift.train import train
from raylift.train.log import Progress


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A method under a name: `run` where it is trained already, else trained by `recipe`."""

    label: str
    model: Model
    recipe: Recipe | None = None  # None: the model's own
    run: Path | None = None

    def __post_init__(self):
        if not self.label or self.label in (".", "..") or "/" in self.label or self.label.startswith("."):
            raise BadInput(f"'{self.label}' cannot be a row's name: it becomes a folder's")
        if self.label == MEAN or self.label.startswith(SART):
            raise BadInput(f"the row '{self.label}' is in each table already; leave it out")


def entrant(name: str | PathLike, settings: Mapping[str, str] | None = None, *, shipped: bool = False) -> Entrant:
    """The entrant of a run's folder, or of a model's name; `shipped` takes the weights that come with the program.

    `settings` are those of `--set` and go to a model that is to be trained.
    """
    text = str(name)
    if text not in models.MODELS and text not in models.ALIASES and Path(text).is_dir():
        return Entrant(label=Path(text).resolve().name, model=read_model(weights_folder(Path(text))), run=Path(text))
    model = models.get(text)
    if shipped:
        folder = find_weights(model.name)
        if folder is None:
            raise BadInput(f"{model.name} has no weights that ship with raylift; leave --shipped out to train it")
        return Entrant(label=model.name, model=read_model(folder), run=folder)
    model = model.with_settings(dict(settings or {}))
    return Entrant(label=model.name, model=model)


def fitted(one: Entrant, dataset: Dataset, size: int | None) -> Entrant:
    """The entrant at `size` voxels a side of the data set's cube; one that is trained stays as it is."""
    if one.run is not None or size is None or size == one.model.size:
        return one
    model = one.model.with_settings({"net.size": str(size)})
    return replace(one, model=replace(model, spacing=dataset.size * dataset.spacing / size))


def trained(
    one: Entrant,
    dataset: Dataset,
    folder: Path,
    *,
    steps: int | None,
    device: str | None,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """The entrant's run folder: its own, or `folder`, where training begins or goes on; finished is left alone.

    A training that a signal ended is an error (`Stopped`), so that nobody judges it.
    """
    if one.run is not None:
        return one.run
    recipe = one.recipe or one.model.recipe
    run = train(one.model, recipe, dataset.folder, folder, resume=True, steps=steps, device=device, progress=progress)
    if not run.finished:
        raise Stopped(f"{folder.name}: stopped after update {run.step} of {run.steps}; the same command goes on")
    return folder
