"""Who is told how a training goes, beside its own log: TensorBoard always, MLflow and W&B where asked for."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from jaxtyping import UInt8

from raylift.errors import BadInput, unknown_name
from raylift.models.spec import Recipe

TRACKERS = ("tensorboard", "mlflow", "wandb")


def check_trackers(names: Sequence[str]) -> list[str]:
    """The trackers to tell, TensorBoard first; one that nobody knows or that is not installed is an error."""
    for name in names:
        if name not in TRACKERS:
            raise unknown_name("tracker", name, TRACKERS)
        if find_spec(name) is None:
            raise BadInput(
                f"tracker {name} is not installed: `pip install {name}`, or leave it out; log.jsonl and TensorBoard "
                "hold the same numbers"
            )
    return ["tensorboard", *(name for name in dict.fromkeys(names) if name != "tensorboard")]


def begin_tracking(accelerator: Accelerator, recipe: Recipe, step: int) -> None:
    """Open the trackers, under the name of the run's folder; what TensorBoard holds of updates after `step` is dropped.

    W&B's files go into that folder unless WANDB_DIR names another; MLFLOW_TRACKING_URI says where MLflow's go.
    """
    out = Path(accelerator.project_dir).resolve()
    ways = {
        "tensorboard": {"purge_step": step},
        "mlflow": {"run_name": out.name},
        "wandb": {"name": out.name, "dir": os.environ.get("WANDB_DIR", str(out))},
    }
    accelerator.init_trackers("raylift", init_kwargs=ways)
    plain = {key: value for key, value in asdict(recipe).items() if isinstance(value, (int, float, str))}
    for tracker in accelerator.trackers if accelerator.is_main_process else ():
        if tracker.name != "tensorboard":  # there it would be one more run beside this one
            tracker.store_init_configuration(plain)


def tell(accelerator: Accelerator, row: Mapping[str, Any]) -> None:
    """The numbers of one line of the log."""
    accelerator.log({f"{row['kind']}/{k}": v for k, v in row.items() if isinstance(v, float)}, step=row["step"])


def show(accelerator: Accelerator, picture: UInt8[np.ndarray, "rows cols"], step: int) -> None:
    """A picture, to the trackers that take pictures (TensorBoard and W&B)."""
    for tracker in accelerator.trackers if accelerator.is_main_process else ():
        if tracker.name == "tensorboard":
            tracker.log_images({"slices": picture[None, None]}, step=step)
        elif hasattr(tracker, "log_images"):
            tracker.log_images({"slices": [picture]}, step=step)
