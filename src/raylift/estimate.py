"""Arrays to arrays: a net's HU, brought into agreement with the X-rays where that is wanted, and X-rayed again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from time import perf_counter
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raylift import consistency
from raylift.data.prepare import profiles
from raylift.errors import BadInput
from raylift.geometry import support
from raylift.inputs import Shot
from raylift.models import Model
from raylift.physics import hu_to_mu, mu_to_hu
from raylift.projector import project
from raylift.types import Beam, Grid


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Whether the result is brought into agreement with the X-rays, and why."""

    on: bool
    unknown_scale: bool
    why: str


def choose(asked: bool | None, model: Model, shots: Sequence[Shot]) -> Choice:
    """Refining is on where geometry and scale are known, off where not, unless it is asked for or declined."""
    profile = profiles.get(model.profile)
    if not (model.complete_rays and profile.complete_rays):
        if asked:
            raise BadInput(f"{model.name} predicts a part of what the rays crossed; its result cannot be refined")
        return Choice(on=False, unknown_scale=True, why="the result is a part of what the rays crossed")
    if profile.keeps != "body" and not asked:
        why = f"{model.name} predicts the {profile.keeps} alone, and an X-ray of a patient shows more"
        return Choice(on=False, unknown_scale=True, why="declined" if asked is False else why)
    guessed = [str(s.model_view) for s in shots if s.geometry_from != "file"]
    unscaled = [str(s.model_view) for s in shots if s.xray.values != "line_integral"]
    faults = [f"the geometry of {' and '.join(guessed)} was guessed"] if guessed else []
    faults += [f"the scale of {' and '.join(unscaled)} is unknown"] if unscaled else []
    if asked is False:
        return Choice(on=False, unknown_scale=bool(unscaled), why="declined")
    if not faults:
        return Choice(on=True, unknown_scale=False, why="geometry and scale come from the files")
    if asked:
        why = f"asked for, although {' and '.join(faults)}"
        return Choice(on=True, unknown_scale=bool(unscaled), why=why)
    itself = f"; {model.name} follows the X-rays all the same, it has nothing else to go by"
    why = " and ".join(faults) + (itself if model.recipe is None else "")
    return Choice(on=False, unknown_scale=bool(unscaled), why=why)


class Clock:
    """Seconds a stage: `with clock("read"): ...`."""

    def __init__(self):
        self._began, self._stages = perf_counter(), {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = perf_counter()
        yield
        self._stages[stage] = self._stages.get(stage, 0.0) + perf_counter() - began

    def seconds(self) -> dict[str, float]:
        """Each stage's seconds, and the total's."""
        told = {**self._stages, "total": perf_counter() - self._began}
        return {stage: round(seconds, 3) for stage, seconds in told.items()}


def cube_of(model: Model, centre_mm=(0.0, 0.0, 0.0)) -> Grid:
    """The model's cube, upright, centred on `centre_mm`."""
    return Grid.canonical((model.size,) * 3, model.spacing, centre_mm)


def predict(
    model: Model, net: nn.Module, xrays: Float[Tensor, "V rows cols"], beams: Sequence[Beam], *, inside: bool = True
) -> tuple[Float[Tensor, "D H W"], Float[Tensor, "D H W"], Float[Tensor, "d h w"] | None]:
    """The net's HU, its HU before the consistency that it has within, and mu on the whole support if it tells;
    `inside` False leaves its consistency out.
    """
    if model.consistent and "refine" in signature(net.forward).parameters:
        out = net(model.inputs(xrays[None]), (tuple(beams),), refine=inside)
    else:
        out = model.run(net, xrays[None], (tuple(beams),))
    hu, plain = (model.target.decode(ct[0, 0].float()) for ct in (out["ct"], out.get("unrefined", out["ct"])))
    return hu, plain, out["support"][0] if "support" in out else None


@torch.no_grad()
def infer(
    model: Model, net: nn.Module, xrays: Float[Tensor, "V rows cols"], beams: Sequence[Beam], *, refine: bool = True
) -> Float[Tensor, "D H W"]:
    """HU of line integrals on the model's panels, with beams about the cube's centre; refined where that is wanted."""
    hu, _, _ = predict(model, net, xrays, beams, inside=refine)
    if not refine or model.consistent:
        return hu
    return mu_to_hu(consistency.refine(hu_to_mu(hu), xrays, beams, cube_of(model)).mu)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What `run` gives: HU, the X-rays as line integrals and the result's own, and how far apart they are."""

    hu: Float[Tensor, "D H W"]
    xrays: Float[Tensor, "V rows cols"]
    reprojections: Float[Tensor, "V rows cols"]
    errors: dict[str, Any]
    about_refining: dict[str, Any] = field(default_factory=dict)


def run(model: Model, net: nn.Module, xrays, beams, choice: Choice, pictures=None, clock=None) -> Found:
    """Predict, refine as chosen, and project the result again.

    `xrays` lie on their own panels; `pictures` is what a net sees that is not told the geometry.
    """
    clock = clock or Clock()
    seen = xrays if pictures is None else pictures.to(xrays.device)
    inside = choice.on and model.consistent and not choice.unknown_scale
    cube = cube_of(model)
    with clock("network"):
        hu, plain, everything = predict(model, net, seen, beams, inside=inside)
    with clock("consistency"):
        whole = support(cube, beams, spacing_mm=model.spacing)
        if choice.unknown_scale:
            body = consistency.put(hu_to_mu(plain), hu.new_zeros(whole.shape), whole, cube)
            xrays, _, _ = consistency.fit_scale(body, xrays, whole, beams)
        around = consistency.sart(xrays, beams, whole, rounds=consistency.REFINE_ROUNDS)
        again = again_before = _projected(plain, around, whole, cube, beams)
        about: dict[str, Any] = {"where": "in the network" if inside else "after the network" if choice.on else None}
        if inside:
            again = _projected(hu, around if everything is None else everything, whole, cube, beams)
        elif choice.on:
            refined = consistency.refine(hu_to_mu(hu), xrays, beams, cube, around=around)
            hu, again = mu_to_hu(refined.mu), project(refined.support_mu, refined.support, beams)
    errors = {
        str(view): {
            "before": None if inside and model.recipe is None else _apart(again_before[k], xrays[k]),
            "after": _apart(again[k], xrays[k]) if choice.on else None,
        }
        for k, view in enumerate(model.views)
    }
    return Found(hu=hu, xrays=xrays, reprojections=again, errors=errors, about_refining=about)


def _projected(hu: Tensor, around: Tensor, whole: Grid, cube: Grid, beams) -> Tensor:
    """X-rays of a cube, with what SART makes of the X-rays standing around it."""
    return project(consistency.put(hu_to_mu(hu), around, whole, cube), whole, beams)


def _apart(again: Float[Tensor, "rows cols"], seen: Float[Tensor, "rows cols"]) -> dict[str, float]:
    """How far the result's X-ray is from the real one: |Ax - b| / |b|, and the mean of |Ax - b|."""
    rest = again - seen
    return {"relative_l2": float(rest.norm() / seen.norm().clamp_min(1e-9)), "mean_abs": float(rest.abs().mean())}
