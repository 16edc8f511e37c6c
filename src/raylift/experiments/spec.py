"""What an experiment declares: one value for each table and figure of a paper."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylift.models.spec import Recipe
from raylift.report.experiment import Picture

WINDOW = (-1024.0, 1476.0)  # physics.CHEST_WINDOW: every paper's numbers are judged within it here


Draw = Callable[..., Sequence[Picture]]  # of a `context.Context`


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row: a model, under its own name or another, with other options or losses, on the data or on other data.

    `recipe` takes the place of the model's own; of it the reduced sizes take the losses and the first weights. `lr` is
    theirs alone.
    """

    model: str
    label: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""  # "": the experiment's
    recipe: Recipe | None = None
    lr: float | None = None  # None: the size's

    @property
    def name(self) -> str:
        """The row's name."""
        return self.label or self.model


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a paper says: `better` is better than `worse` by this metric."""

    better: str
    worse: str
    metric: str = "psnr"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table or figure of a paper: who takes part, on which data, which metrics, which pictures, what was claimed."""

    name: str
    paper: str
    what: str  # "Table 2", "Fig. 3"
    title: str
    data: str  # in material.KINDS
    rows: tuple[Variant, ...]
    columns: tuple[str, ...] = ("mae", "mse", "psnr", "ssim", "cosine")
    claims: tuple[Order, ...] = ()
    draw: tuple[Draw, ...] = ()
    reference: str = "sart"
    note: str = ""  # how it differs from the paper's, whatever the size


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large an experiment is: voxels a side, how far nets are reduced, cases, and updates."""

    name: str
    voxels: int
    widths: str  # "tiny", "small", or "full": the paper's
    steps: int  # 0: the recipe's own epochs, and all else of the recipe
    train: int
    val: int
    test: int
    batch: int = 1
    lr: float = 1e-3
    precision: str = "no"

    def describe(self) -> str:
        """One sentence for the page."""
        if self.widths == "full":
            return f"size {self.name}: {self.voxels}³ voxels, the papers' nets, each trained by its own recipe"
        return (
            f"size {self.name}: {self.voxels}³ voxels, nets reduced ({self.widths}), {self.steps} updates of "
            f"{self.batch} by Adam at {self.lr:g} (cosine) where a row names no other rate, each with its own losses; "
            f"{self.train} phantoms to train on, {self.val} to choose the weights by"
            + (f", {self.test} to judge" if self.test else "")
        )


SIZES = {
    "smoke": Size(name="smoke", voxels=32, widths="tiny", steps=2, train=1, val=0, test=2),
    "small": Size(
        name="small", voxels=48, widths="small", steps=400, train=60, val=4, test=20, precision="bf16"
    ),  # all ours: one to eight minutes a training on two cores
    "paper": Size(name="paper", voxels=0, widths="full", steps=0, train=0, val=0, test=0),  # the data set's own
}
