"""The folders `last/` and `best/`, each with the one before it kept beside it."""

import json
import logging
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from raylift.errors import BadInput
from raylift.io.files import as_json, whole_folder
from raylift.models.spec import Model
from raylift.models.weights import damage, describe, fitting, read_tensors, write_hashes, write_tensors
from raylift.train.schedule import Ema
from raylift.train.shard import like, put_moments, whole, whole_moments
from raylift.train.step import Players

log = logging.getLogger(__name__)


def write_folder(folder: Path, files: Mapping[str, Callable[[Path], None]], *, keep: bool = False) -> None:
    """Put a new folder in the place of `folder`, kept as `<name>.previous` if `keep`; a kill loses neither."""
    with whole_folder(folder, keep=keep) as new:
        for name, write in files.items():
            try:
                write(new / name)
            except SafetensorError as error:
                raise BadInput(f"{folder / name} cannot be written: {error}; what was there before is whole") from None
        write_hashes(new)


def write_last(out: Path, players: Players, ema: Ema | None, state: Mapping[str, Any]) -> None:
    """Everything that going on needs: nets, running mean, optimisers, where the training stands; all processes call it,
    for each may hold a share, and the first one writes.
    """
    files = _weights(players.model, _whole(players.bare(players.net).state_dict()))
    if ema is not None:
        mean = _whole(ema.tensors)
        files["ema.safetensors"] = lambda path: write_tensors(mean, path)
    machines = {"optimiser": whole_moments(players.optimiser)}
    if players.critic is not None:
        tensors = _whole(players.bare(players.critic).state_dict())
        files["discriminator.safetensors"] = lambda path: write_tensors(tensors, path)
        machines["critic_optimiser"] = whole_moments(players.critic_optimiser)
    if players.accelerator.scaler is not None:
        machines["scaler"] = players.accelerator.scaler.state_dict()
    files["optimisers.pt"] = lambda path: torch.save(machines, path)
    files["state.json"] = lambda path: path.write_text(as_json(state), encoding="utf-8")
    if players.accelerator.is_main_process:
        write_folder(out / "last", files, keep=True)


def write_best(out: Path, players: Players, ema: Ema | None) -> None:
    """The weights to use: the running mean where there is one; as `write_last`."""
    tensors = _whole(players.bare(players.net).state_dict() if ema is None else ema.tensors)
    if players.accelerator.is_main_process:
        write_folder(out / "best", _weights(players.model, tensors), keep=True)


def _whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: whole(tensor) for name, tensor in tensors.items()}


def _weights(model: Model, tensors: Mapping[str, Tensor]) -> dict[str, Callable[[Path], None]]:
    return {
        "net.safetensors": lambda path: write_tensors(tensors, path),
        "model.json": lambda path: path.write_text(as_json(describe(model)), encoding="utf-8"),
    }


def newest(out: Path) -> Path | None:
    """The complete checkpoint that got furthest; one that is damaged is passed over with a warning."""
    found: list[tuple[int, Path]] = []
    for name in ("last", "last.previous"):
        folder = out / name
        if not folder.is_dir():
            continue
        fault = damage(folder)
        if fault is None:
            found.append((json.loads((folder / "state.json").read_text(encoding="utf-8"))["step"], folder))
        else:
            log.warning("%s; the checkpoint before it is taken", fault)
    return max(found)[1] if found else None


def read_last(folder: Path, players: Players, ema: Ema | None) -> dict[str, Any]:
    """Put everything back as `write_last` found it; the rest of the state comes back."""
    _fill(players.bare(players.net), folder / "net.safetensors")
    if ema is not None:
        ema.load(read_tensors(folder / "ema.safetensors"))
    try:
        machines = torch.load(folder / "optimisers.pt", map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise BadInput(f"{folder / 'optimisers.pt'} cannot be read: {str(error).splitlines()[0]}") from None
    put_moments(players.optimiser, machines["optimiser"])
    if players.critic is not None:
        _fill(players.bare(players.critic), folder / "discriminator.safetensors")
        put_moments(players.critic_optimiser, machines["critic_optimiser"])
    if players.accelerator.scaler is not None and "scaler" in machines:
        players.accelerator.scaler.load_state_dict(machines["scaler"])
    return json.loads((folder / "state.json").read_text(encoding="utf-8"))


def _fill(net: nn.Module, file: Path) -> None:
    own = net.state_dict()
    net.load_state_dict({name: like(tensor, own[name]) for name, tensor in fitting(file, own).items()})
