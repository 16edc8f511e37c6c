"""Who is told how a training goes, beside its own log: TensorBoard always, MLflow and W&B where asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
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
    """Open the trackers; what TensorBoard holds of updates after `step` is dropped."""
    accelerator.init_trackers("raylift", init_kwargs={"tensorboard": {"purge_step": step}})
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
