"""How the learning rate goes, and the running mean of the weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import cos, pi

import torch
from torch import Tensor, nn

from raylift.models.spec import Recipe
from raylift.train.shard import like


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long a training is: `steps` updates, `epoch_steps` to an epoch. The schedule spans all of it."""

    steps: int
    epoch_steps: int

    @property
    def epochs(self) -> int:
        """Epochs, the last of which may be short."""
        return -(-self.steps // self.epoch_steps)

    def epoch(self, step: int) -> int:
        """The epoch, from 0, that the update `step` (from 0) belongs to."""
        return step // self.epoch_steps


def learning_rate(recipe: Recipe, plan: Plan, step: int, plateaus: int = 0) -> float:
    """The learning rate of the update `step` (from 0) after the loss stood still `plateaus` times.

    "linear-last-half" is X2CT-GAN's (original code): constant, then a line down over the second half of the epochs.
    """
    epoch, epochs = plan.epoch(step), plan.epochs
    if recipe.schedule == "steps":
        factor = recipe.gamma ** sum(epoch >= milestone for milestone in recipe.milestones)
    elif recipe.schedule == "linear-last-half":
        half = epochs // 2
        factor = 1.0 - max(0, epoch + 1 - half) / (epochs - half + 1)
    elif recipe.schedule == "plateau":
        factor = recipe.gamma**plateaus
    elif recipe.schedule == "cosine":
        warm = min(recipe.warmup_epochs * plan.epoch_steps, plan.steps // 2)
        fallen = (1 + cos(pi * (step - warm) / max(1, plan.steps - warm))) / 2
        factor = (step + 1) / warm if step < warm else fallen
    else:
        factor = 1.0
    return recipe.lr * factor


@dataclass
class Plateau:
    """How long the loss has stood still; `seen` counts how often the rate was cut for it."""

    best: float | None = None
    still: int = 0
    seen: int = 0

    def after(self, loss: float, patience: int) -> None:
        """Take an epoch's loss into account."""
        if self.best is None or loss < self.best:
            self.best, self.still = loss, 0
        else:
            self.still += 1
        if self.still > patience:
            self.still, self.seen = 0, self.seen + 1


@dataclass
class Ema:
    """The running mean of a net's weights, float32; whole-number buffers are copied."""

    decay: float
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, net: nn.Module, decay: float) -> "Ema":
        """A mean that begins with the weights the net has."""
        return cls(decay, {name: t.detach().clone() for name, t in net.state_dict().items()})

    @torch.no_grad()
    def after(self, net: nn.Module, step: int) -> None:
        """Take the weights after the update `step` (from 0) into the mean; early on it follows faster."""
        decay = min(self.decay, (1 + step) / (10 + step))  # ours: the usual warm-up
        for name, tensor in net.state_dict().items():
            mean = self.tensors[name]
            if mean.is_floating_point():
                mean.lerp_(tensor.detach().to(mean.dtype), 1 - decay)
            else:
                mean.copy_(tensor)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from stored tensors."""
        for name, mean in self.tensors.items():
            mean.copy_(like(tensors[name], mean))
