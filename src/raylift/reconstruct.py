"""X-ray files to a CT: read, place, predict, bring into agreement with the X-rays, and say what was guessed."""

import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import signature
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raylift import DISCLAIMER, __version__, models
from raylift.errors import BadInput, OutOfMemory
from raylift.estimate import Clock, choose, cube_of, infer, run
from raylift.inputs import Shot, check_count, read_shots
from raylift.io.files import shown
from raylift.models import Model
from raylift.models.quick import quick
from raylift.models.weights import find_weights, load_weights, read_model, sha256, weights_folder
from raylift.panels import for_net, for_rays, skeletons, wants_skeletons
from raylift.types import Beam, Volume, Xray

__all__ = ["Result", "find_model", "infer", "load_net", "reconstruct"]

DEFAULT = {1: "raylift-single", 2: "raylift"}  # number of X-rays -> model


@dataclass(frozen=True, kw_only=True)
class Result:
    """A reconstruction, nothing of it written yet.

    `xrays` and `reprojections` are line integrals on the X-rays' own panels at the model's size; where an X-ray's
    scale is unknown, `xrays` holds it with the gain and offset that fit the result best.
    """

    ct: Volume
    xrays: tuple[Xray, ...]
    reprojections: tuple[Xray, ...]
    manifest: dict[str, Any]


def reconstruct(
    pa: str | PathLike,
    lateral: str | PathLike | None = None,
    *,
    model: str | PathLike | None = None,
    refine: bool | None = None,
    bone: bool | None = None,
    spacing: float | tuple[float, float] | None = None,
    geometry: str | PathLike | None = None,
    lateral_faces: str | None = None,
    device: str | None = None,
) -> Result:
    """The CT (HU, in the world frame) of one X-ray file or two, and all that is known of how it came about.

    `model` is a name or a run's folder; `refine` None means: where geometry and scale come from the files. `bone` says
    whether the skeleton is separated from the pictures first; None: where the model learnt from X-rays of skeletons.
    """
    paths = [Path(path) for path in (pa, lateral) if path is not None]
    clock = Clock()
    target_device = device_of(device)
    declared, folder = find_model(model if model is not None else DEFAULT[len(paths)])
    check_count(paths, declared)
    with clock("read"):
        shots, isocentre, notes = read_shots(
            paths, declared, spacing=spacing, geometry=geometry, lateral_faces=lateral_faces
        )
    geometry_found = {str(shot.model_view): _placement(shot) for shot in shots}
    alone, why = _bone(bone, declared)
    if alone:
        with clock("bone"):
            shots, more = skeletons(shots)
        notes += more
    choice = choose(refine, declared, shots)
    with enough_memory(declared), torch.no_grad():
        with clock("load"):
            net = load_net(declared, folder).to(target_device)
        xrays, beams = for_rays(shots, declared, isocentre)
        pictures, more = (None, []) if declared.told_geometry else for_net(shots, declared, isocentre)
        found = run(declared, net, xrays.to(target_device), beams, choice, pictures, clock)
    volume = Volume(hu=found.hu.cpu().numpy(), grid=cube_of(declared, isocentre), source="reconstruction")
    return Result(
        ct=volume,
        xrays=_pictures(shots, found.xrays, isocentre, beams, known=not choice.unknown_scale),
        reprojections=_pictures(shots, found.reprojections, isocentre, beams, known=True),
        manifest={
            **_circumstances(declared, folder, target_device),
            "isocentre_lps_mm": [float(x) for x in isocentre],
            "geometry": geometry_found,
            "bone": {"on": alone, "why": why},
            "notes": [*notes, *more],
            "refine": {"on": choice.on, "why": choice.why, **found.about_refining},
            "reprojection": found.errors,
            "runtime_s": clock.seconds(),
        },
    )


def _bone(asked: bool | None, model: Model) -> tuple[bool, str]:
    """Whether the skeleton is separated from the X-rays before the net sees them, and why."""
    wanted = wants_skeletons(model)
    what = "X-rays of the skeleton alone" if wanted else "X-rays of all that the rays crossed"
    if asked is not None:
        return asked, f"{'asked for' if asked else 'declined'}; {model.name} learnt from {what}"
    return wanted, f"{model.name} learnt from {what}"


def device_of(name: str | None) -> torch.device:
    """The device of that name; without one, a GPU where there is one."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise BadInput(f"no device '{shown(name)}' here; give --device cpu, or leave it out") from None
    if device.type == "meta":
        raise BadInput("the device 'meta' computes nothing; give --device cpu, or leave it out")
    return device


def find_model(name: str | PathLike) -> tuple[Model, Path | None]:
    """The model of a name or a run's folder, and where its weights lie (None: it has none to learn)."""
    text = str(name)
    if text not in models.MODELS and text not in models.ALIASES and Path(text).is_dir():
        folder = weights_folder(Path(text))
        return read_model(folder), folder
    model = models.get(text)
    if model.recipe is None:
        return model, None
    folder = find_weights(model.name)
    if folder is None:
        raise BadInput(
            f"{model.name} has no weights that ship with raylift; train it with `raylift train {model.name} "
            "--data DATASET -o RUN` (`raylift prepare` makes DATASET) and give --model RUN"
        )
    folder = weights_folder(folder)
    return read_model(folder), folder


def load_net(model: Model, folder: Path | None) -> nn.Module:
    """The net, ready for use, with the layers that are quick in use."""
    return quick(model.build().eval() if folder is None else load_weights(model, folder))


@contextmanager
def enough_memory(model: Model) -> Iterator[None]:
    """Turns the ways in which memory runs out into one error that says what would fit."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
        if not lacking:
            raise
        smaller = [m.name for m in models.MODELS.values() if m.size < model.size and len(m.views) == len(model.views)]
        other = f"a smaller model ({', '.join(smaller[:3])})" if smaller else "a model of a smaller size"
        raise OutOfMemory(
            f"{model.name} at {model.size}³ does not fit into memory; try --device cpu or {other}"
        ) from None


def _pictures(shots: Sequence[Shot], pixels: Tensor, isocentre, beams: Sequence[Beam], *, known: bool):
    """X-rays as values, their beams back in the world."""
    return tuple(
        replace(
            shot.xray,
            pixels=picture.cpu().numpy(),
            pixel_mm=beam.pixel_mm,
            beam=beam.moved(isocentre),
            values="line_integral" if known else shot.xray.values,
            isocentre_mm=tuple(float(x) for x in isocentre),
        )
        for shot, picture, beam in zip(shots, pixels, beams, strict=True)
    )


def _placement(shot: Shot) -> dict[str, Any]:
    """What the manifest says of one X-ray; nothing that names a patient or a file."""
    return {
        "view": str(shot.xray.view),
        "from": shot.geometry_from,
        "values": shot.xray.values,
        "beam": repr(shot.xray.beam),
    }


def _circumstances(model: Model, folder: Path | None, device: torch.device) -> dict[str, Any]:
    """Program, versions, model and weights."""
    shipped = folder is not None and folder == find_weights(model.name)
    return {
        "program": "raylift",
        "version": __version__,
        "disclaimer": DISCLAIMER,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "device": str(device),
        "deterministic": device.type == "cpu",
        "model": {
            "name": model.name,
            "paper": model.paper,
            "views": [str(view) for view in model.views],
            "size": model.size,
            "spacing_mm": model.spacing,
            "target": repr(model.target),
            "options": {key: repr(value) for key, value in model.options.items()},
        },
        "weights": None
        if folder is None
        else {
            "from": "shipped" if shipped else "run",
            "sha256": {file.name: sha256(file) for file in sorted(folder.glob("*.safetensors"))},
        },
    }


class _Callable(ModuleType):
    """This module, called as the function that it is named after: `raylift.reconstruct(pa, lateral)`."""

    def __call__(self, *args, **options) -> Result:
        return reconstruct(*args, **options)


__signature__ = signature(reconstruct)
sys.modules[__name__].__class__ = _Callable
