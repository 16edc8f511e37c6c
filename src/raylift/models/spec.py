"""What a model's file declares: `Model` says what the net is for, `Recipe` how it is trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor, nn

from raylift.errors import BadInput, unknown_name
from raylift.physics import Target, Unit, automatic_gamma, xray_to_input
from raylift.types import Beam, View

JUDGE = "discriminator."  # what a setting of the discriminator begins with


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a net is trained; one value holds everything, and a run keeps it. Each number has its section beside it."""

    losses: Mapping[str, float]  # name in `losses.LOSSES` (or "gan") -> weight
    loss_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name -> keyword arguments
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Literal["constant", "steps", "linear-last-half", "cosine", "plateau"] = "constant"
    milestones: tuple[int, ...] = ()  # epochs, for "steps"
    gamma: float = 0.1  # the factor of "steps" and "plateau"
    patience: int = 5  # epochs, for "plateau"
    warmup_epochs: int = 0  # linear, for "cosine"
    epochs: int = 100
    epoch_steps: int = 0  # updates an epoch has; 0: one pass over the cases
    batch_size: int = 1
    accumulate: int = 1
    init: Literal["default", "normal", "he"] = "default"  # "normal": N(0, 0.02), biases 0
    ema: float = 0.0  # decay of the running mean of the weights; 0: none
    clip: float = 0.0  # largest norm of the gradient; 0: none
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False  # torch.compile, which needs a C++ compiler
    shard: bool = False  # FSDP: several processes keep a share of the weights and moments each
    augment: Literal["none", "paired", "xctnet"] = "none"  # "xctnet": the 59 variants of its code
    poses: Literal["first", "any"] = "first"  # which of a case's X-rays: the first pair, or one drawn each time
    seed: int = 0

    def with_settings(self, settings: Mapping[str, str]) -> "Recipe":
        """This recipe with `--set key=value` applied, each value checked against its field's type.

        A dotted key reaches into a mapping: `losses.mse=10`.
        """
        return replace(self, **_parsed(self, settings))


@dataclass(frozen=True, kw_only=True)
class Model:
    """One system: what goes in, what comes out, the net, and how it is trained.

    `net(**options)` builds it at paper size; `tiny` are the options of a copy small enough for a test, which may
    have another `size`. A net is called as `net(xrays)` with xrays B V H W, or as `net(xrays, beams)` where
    `told_geometry` is true (beams: for each sample a tuple of beams in the frame of the cube's centre), and
    returns {"ct": B 1 D H W on `target`'s scale, ...extras}.
    """

    name: str
    paper: str  # author, year, title or "ours"
    views: tuple[View, ...]
    size: int  # voxels a side, and pixels a side of each X-ray
    spacing: float  # mm
    net: Callable[..., nn.Module]
    options: Mapping[str, Any] = field(default_factory=dict)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    target: Target = Unit((-1024.0, 1476.0))
    discriminator: Callable[..., nn.Module] | None = None
    discriminator_options: Mapping[str, Any] = field(default_factory=dict)
    tiny_discriminator: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe | None = None  # None: there is nothing to train
    told_geometry: bool = False
    xray_values: Literal["input", "line_integral"] = "input"  # `physics.xray_to_input`, or the integrals themselves
    gamma: float | None = None  # the target of an automatic gamma after `xray_to_input`; the data set's when trained
    complete_rays: bool = True  # what it predicts is all that its X-rays crossed; the data set's when trained
    consistent: bool = False  # data consistency is inside the net already
    profile: str = "chest"  # the data set's profile that fits
    reported: Mapping[str, Any] = field(default_factory=dict)  # the paper's own numbers, with its definitions
    stated_counts: Mapping[str, Any] = field(default_factory=dict)  # parameters and operations as paper or code say
    choices: tuple[str, ...] = ()  # what nobody says and we had to choose, one sentence each

    def build(self, generator: torch.Generator | None = None, **options) -> nn.Module:
        """The net with freshly drawn weights; the same generator state gives the same weights on a CPU."""
        from raylift.blocks.init import draw_weights

        net = self.net(**{**self.options, **options})
        if self.recipe is not None:
            draw_weights(net, self.recipe.init, generator)
        return net

    def build_discriminator(self, generator: torch.Generator | None = None, **options) -> nn.Module | None:
        """The discriminator, or None where the system has none."""
        from raylift.blocks.init import draw_weights

        if self.discriminator is None:
            return None
        net = self.discriminator(**{**self.discriminator_options, **options})
        draw_weights(net, self.recipe.init, generator)
        return net

    def build_tiny(self, generator: torch.Generator | None = None) -> nn.Module:
        """A copy small enough for a test; its side is `tiny_size`."""
        return self.build(generator, **self.tiny)

    def inputs(self, xrays: Tensor) -> Tensor:
        """What the net is fed, of line integrals (or any picture in which dense is bright) B V H W."""
        if self.xray_values != "input":
            return xrays
        seen = xray_to_input(xrays)
        return seen if self.gamma is None else automatic_gamma(seen, self.gamma)

    def run(self, net: nn.Module, xrays: Tensor, beams: Sequence[tuple[Beam, ...]]) -> dict[str, Tensor]:
        """The net's outputs for line integrals B V H W and each sample's beams, in training as in use."""
        inputs = self.inputs(xrays)
        return net(inputs, beams) if self.told_geometry else net(inputs)

    @property
    def tiny_size(self) -> int:
        """Voxels a side of the tiny copy."""
        return int(self.tiny.get("size", self.size))

    def with_settings(self, settings: Mapping[str, str]) -> "Model":
        """This model with `--set`: `key=value` for the recipe, `net.key=value` or a net option's own name, and
        `discriminator.key=value`.
        """
        judged = {k.removeprefix(JUDGE): v for k, v in settings.items() if k.startswith(JUDGE)}
        net = {k.removeprefix("net."): v for k, v in settings.items() if k.startswith("net.") or k in self.options}
        rest = {k: v for k, v in settings.items() if not (k.startswith(("net.", JUDGE)) or k in self.options)}
        if judged and self.discriminator is None:
            raise BadInput(f"--set {JUDGE}{next(iter(judged))}: {self.name} has no discriminator")
        options = _options_with(self.options, net, f"{self.name}'s net")
        judge = _options_with(self.discriminator_options, judged, f"{self.name}'s discriminator")
        size = int(options.get("size", self.size))
        spacing = self.spacing * self.size / size  # the cube's side stays
        if "spacing" in options and "spacing" not in net:
            options["spacing"] = spacing
        recipe = self.recipe.with_settings(rest) if self.recipe is not None else None
        return replace(self, options=options, discriminator_options=judge, size=size, spacing=spacing, recipe=recipe)


def _options_with(options: Mapping[str, Any], settings: Mapping[str, str], whose: str) -> dict[str, Any]:
    """`options` with `settings`, each checked against the value that it replaces."""
    for key in settings:
        if key not in options:
            raise unknown_name(f"option of {whose}", key, options)
    return {**options, **{k: _value(k, v, _kind(options[k])) for k, v in settings.items()}}


def _parsed(recipe: Recipe, settings: Mapping[str, str]) -> dict[str, Any]:
    known = {f.name: f.type for f in fields(Recipe)}
    out: dict[str, Any] = {}
    for key, text in settings.items():
        name, _, inner = key.partition(".")
        if name not in known:
            raise unknown_name("setting of a recipe", name, known)
        if inner:
            mapping = dict(out.get(name, getattr(recipe, name)))
            if not isinstance(getattr(recipe, name), Mapping):
                raise BadInput(f"--set {key}: '{name}' has no parts")
            mapping[inner] = _value(key, text, float)
            out[name] = mapping
        else:
            out[name] = _value(key, text, known[name])
    return out


def _kind(value: Any) -> Any:
    """The type that a text in this option's place must have; a tuple's entries are of its first one's."""
    return tuple[type(value[0]), ...] if isinstance(value, tuple) and value else type(value)


def _value(key: str, text: str, kind: Any) -> Any:
    """`text` as the type `kind`, or an error that names the key."""
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    if choices:
        if text not in choices:
            raise BadInput(f"--set {key}={text}: one of {', '.join(map(str, choices))}")
        return text
    try:
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        if kind is int:
            return int(text)
        if kind is float:
            number = float(text)
            if number != number or number in (float("inf"), -float("inf")):
                raise ValueError(text)
            return number
        if kind is str:
            return text
        if kind is tuple or get_origin(kind) is tuple:
            inner = (get_args(kind) or (float,))[0]
            return tuple(_value(key, part, inner) for part in text.strip("()[] ").split(",") if part.strip())
    except (ValueError, KeyError):
        name = getattr(kind, "__name__", str(kind))
        raise BadInput(f"--set {key}={text}: not a valid {name}") from None
    raise BadInput(f"--set {key}: this setting cannot be given on the command line")
