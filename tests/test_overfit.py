"""A reduced copy of every system learns one real case by heart: minutes each, so `make slow` runs it."""

import json

import pytest

from overfit import ENOUGH, RECORD, chest, learnt, settings, systems
from raylift.data.store import Batch
from raylift.models import MODELS


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> Batch:
    return chest(tmp_path_factory.mktemp("chest"))


@pytest.mark.slow
@pytest.mark.parametrize("name", systems())
def test_a_reduced_copy_learns_a_chest_by_heart(name, batch):
    assert learnt(MODELS[name], batch)["psnr"] >= ENOUGH


def test_every_system_is_on_record_as_it_is_reduced_now():
    record = json.loads(RECORD.read_text())
    assert set(record) == set(systems()), "python tests/overfit.py"
    for name, row in record.items():
        told = {"names": systems()[name], **settings(MODELS[name])}
        assert {key: row[key] for key in told} == told, f"python tests/overfit.py {name}"
        assert row["psnr"] >= ENOUGH
