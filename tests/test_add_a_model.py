"""docs/add-a-model.md: its file is run as it stands there."""

import re
from pathlib import Path
from types import ModuleType

import torch

from raylift.models import _table
from raylift.models.counts import counts

PAGE = Path(__file__).parents[1] / "docs" / "add-a-model.md"


def test_the_pages_file_is_a_model_that_can_be_named_counted_and_trained():
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    file = ModuleType("crossed")
    exec(compile(source, str(PAGE), "exec"), file.__dict__)  # noqa: S102
    table, _ = _table((file,))
    model = table["crossed"]
    assert counts(model)["shape"] == [1, 1, 128, 128, 128]
    net = model.build_tiny(torch.Generator().manual_seed(0))
    ct = model.run(net, torch.rand(2, 2, 16, 16), ((), ()))["ct"]
    assert ct.shape == (2, 1, 16, 16, 16)
    ct.square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())
