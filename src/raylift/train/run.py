"""The run folder: recipe, model, versions, split hash, log, `last/`, `best/`, and the card that tells of it."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from raylift import DISCLAIMER, __version__
from raylift.errors import BadInput
from raylift.io.files import as_json, write_json, write_text
from raylift.models.spec import Model, Recipe
from raylift.models.weights import (
    describe,
    open_run,
    read_model,
    read_tensors,
    weights_folder,
    write_tensors,
)
from raylift.train.checkpoint import write_folder
from raylift.train.schedule import Plan

__all__ = ["Run", "begin", "export_weights", "open_run", "read_recipe", "write_card"]

PACKAGES = ("torch", "numpy", "accelerate", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training that ended or was stopped: its folder, and how far it got."""

    folder: Path
    model: Model
    step: int  # updates done
    steps: int  # updates planned
    best_loss: float | None  # of the validation cases, or of the training where there are none
    skipped: int  # updates that were not finite

    @property
    def finished(self) -> bool:
        """True where all planned updates were done."""
        return self.step >= self.steps


def recipe_record(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON content."""
    return asdict(recipe)


def read_recipe(folder: Path | str) -> Recipe:
    """The recipe that a run was trained with."""
    path = Path(folder) / "recipe.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        known = {f.name for f in fields(Recipe)}
        return Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in known})
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{path} is no recipe: {error}") from None


def begin(out: Path, model: Model, recipe: Recipe, plan: Plan, *, about: Mapping[str, Any], resume: bool) -> None:
    """Make the run's folder, or check that the one that is there was begun with the same settings."""
    started = (out / "run.json").is_file()
    if started and not resume:
        raise BadInput(f"{out} already holds a run; go on with it by --resume, or name another folder")
    if not started and out.exists() and any(out.iterdir()):
        raise BadInput(f"{out} is not empty and holds no run; name another folder")
    if started:
        _same(out, model, recipe, about)
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "recipe.json", recipe_record(recipe))
        write_json(out / "model.json", describe(model))
        write_json(out / "run.json", {**_circumstances(), **about, "seed": recipe.seed, "plan": asdict(plan)})
    except OSError as error:
        raise BadInput(f"{out} cannot be written: {error.strerror}") from None


def _same(out: Path, model: Model, recipe: Recipe, about: Mapping[str, Any]) -> None:
    """An error that names the first setting in which a resumed run differs from its beginning."""
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    pairs = (
        ("recipe", recipe_record(read_recipe(out)), recipe_record(recipe)),
        ("model", json.loads((out / "model.json").read_text(encoding="utf-8")), describe(model)),
        ("data", {key: run.get(key) for key in about}, about),
    )
    for what, before, now in pairs:
        before, now = (json.loads(as_json(record)) for record in (before, now))
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise BadInput(
                    f"{out} was begun with another {what}: {key} was {_short(before.get(key))}, now "
                    f"{_short(now.get(key))}; take the same settings, or name another folder"
                )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "..."


def _circumstances() -> dict[str, Any]:
    """Versions, machine, time and commit."""
    versions = {"raylift": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"
    return {
        "versions": versions,
        "device": device,
        "threads": torch.get_num_threads(),
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "source": source_hash(),
    }


def source_hash() -> str:
    """The first 16 hex digits of the SHA-256 of the Python files, the same for any copy of the same sources."""
    root, found = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def _commit() -> str | None:
    """The source tree's git commit, with '+' where files were changed since; outside a repository what RAYLIFT_COMMIT
    says, or None.
    """
    here = Path(__file__).parent
    try:  # a file that is installed inside somebody else's repository is not tracked there
        ask = lambda *words: subprocess.run(  # noqa: E731
            ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        ask("ls-files", "--error-unmatch", Path(__file__).name)
        return ask("rev-parse", "HEAD") + ("+" if ask("status", "--porcelain", "--", str(here.parent)) else "")
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("RAYLIFT_COMMIT") or None


def write_card(out: Path, model: Model, recipe: Recipe, state: Mapping[str, Any]) -> None:
    """Write `card.md`: what the weights are, what they were trained on and how, the numbers, and what they are not."""
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    write_text(out / "card.md", card(model, recipe, run, state))


def card(model: Model, recipe: Recipe, run: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """The card's text, Markdown."""
    losses = ", ".join(f"{weight:g} × {name}" for name, weight in recipe.losses.items())
    data = ", ".join(f"{count} in {name}" for name, count in run["cases"].items())
    lines = [
        f"# {model.name}",
        "",
        f"{DISCLAIMER}",
        "",
        f"- System: {model.name} ({model.paper}); {len(model.views)} view{'s' * (len(model.views) > 1)} "
        f"({', '.join(model.views)}), {model.size}³ voxels of {model.spacing:g} mm.",
        f"- Settings of the net: {', '.join(f'{k}={v}' for k, v in model.options.items()) or 'its own'}.",
        f"- Trained on: {run['data']} (profile {run['profile']}; cases: {data}; split {run['split_hash']}).",
        f"- How: {state['step']} of {state['plan']['steps']} updates, batches of "
        f"{recipe.batch_size * recipe.accumulate}, {recipe.optimiser}, learning rate {recipe.lr:g} "
        f"({recipe.schedule}), loss {losses}, augmentation {recipe.augment}, seed {recipe.seed}.",
        f"- Time: {state['seconds'] / 3600:.2f} hours on {run['device']}; updates skipped as not finite: "
        f"{state['skipped']}.",
        f"- raylift {run['versions']['raylift']}, torch {run['versions']['torch']}, {_origin(run)}.",
        "",
        *_numbers(state.get("history", [])),
    ]
    return "\n".join(lines) + "\n"


def _origin(run: Mapping[str, Any]) -> str:
    """Which sources trained the net."""
    if run["commit"]:
        return f"commit {run['commit']}"
    return f"commit not recorded (a copy without its history), hash of the sources {run.get('source', 'not recorded')}"


def _numbers(history: Sequence[Mapping[str, Any]]) -> list[str]:
    judged = [row for row in history if row.get("loss") is not None]
    if not judged:
        return ["No epoch was finished; there are no numbers."]
    best = min(judged, key=lambda row: row["loss"])
    if "psnr" not in best:
        return [f"No validation cases. Lowest training loss: {best['loss']:.5g}, epoch {best['epoch']}."]
    low, high = best["window"]
    return [
        f"Validation (the epoch that `best/` holds, {best['epoch']}; these cases chose it, so the numbers flatter): "
        f"loss {best['loss']:.5g}, PSNR {best['psnr']:.2f} dB, MAE {best['mae']:.1f} HU "
        f"(volume, window {low:g} to {high:g} HU)."
    ]


def _other_size(trained: Model, used: Model) -> str:
    return (
        f"\nTrained at {trained.size}³ ({trained.spacing:g} mm); shipped for use at "
        f"{used.size}³ ({used.spacing:g} mm) with the same weights.\n"
    )


def export_weights(
    run: Path | str, out: Path | str, *, model: Model | None = None, dtype: torch.dtype | None = torch.float16
) -> Path:
    """Make the folder of weights to ship, of a run: net.safetensors, model.json, recipe.json, card.md, hashes.

    `model` declares another size than the run's, for a net whose weights do not depend on it.
    """
    run, out = Path(run), Path(out)
    source = weights_folder(run)
    trained = read_model(source)
    kept = "ema.safetensors" if (source / "ema.safetensors").is_file() else "net.safetensors"
    tensors = read_tensors(source / kept)
    copies = {name: (run / name).read_bytes() for name in ("recipe.json", "card.md") if (run / name).is_file()}
    if model is not None and model.size != trained.size and "card.md" in copies:
        copies["card.md"] += _other_size(trained, model).encode()
    write_folder(
        out,
        {
            "net.safetensors": lambda path: write_tensors(tensors, path, dtype=dtype),
            "model.json": lambda path: path.write_text(as_json(describe(model or trained)), encoding="utf-8"),
            **{name: (lambda path, content=content: path.write_bytes(content)) for name, content in copies.items()},
        },
    )
    return out
