"""A net's weights on disk: a folder with `net.safetensors`, `model.json` and the SHA-256 of each file.

A run's `best/` and `last/` are such folders, and so is each folder of shipped weights. Nothing here is pickled.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from raylift.errors import BadInput, unknown_name
from raylift.models.spec import Model
from raylift.physics import Target, Unit, ZScore
from raylift.types import View

SHIPPED = Path(__file__).parents[1] / "weights"
HASHES = "sha256.json"  # written last: a folder without it is not complete
NAMED_AT_MOST = 5  # tensors that one message names


def describe(model: Model) -> dict[str, Any]:
    """What `model.json` holds: the model's name, and the settings that make this net of it (and its discriminator)."""
    from raylift import models

    judge = {key: value for key, value in model.discriminator_options.items() if key != "views"}
    return {
        "version": 1,
        "name": model.name,
        "options": dict(model.options),
        "views": [str(view) for view in model.views],
        "size": model.size,
        "spacing": model.spacing,
        "target": _target_record(model.target),
        **({} if model.profile == models.MODELS.get(model.name, model).profile else {"profile": model.profile}),
        **({} if model.gamma is None else {"gamma": model.gamma}),
        **({} if model.complete_rays else {"complete_rays": False}),
        **({"discriminator": judge} if judge else {}),
    }


def rebuild(record: Mapping[str, Any], base: Model, where: str = "model.json") -> Model:
    """`base` with the settings of `record`."""
    known = inspect.signature(base.net).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in known.values())
    try:
        for key in record["options"]:
            if key not in known and not takes_all:
                raise unknown_name(f"option of {base.name}'s net ({where})", key, known)
        return replace(
            base,
            options={key: _tuples(value) for key, value in record["options"].items()},
            views=tuple(View(view) for view in record["views"]),
            size=int(record["size"]),
            spacing=float(record["spacing"]),
            target=_target(record["target"]),
            profile=str(record.get("profile", base.profile)),
            gamma=None if record.get("gamma") is None else float(record["gamma"]),
            complete_rays=bool(record.get("complete_rays", True)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{where} is damaged: {error!r}") from None


def read_model(folder: Path) -> Model:
    """The model that the folder's `model.json` describes."""
    from raylift import models

    path = folder / "model.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        name = record["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} cannot be read as a model's description: {error!r}") from None
    return rebuild(record, models.get(name), str(path))


def find_weights(name: str) -> Path | None:
    """The folder of weights that ship with the program for the model `name`, or None."""
    folder = SHIPPED / name
    return folder if (folder / "net.safetensors").is_file() else None


def weights_folder(path: Path | str) -> Path:
    """Where the weights of a run or of a folder of weights lie: `best/`, else `last/`, else the folder itself.

    A folder with a file that is missing, cut off or changed is passed over if there is another.
    """
    path = Path(path)
    faults = []
    for folder in (path / "best", path / "best.previous", path / "last", path / "last.previous", path):
        if (folder / "model.json").is_file() and _weights_file(folder) is not None:
            fault = damage(folder)
            if fault is None:
                return folder
            faults.append(fault)
    if faults:
        raise BadInput(f"{faults[0]}; train again or take another copy of the weights")
    pickles = [p.name for p in sorted(path.glob("*.p*")) if p.suffix in (".pt", ".pth", ".pkl", ".pickle")]
    if pickles:
        raise BadInput(f"{path} holds {pickles[0]}, and pickled weights are never opened; give safetensors")
    raise BadInput(f"{path} holds no weights (neither a run's best/ or last/ nor net.safetensors with model.json)")


def open_run(path: Path | str, device: torch.device | str = "cpu") -> tuple[Model, nn.Module]:
    """The model and its net, with weights and ready for use, of a run's folder or a folder of weights."""
    folder = weights_folder(path)
    model = read_model(folder)
    return model, load_weights(model, folder).to(device)


def load_weights(model: Model, folder: Path | str) -> nn.Module:
    """The model's net with the folder's weights, in evaluation mode, float32."""
    folder = Path(folder)
    file = _weights_file(folder)
    if file is None:
        raise BadInput(f"{folder} holds no net.safetensors")
    net = model.build(torch.Generator().manual_seed(0))
    fill(net, file)
    return net.eval()


def fill(net: nn.Module, file: Path) -> None:
    """Give `net` the tensors of `file`; one that is missing, not wanted, mis-shaped or not finite is named."""
    net.load_state_dict(fitting(file, net.state_dict()))


def fitting(file: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `file`, of the names and shapes that a net has; else each fault is named."""
    tensors = read_tensors(file)
    faults = {
        "missing": [name for name in wanted if name not in tensors],
        "not of this net": [name for name in tensors if name not in wanted],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} for {tuple(wanted[name].shape)}"
            for name in wanted
            if name in tensors and tensors[name].shape != wanted[name].shape
        ],
        "not finite": [name for name, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()],
    }
    told = [f"{_some(names)} {kind}" for kind, names in faults.items() if names]
    if told:
        raise BadInput(f"{file} does not fit the net: {'; '.join(told)}")
    return tensors


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, floats as float32."""
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise BadInput(f"{file} is no complete safetensors file: {error}") from None
    return {name: t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for name, t in tensors.items()}


def write_tensors(tensors: Mapping[str, Tensor], file: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write tensors as safetensors, floating ones as `dtype` where it is given."""
    kept = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        change = dtype is not None and tensor.is_floating_point()
        kept[name] = (tensor.to(dtype) if change else tensor).clone().contiguous()
    save_file(kept, file)


def write_hashes(folder: Path) -> None:
    """Write the SHA-256 of each file of the folder; this makes the folder complete."""
    hashes = {p.name: sha256(p) for p in sorted(folder.iterdir()) if p.name != HASHES}
    (folder / HASHES).write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")


def damage(folder: Path) -> str | None:
    """What is wrong with the folder's files, in words; None where each is as it was written."""
    try:
        hashes = json.loads((folder / HASHES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{folder} is not complete ({HASHES} is missing or damaged)"
    for name, wanted in hashes.items():
        if not (folder / name).is_file():
            return f"{folder / name} is missing"
        if sha256(folder / name) != wanted:
            return f"{folder / name} is not as it was written (cut off or changed)"
    return None


def sha256(file: Path) -> str:
    """The file's SHA-256 in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _weights_file(folder: Path) -> Path | None:
    """`ema.safetensors` (a running mean) where the folder keeps one, else `net.safetensors`."""
    for name in ("ema.safetensors", "net.safetensors"):
        if (folder / name).is_file():
            return folder / name
    return None


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(names[:NAMED_AT_MOST]) + more


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples."""
    return tuple(_tuples(x) for x in value) if isinstance(value, list) else value


def _target_record(target: Target) -> dict[str, Any]:
    if isinstance(target, Unit):
        return {"kind": "unit", "window": list(target.window)}
    return {"kind": "zscore", "mean": target.mean, "sd": target.sd}


def _target(record: Mapping[str, Any]) -> Target:
    if record["kind"] == "unit":
        low, high = record["window"]
        return Unit((float(low), float(high)))
    return ZScore(float(record["mean"]), float(record["sd"]))
