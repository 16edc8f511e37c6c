"""A reduced copy of every net learns one real case by heart: minutes each, so `make slow` runs it."""

import pytest
import torch

from raylift.data.prepare import prepare
from raylift.data.store import Batch, load_batch, open_dataset
from raylift.losses import mse
from raylift.metrics import psnr
from raylift.models import MODELS
from raylift.models.spec import Model
from raylift.physics import CHEST_WINDOW
from raylift.types import View

SIZE = 64  # 5 mm
STEPS = 600
ENOUGH = 25.0  # dB, over the chest window

# what the reduced copy has otherwise than the tiny one: wider, so that a chest fits in; the levels are the tiny one's
WIDER = {
    "x2ct": {"width": 16, "growth": 8, "layers": (2, 2, 2, 2), "widths": (8, 8, 16, 32, 64)},
    "xctnet": {"width": 32, "blocks": (1, 1, 1, 1)},
}


def reduced(model: Model) -> dict:
    """The options of the copy that learns by heart."""
    options = {**model.tiny, "size": SIZE}
    for prefix, wider in WIDER.items():
        if model.name.startswith(prefix):
            options |= wider
    return {key: value for key, value in options.items() if key in model.options}


@pytest.fixture(scope="module")
def chest(tmp_path_factory, real) -> Batch:
    """LIDC-IDRI-0001 at 64 voxels a side, with its two X-rays."""
    folder = tmp_path_factory.mktemp("chest")
    prepare(real / "ct" / "lidc-idri-0001", folder / "dataset", profile="chest")
    dataset = open_dataset(folder / "dataset")
    (case,) = [case for split in dataset.splits for case in dataset.cases(split)]
    return load_batch([case], views=(View.PA, View.LAT), size=SIZE)


def learnt(model: Model, batch: Batch, steps: int = STEPS) -> float:
    """The best PSNR (dB) of the reduced copy on its only case while it learns it."""
    torch.manual_seed(0)
    net = model.build(torch.Generator().manual_seed(0), **reduced(model)).train()
    xrays = batch.xrays[:, : len(model.views)]
    beams = tuple(shot[: len(model.views)] for shot in batch.beams)
    truth = model.target.encode(batch.hu)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    best = -torch.inf
    for step in range(steps):
        adam.zero_grad()
        ct = model.run(net, xrays, beams)["ct"]
        mse(ct, truth, valid=batch.valid).backward()
        adam.step()
        if step % 10 == 9:
            with torch.no_grad():
                value = psnr(model.target.decode(ct), batch.hu, window=CHEST_WINDOW, valid=batch.valid)
            best = max(best, float(value))
            if best >= ENOUGH:
                break
    return best


def one_of_each() -> list[str]:
    """One name for each different net that has something to learn."""
    first = {
        repr((m.net, m.views, m.options)): name
        for name, m in reversed(MODELS.items())
        if m.recipe is not None and not m.told_geometry and m.profile == "chest"
    }
    return sorted(first.values())


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("name", one_of_each())
def test_a_reduced_copy_learns_a_chest_by_heart(name, chest):
    assert learnt(MODELS[name], chest) >= ENOUGH
