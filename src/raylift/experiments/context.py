"""What a figure is drawn from: the runs of an experiment, and what they make of its cases."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from raylift.compare import Comparison
from raylift.data import store
from raylift.data.store import Dataset
from raylift.estimate import infer
from raylift.experiments.spec import Experiment, Size
from raylift.models.spec import Model
from raylift.models.weights import open_run
from raylift.types import Grid

Volume = Float[np.ndarray, "D H W"]


@dataclass(kw_only=True)
class Context:
    """An experiment that has been run: its comparison, data set and runs, and what is made of them when asked."""

    experiment: Experiment
    size: Size
    dataset: Dataset
    comparison: Comparison
    runs: Path
    other_data: Callable[[str], Dataset]  # data of another kind at the same size
    clinical: Path | None = None  # a folder of real X-rays
    roi: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)  # top, left, bottom, right of an X-ray, [0, 1]
    parts: dict[str, "Context"] = field(default_factory=dict)  # of rows that have data of their own
    made: dict[Any, Any] = field(default_factory=dict)

    def labels(self) -> list[str]:
        """The rows that were trained, in their order; one that failed is left out."""
        failed = {row.label for row in self.comparison.rows if row.scores is None}
        return [v.name for v in self.experiment.rows if v.name not in failed]

    def cases(self) -> list[str]:
        """The cases that are judged."""
        return self.dataset.splits["test"]

    def grid(self) -> Grid:
        """The cube, about its own centre."""
        return Grid.canonical((self.size.voxels,) * 3, self.dataset.size * self.dataset.spacing / self.size.voxels)

    def run(self, label: str) -> tuple[Model, nn.Module]:
        """The model and net of a row."""
        if ("run", label) not in self.made:
            self.made["run", label] = open_run(self.runs / label)
        return self.made["run", label]

    def truth(self, case: str) -> Volume:
        """The true cube, HU."""
        return (
            store.load_batch([self.dataset.case(case)], views=self.dataset.views, size=self.size.voxels)
            .hu[0, 0]
            .numpy()
        )

    def volume(self, label: str, case: str) -> Volume:
        """What the row makes of a case, HU, without consistency unless the net has it within."""
        if ("volume", label, case) not in self.made:
            model, net = self.run(label)
            batch = store.load_batch([self.dataset.case(case)], views=model.views, size=model.size)
            self.made["volume", label, case] = infer(
                model, net, batch.xrays[0], batch.beams[0], refine=model.consistent
            ).numpy()
        return self.made["volume", label, case]

    def hu(self, label: str, case: str) -> Volume:
        """The true cube where the label is "truth", else what the row makes of the case."""
        return self.truth(case) if label == "truth" else self.volume(label, case)

    @torch.no_grad()
    def outputs(self, label: str, case: str) -> dict[str, Tensor]:
        """All that the row's net returns for a case."""
        model, net = self.run(label)
        batch = store.load_batch([self.dataset.case(case)], views=model.views, size=model.size)
        return model.run(net, batch.xrays, batch.beams)
