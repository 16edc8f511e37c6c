"""Which cases each update sees: drawn from the seed and the update's number alone, so any update can be had anew."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from raylift.data import augment, store
from raylift.data.store import Batch, Case
from raylift.data.variants import drawn_variant
from raylift.errors import BadInput
from raylift.models.spec import Model, Recipe
from raylift.types import Beam, Grid, View

ORDER, PICTURES, NET = range(3)  # what a seed is drawn for


def drawn_seed(seed: int, what: int, *place: int) -> int:
    """A seed of 63 bits for one purpose at one place of the training."""
    words = np.random.SeedSequence([seed, what, *place]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def moved_case(
    case: Case,
    model: Model,
    generator: torch.Generator,
    *,
    rays: Literal["whole", "cube"] = "whole",
    device: torch.device | str = "cpu",
    kind: Literal["paired", "xctnet"] = "paired",
) -> tuple[Float[Tensor, "V rows cols"], Float[Tensor, "1 D H W"], Bool[Tensor, "1 D H W"] | None]:
    """Line integrals, HU and valid mask of the case's patient, moved and varied at random, at the model's size.

    Where the case keeps its whole CT that is moved and projected, else its cube.
    """
    n, variant = model.size, drawn_variant(generator) if kind == "xctnet" else None
    movement = augment.draw(generator) if variant is None else variant.movement
    side = np.multiply(case.grid.spacing_mm, case.grid.shape)
    cube = Grid.canonical((n, n, n), side / n, tuple(case.grid.centre_mm))
    beams = _beams(case, model.views, n)
    source = case.source()
    hu, grid = (case.ct(), case.grid) if source is None else (source.hu, source.grid)
    hu = torch.from_numpy(np.array(hu)).to(device)
    rays = "cube" if source is None else rays
    moved, xrays = augment.apply(movement, hu, grid, cube=cube, beams=beams, rays=rays, floor_hu=case.floor_hu)
    if variant is not None:
        xrays = variant.look(xrays)
    return xrays, moved[None], _moved_mask(case, movement, cube, device)


def _beams(case: Case, views: Sequence[View], size: int) -> list[Beam]:
    """The case's beams of these views, absolute, with `size` pixels a side."""
    return [case.beams[case.views.index(view)].resized(size, size) for view in views]


def _moved_mask(case: Case, movement: augment.Movement, cube: Grid, device) -> Bool[Tensor, "1 D H W"] | None:
    """Where the moved cube shows what was scanned; what comes in from outside the cube counts as not scanned.

    The mask goes the way of the CT, as water in air.
    """
    valid = case.valid()
    if valid is None:
        return None
    water = torch.from_numpy(np.where(valid, 0, -1000).astype(np.int16)).to(device)
    one_ray = [case.beams[0].resized(1, 1)]
    still = replace(movement, density=1.0, bone=1.0)
    moved, _ = augment.apply(still, water, case.grid, cube=cube, beams=one_ray, rays="cube")
    return (moved > -5)[None]


@dataclass(frozen=True, kw_only=True)
class Feed:
    """The training cases in a seeded endless order, in batches for one of `ranks` processes."""

    cases: Sequence[Case]
    model: Model
    recipe: Recipe
    rank: int = 0
    ranks: int = 1
    threads: int = 1
    device: torch.device | str = "cpu"  # where augmentation is computed
    rays: Literal["whole", "cube"] = "whole"  # what the X-rays of a case with a source are made of

    def __post_init__(self):
        if not self.cases:
            raise BadInput("there is no case to train on; `raylift prepare` makes a data set with a train split")
        if self.recipe.batch_size % self.ranks:
            raise BadInput(f"batch_size={self.recipe.batch_size} cannot be shared by {self.ranks} processes")

    def chosen(self, step: int) -> list[list[int]]:
        """For each of the update's batches the numbers of this process's cases; every pass sees each case once."""
        size, count = self.recipe.batch_size, len(self.cases)
        first = step * size * self.recipe.accumulate
        places = range(first, first + size * self.recipe.accumulate)
        orders = {p // count: self._order(p // count) for p in places}
        numbers = [orders[p // count][p % count] for p in places]
        batches = [numbers[k : k + size] for k in range(0, len(numbers), size)]
        share = size // self.ranks
        return [batch[self.rank * share : (self.rank + 1) * share] for batch in batches]

    def _order(self, turn: int) -> list[int]:
        generator = torch.Generator().manual_seed(drawn_seed(self.recipe.seed, ORDER, turn))
        return torch.randperm(len(self.cases), generator=generator).tolist()

    def batches(self, step: int) -> list[Batch]:
        """The update's batches, augmented if the recipe says so."""
        return [self._batch(step, k, numbers) for k, numbers in enumerate(self.chosen(step))]

    def _batch(self, step: int, index: int, numbers: Sequence[int]) -> Batch:
        cases = [self.cases[number] for number in numbers]
        places = [drawn_seed(self.recipe.seed, PICTURES, step, index, self.rank, k) for k in range(len(cases))]
        if self.recipe.augment == "none":
            poses = None
            if self.recipe.poses == "any":
                poses = [place % len(case.poses) for place, case in zip(places, cases, strict=True)]
            return store.load_batch(cases, views=self.model.views, size=self.model.size, poses=poses)
        return self._moved(cases, [torch.Generator().manual_seed(place) for place in places])

    def _moved(self, cases: Sequence[Case], generators: Sequence[torch.Generator]) -> Batch:
        """A batch of moved patients, each by its own generator."""
        n, views = self.model.size, self.model.views
        moved = [
            moved_case(case, self.model, generator, rays=self.rays, device=self.device, kind=self.recipe.augment)
            for case, generator in zip(cases, generators, strict=True)
        ]
        xrays, hu, masks = zip(*moved, strict=True)
        everywhere = torch.ones_like(hu[0], dtype=torch.bool)
        partly = any(mask is not None for mask in masks)
        return Batch(
            xrays=torch.stack(xrays),
            hu=torch.stack(hu),
            valid=torch.stack([everywhere if mask is None else mask for mask in masks]) if partly else None,
            beams=tuple(store.centred_beams(_beams(case, views, n), case.grid) for case in cases),
            ids=tuple(case.id for case in cases),
        )

    def from_step(self, step: int, steps: int) -> Iterator[tuple[int, list[Batch], float]]:
        """(update, its batches, seconds waited for them), loaded ahead by threads."""
        with ThreadPoolExecutor(self.threads, thread_name_prefix="feed") as pool:
            coming = deque()
            ahead = iter(range(step, steps))
            try:
                for now in range(step, steps):
                    for later in ahead:
                        coming.append(pool.submit(self.batches, later))
                        if len(coming) > self.threads:
                            break
                    start = perf_counter()
                    batches = coming.popleft().result()
                    yield now, batches, perf_counter() - start
            finally:
                for future in coming:
                    future.cancel()
