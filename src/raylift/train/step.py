"""One update: forward, losses, backward, for the generator and, where the recipe says "gan", for its discriminator."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from raylift import losses
from raylift.data.store import Batch
from raylift.errors import BadInput
from raylift.models.spec import Model, Recipe
from raylift.train.shard import share_buffers, whole


@runtime_checkable
class Engine(Protocol):
    """What an update asks of accelerate."""

    scaler: Any  # of fp16

    def backward(self, loss: Tensor) -> None: ...
    def clip_grad_norm_(self, parameters, max_norm) -> Tensor: ...
    def reduce(self, tensor: Tensor, reduction: str) -> Tensor: ...
    def no_sync(self, net: nn.Module): ...
    def unwrap_model(self, net: nn.Module) -> nn.Module: ...


@dataclass(kw_only=True)
class Players:
    """The nets that train together, each with its optimiser."""

    accelerator: Engine
    model: Model
    recipe: Recipe
    net: nn.Module
    optimiser: torch.optim.Optimizer
    critic: nn.Module | None = None  # the discriminator
    critic_optimiser: torch.optim.Optimizer | None = None

    def bare(self, net: nn.Module) -> nn.Module:
        """The net without what accelerate wraps round it to talk to other processes."""
        return self.accelerator.unwrap_model(net)


@dataclass
class Outcome:
    """What an update did: each loss before its weight, the gradient's norm, and whether the weights moved."""

    terms: dict[str, float] = field(default_factory=dict)
    norm: float = 0.0
    moved: bool = True


def make_optimiser(recipe: Recipe, net: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser over the net's parameters that train."""
    weights = [p for p in net.parameters() if p.requires_grad]
    common = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(weights, momentum=recipe.momentum, **common)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser]
    return kind(weights, betas=tuple(recipe.betas), **common)


def supervised_terms(
    recipe: Recipe, outputs: Mapping[str, Tensor], truth: Tensor, valid: Tensor | None
) -> dict[str, Tensor]:
    """Each supervised loss of the recipe, before its weight: "mse" of the volume, "mse@head" of the output "head"."""
    terms = {}
    for name in recipe.losses:
        if name != "gan":
            loss, _, output = name.partition("@")
            options = recipe.loss_options.get(name, {})
            terms[name] = losses.get(loss)(outputs[output or "ct"], truth, valid=valid, **options)
    return terms


def weighted(recipe: Recipe, terms: Mapping[str, Tensor]) -> Tensor:
    """The terms, each times its weight, added up."""
    return sum(recipe.losses[name] * term for name, term in terms.items())


def update(players: Players, batches: Sequence[Batch]) -> Outcome:
    """One step of the generator, then one of the discriminator on the same volumes (X2CT-GAN, original code).

    Where a loss or a gradient is not finite, in any process, no weight moves.
    """
    adversarial = players.critic is not None
    found, shown = [], []
    players.optimiser.zero_grad()
    if adversarial:
        players.critic.requires_grad_(False)
    for index, batch in enumerate(batches):
        with _talk(players, players.net, index == len(batches) - 1):
            terms, ct, truth = _generator_terms(players, batch)
            players.accelerator.backward(weighted(players.recipe, terms) / len(batches))
        found.append(terms)
        if adversarial:
            shown.append((players.model.inputs(batch.xrays), truth, ct.detach()))
    outcome = _finish(players, players.net, players.optimiser, found)
    if adversarial:
        players.critic.requires_grad_(True)
        if outcome.moved:
            critic = _critic_update(players, shown)
            outcome.terms.update(critic.terms)
            outcome.moved = critic.moved
    return outcome


def _generator_terms(players: Players, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The generator's losses, its volume and the truth, both on the target's scale."""
    truth = players.model.target.encode(batch.hu)
    outputs = players.model.run(players.net, batch.xrays, batch.beams)
    terms, ct = supervised_terms(players.recipe, outputs, truth, batch.valid), outputs["ct"]
    if batch.valid is not None:  # nobody can tell what was not scanned: ours
        ct = torch.where(batch.valid, ct, truth)
    if players.critic is not None:
        judged = players.bare(players.critic)(players.model.inputs(batch.xrays), ct)
        terms["gan"] = losses.lsgan_generator(judged, **players.recipe.loss_options.get("gan", {}))
    return terms, ct, truth


def _critic_update(players: Players, shown: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Outcome:
    found = []
    players.critic_optimiser.zero_grad()
    for index, (xrays, truth, ct) in enumerate(shown):
        with _talk(players, players.critic, index == len(shown) - 1):
            real, fake = players.critic(xrays, truth), players.critic(xrays, ct)
            loss = losses.lsgan_discriminator(real, fake, **players.recipe.loss_options.get("gan", {}))
            players.accelerator.backward(players.recipe.losses["gan"] * loss / len(shown))
        found.append({"discriminator": loss})
    return _finish(players, players.critic, players.critic_optimiser, found)


def _finish(players: Players, net: nn.Module, optimiser, found: Sequence[Mapping[str, Tensor]]) -> Outcome:
    """Clip, look whether all is finite, and move the weights if so."""
    accelerator = players.accelerator
    terms = torch.stack([torch.stack([t.detach().float() for t in terms.values()]) for terms in found]).mean(0)
    norm = whole(accelerator.clip_grad_norm_(net.parameters(), players.recipe.clip or float("inf")))
    finite = terms.isfinite().all()
    if accelerator.scaler is None:  # with fp16 an infinite gradient is the scaler's business
        finite = finite & norm.isfinite()
    told = accelerator.reduce(torch.cat([terms, finite[None].float()]), reduction="mean").tolist()
    moved = told[-1] == 1.0
    if moved:
        optimiser.step()
        share_buffers(net)
    optimiser.zero_grad()
    names = list(found[0])
    return Outcome(dict(zip(names, told[:-1], strict=True)), float(norm), moved)


def _talk(players: Players, net: nn.Module, last: bool):
    """Gradients are exchanged between processes in an update's last batch only."""
    return nullcontext() if last else players.accelerator.no_sync(net)


def check_recipe(model: Model, recipe: Recipe) -> None:
    """An error where the recipe names a loss that nobody knows, or the model cannot do what it asks."""
    if not recipe.losses:
        raise BadInput(f"{model.name}: the recipe has no loss; give one, as --set losses.mse=1")
    for name in recipe.losses:
        if name != "gan":
            losses.get(name.partition("@")[0])
    if "gan" in recipe.losses and model.discriminator is None:
        raise BadInput(f"{model.name} has no discriminator, so its recipe cannot have the loss 'gan'")
    if recipe.shard and (recipe.compile or recipe.precision == "fp16"):
        raise BadInput("shard=true goes with precision no or bf16, and without compile")
    for name in ("epochs", "batch_size", "accumulate"):
        if getattr(recipe, name) < 1:
            raise BadInput(f"{name}={getattr(recipe, name)}: at least 1")
