"""Reduced copies of the papers' nets, so that all of them can be trained on a small computer, and how they are."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from raylift import models
from raylift.compare import Entrant
from raylift.data.store import Dataset
from raylift.experiments.spec import WINDOW, Size, Variant
from raylift.models.spec import Model, Recipe
from raylift.physics import Unit

X2CT: dict[str, Any] = {"width": 16, "growth": 8, "layers": (2, 2, 2), "widths": (8, 8, 16, 32)}
SMALL: dict[str, dict[str, Any]] = {  # how a model's name begins -> what is otherwise than in the tiny copy; all ours
    "raylift": {"width": 8, "levels": 3},
    "x2ct": X2CT,
    "3dsrnet": X2CT,
    "x-recon": X2CT,
    "cvaa-gan": X2CT,
    "xctnet": {"width": 32, "blocks": (1, 1, 1, 1)},
    "psr": {"width": 1 / 8, "steps": 4},
    "sit": {"width": 16, "pools": 3},
    "e2e": {"width": 8},
    "e2e-small": {"width": 16},
    "3dcnn": {"width": 8},
    "bx2s-net": {"widths": (6, 12, 24, 48)},
    "ear": {"widths": (8, 16, 32, 64)},
}


def options_of(model: Model, size: Size) -> dict[str, Any]:
    """The options that reduce a model to this size."""
    if size.widths == "full":
        return {"size": size.voxels}
    starts = [start for start in SMALL if model.name.startswith(start)]
    more = SMALL[max(starts, key=len)] if size.widths == "small" and starts else {}
    options = {**model.tiny, **more, "size": size.voxels}
    if "work" in options:
        options["work"] = size.voxels
    return options


def recipe_of(variant: Variant, size: Size) -> Recipe:
    """One way of training for all: Adam, a cosine, the same updates; losses and first weights are the row's own, and
    the rate where it names one.

    At the paper's size it is the row's own recipe.
    """
    own = variant.recipe or models.get(variant.model).recipe
    if size.widths == "full":
        return own
    return Recipe(
        losses=own.losses,
        loss_options=own.loss_options,
        lr=variant.lr or size.lr,
        betas=own.betas,
        schedule="cosine",
        epoch_steps=max(1, size.steps // 10),  # ours: ten looks at the validation cases
        batch_size=size.batch,
        init=own.init,
        precision=size.precision,
    )


def entrant_of(variant: Variant, dataset: Dataset, size: Size) -> Entrant:
    """The variant as it takes part on this data set at this size."""
    model = models.get(variant.model)
    changes = {**options_of(model, size), **variant.options}
    spacing = dataset.size * dataset.spacing / size.voxels
    if "spacing" in model.options:
        changes["spacing"] = spacing
    discriminator = model.discriminator_options
    if model.discriminator is not None and size.widths != "full":
        discriminator = {**discriminator, **model.tiny_discriminator}
    target = Unit(WINDOW) if isinstance(model.target, Unit) else dataset.target
    small = replace(
        model,
        options={**model.options, **changes},
        discriminator_options=discriminator,
        size=size.voxels,
        spacing=spacing,
        profile=dataset.profile,
        target=target,
    )
    return Entrant(label=variant.name, model=small, recipe=recipe_of(variant, size))


def widths_of(variant: Variant, size: Size) -> Mapping[str, Any]:
    """What the copy has otherwise than the paper's net, for a page."""
    model = models.get(variant.model)
    own = {**options_of(model, size), **variant.options}
    rate = {} if variant.lr is None or size.widths == "full" else {"lr": f"{variant.lr:g}"}
    return {**{key: value for key, value in own.items() if value != model.options.get(key)}, **rate}
