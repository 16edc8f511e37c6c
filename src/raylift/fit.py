"""Whether a data set is one that a model can be trained on or judged by."""

from raylift.data.store import Dataset
from raylift.errors import BadInput
from raylift.models.spec import Model
from raylift.physics import ZScore


def check_fit(model: Model, dataset: Dataset) -> None:
    """An error that says in what the data set does not fit the model."""
    name = f"{dataset.folder} does not fit {model.name}"
    if dataset.profile != model.profile:
        raise BadInput(f"{name}: its profile is '{dataset.profile}', the model needs '{model.profile}'")
    missing = [view for view in model.views if view not in dataset.views]
    if missing:
        raise BadInput(f"{name}: it has no view {missing[0]}, only {', '.join(dataset.views)}")
    if dataset.size % model.size:
        raise BadInput(
            f"{name}: {dataset.size} voxels a side cannot be averaged to {model.size}; take --set size= a divisor of it"
        )
    side, wanted = dataset.size * dataset.spacing, model.size * model.spacing
    if abs(side - wanted) > 1e-3 * wanted:
        raise BadInput(f"{name}: its cube is {side:g} mm wide, the model's {wanted:g} mm")
    if isinstance(model.target, ZScore) and not isinstance(dataset.target, ZScore):
        raise BadInput(f"{name}: the model predicts standard scores, and the data set has no mean and SD for them")
