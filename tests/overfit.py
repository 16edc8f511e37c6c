"""Reduced copies of the systems learn one real case by heart: does the wiring learn at all?

    python tests/overfit.py [NAME ...]

writes what it finds to golden/overfit.json, from which `make golden` makes the table in docs/models.md.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from raylift.blocks.init import channels_last
from raylift.data.prepare import prepare
from raylift.data.store import Batch, load_batch, open_dataset
from raylift.losses import mse
from raylift.metrics import psnr
from raylift.models import FILES, MODELS
from raylift.models.counts import parameters
from raylift.models.spec import Model
from raylift.physics import CHEST_WINDOW
from raylift.types import View

CASE = Path(__file__).parents[1] / "examples" / "lidc-idri-0001" / "ct.nii.gz"
RECORD = Path(__file__).parent / "golden" / "overfit.json"
SIZE = 64  # 5 mm
ENOUGH = 25.0  # dB, of the volume over the chest window
STEPS = 800
LOOK = 5  # updates between two looks at the PSNR

X2CT = {"width": 16, "growth": 8, "layers": (2, 2, 2), "widths": (8, 8, 16, 32)}
PSR = {"width": 1 / 8, "steps": 4}
RAYLIFT = {"spacing": 5.0, "work": SIZE, "width": 8, "levels": 3, "start_rounds": 1, "rounds": 1}


@dataclass(frozen=True, kw_only=True)
class Copy:
    """What the copy has otherwise than the tiny one, and how it learns; all ours."""

    options: Mapping[str, Any] = field(default_factory=dict)
    lr: float = 1e-3  # Adam's
    init: str | None = None  # None: the recipe's


SHUT = 3e-4  # the rate above which the first updates shut the ReLU behind a 7^3 head: its weights all move together
REDUCED = {
    "raylift": Copy(options=RAYLIFT, lr=4e-3),
    "raylift-single": Copy(options={**RAYLIFT, "width": 16}, lr=5e-3),
    "x2ct-gan": Copy(options=X2CT, lr=SHUT),
    "x2ct-gan-single": Copy(options=X2CT, lr=SHUT),
    "x2ct-cnn": Copy(options=X2CT, lr=SHUT),
    "xctnet": Copy(options={"width": 32}, lr=2e-3),
    "xctnet-resxct": Copy(options={"width": 32}, lr=2e-3),
    "3dsrnet": Copy(options={**X2CT, "srct_levels": 1}, lr=SHUT),
    "x-recon": Copy(options=X2CT, lr=2e-3),
    "x-recon-128": Copy(options=X2CT, lr=2e-3),
    "cvaa-gan": Copy(options={**X2CT, "vaa_kernel": 3}, lr=2e-3),
    # the released code's way to draw weights leaves the last two layers, which have no norm, large: 19.4 dB after 400
    "psr": Copy(options=PSR, lr=2e-3, init="normal"),
    "psr-biplanar": Copy(options=PSR, lr=2e-3, init="normal"),
    "sit": Copy(options={"width": 16, "pools": 3}),
    "sit-biplanar": Copy(options={"width": 16, "pools": 3}),
    "e2e": Copy(options={"width": 8}),
    "e2e-small": Copy(options={"width": 8, "levels": 4}, lr=4e-3),
    "3dcnn": Copy(options={"width": 8}),
    "bx2s-net": Copy(options={"widths": (6, 12, 24, 48)}, lr=3e-3),
    "ear": Copy(options={"widths": (8, 16, 32, 64)}),
}


def settings(model: Model) -> dict[str, Any]:
    """How the model's copy is built and learns, as JSON has it."""
    copy = REDUCED.get(model.name, Copy())
    told = {
        "options": {**model.tiny, "size": SIZE, **copy.options},
        "lr": copy.lr,
        "init": copy.init or model.recipe.init,
    }
    return json.loads(json.dumps(told))


def systems() -> dict[str, list[str]]:
    """A name for each copy that is another one, and all the names that it stands for: what is named above, and the
    first model of any other file.
    """
    first = [(file.MODELS[0] if hasattr(file, "MODELS") else file.MODEL).name for file in FILES]
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys([*REDUCED, *first]):
        model = MODELS[name]
        if model.recipe is not None:
            told = settings(model)
            key = (model.net, model.views, {**model.options, **told.pop("options")}, model.target, told)
            alike.setdefault(repr(key), []).append(name)
    return {names[0]: names for names in alike.values()}


def chest(folder: Path) -> Batch:
    """LIDC-IDRI-0001 at 64 voxels a side with its two X-rays, made below `folder`."""
    prepare(CASE, folder / "dataset", profile="chest")
    dataset = open_dataset(folder / "dataset")
    (case,) = [case for split in dataset.splits for case in dataset.cases(split)]
    return load_batch([case], views=(View.PA, View.LAT), size=SIZE)


def reduced(model: Model) -> nn.Module:
    """The model's copy with its first weights."""
    copy = REDUCED.get(model.name, Copy())
    model = replace(model, recipe=replace(model.recipe, init=copy.init or model.recipe.init))
    options = {**model.tiny, "size": SIZE, **copy.options}
    return channels_last(model.build(torch.Generator().manual_seed(0), **options)).train()


def learnt(model: Model, batch: Batch) -> dict[str, Any]:
    """How far the model's copy came on its only case (the best PSNR while it learned, dB), and what it took. Squared
    error is all it is told. In bf16, of which oneDNN 3.12 gets a 3-D kernel's gradient wrong where the volume has a
    side shorter than the kernel (5^3 on 4^3): no copy may be that coarse.
    """
    copy, net = REDUCED.get(model.name, Copy()), reduced(model)
    xrays, beams = batch.xrays[:, : len(model.views)], tuple(shot[: len(model.views)] for shot in batch.beams)
    truth = model.target.encode(batch.hu)
    adam = torch.optim.Adam(net.parameters(), lr=copy.lr)
    torch.manual_seed(0)  # dropout
    best, update, start = -torch.inf, 0, perf_counter()
    while best < ENOUGH and update < STEPS:
        adam.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            ct = model.run(net, xrays, beams)["ct"].float()
        mse(ct, truth, valid=batch.valid).backward()
        adam.step()
        update += 1
        if update % LOOK == 0:
            hu = model.target.decode(ct.detach())
            best = max(best, float(psnr(hu, batch.hu, window=CHEST_WINDOW, valid=batch.valid)))
    seconds = round(perf_counter() - start)
    return {"parameters": parameters(net), "updates": update, "seconds": seconds, "psnr": round(best, 2)}


def main(names: Sequence[str]) -> None:
    """Measure the systems of these names, or all; the record keeps what the others had."""
    with tempfile.TemporaryDirectory() as folder:
        batch = chest(Path(folder))
    for name in names or systems():
        row = {"names": systems()[name], **settings(MODELS[name]), **learnt(MODELS[name], batch)}
        print(name, row["psnr"], row["updates"], row["seconds"], flush=True)  # noqa: T201
        rows = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
        rows[name] = row
        text = json.dumps({key: rows[key] for key in systems() if key in rows}, indent=1)
        RECORD.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
