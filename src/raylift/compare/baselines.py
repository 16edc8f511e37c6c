"""The two rows that each table has: SART, and the training set's mean volume, which looks at no X-ray."""

import json
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raylift.data import store
from raylift.data.store import Dataset
from raylift.errors import BadInput
from raylift.io.files import whole_folder, write_json
from raylift.models.spec import Model
from raylift.models.weights import describe, read_tensors, write_tensors
from raylift.physics import Unit

MEAN, SART = "mean", "sart"
WIDEST = Unit((-1024.0, 3071.0))  # ours: holds what scanners measure, so nothing of the mean is clipped


class MeanVolume(nn.Module):
    """The same volume whatever the X-rays show."""

    def __init__(self, volume: Float[Tensor, "1 D H W"]):
        super().__init__()
        self.register_buffer("volume", volume)

    def forward(self, xrays: Float[Tensor, "B V rows cols"]) -> dict[str, Float[Tensor, "B 1 D H W"]]:
        """{"ct": the mean on WIDEST's scale} for each sample."""
        return {"ct": self.volume.expand(len(xrays), -1, -1, -1, -1)}


def mean_model(dataset: Dataset, size: int) -> Model:
    """What the mean volume declares on this data set."""
    return Model(
        name=MEAN,
        paper="the mean of the training set's CTs; no X-ray is looked at",
        views=dataset.views[:1],
        size=size,
        spacing=dataset.size * dataset.spacing / size,
        net=MeanVolume,
        target=WIDEST,
        profile=dataset.profile,
    )


def mean_net(dataset: Dataset, model: Model, folder: Path) -> MeanVolume:
    """The training set's mean, from `folder` where it was reckoned of the same split, else reckoned and kept there."""
    about = {"kind": MEAN, "data": dataset.folder.name, "split_hash": dataset.split_hash, "size": model.size}
    if not _holds(folder, about):
        cases = dataset.cases("train")
        if not cases:
            raise BadInput(f"{dataset.folder}: it has no case to train on, and so no mean volume")
        total = torch.zeros((1, *(model.size,) * 3), dtype=torch.float64)
        for case in cases:
            total += store.load_batch([case], views=model.views, size=model.size).hu[0]
        volume = WIDEST.encode(total / len(cases)).float()
        with whole_folder(folder) as fresh:
            write_tensors({"volume": volume}, fresh / "mean.safetensors")
            write_json(fresh / "run.json", {**about, "cases": len(cases)})
    return MeanVolume(read_tensors(folder / "mean.safetensors")["volume"]).eval()


def note_sart(model: Model, folder: Path) -> None:
    """SART's run folder: there is nothing to train, so it holds the settings alone."""
    if not (folder / "run.json").is_file():
        with whole_folder(folder) as fresh:
            write_json(fresh / "model.json", describe(model))
            write_json(fresh / "run.json", {"kind": SART, "note": "no network; nothing was trained"})


def _holds(folder: Path, about: dict) -> bool:
    try:
        kept = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (folder / "mean.safetensors").is_file() and about.items() <= kept.items()
