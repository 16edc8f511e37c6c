"""What several tests share: where the real CTs are, and phantoms small enough for a test."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from raylift.types import Grid, Volume

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real CTs and X-rays that RAYLIFT_DATA names; the test is skipped without it."""
    folder = os.environ.get("RAYLIFT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RAYLIFT_DATA names no folder of real CTs and X-rays")
    return Path(folder)


@pytest.fixture(scope="session")
def example() -> Path:
    """The shipped real case."""
    return REPOSITORY / "examples" / "lidc-idri-0001"


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def lopsided() -> Volume:
    """A block of water in air with a bright marker at the patient's right, front and top."""
    grid = Grid.canonical((24, 20, 28), (5.0, 6.0, 4.0), (10.0, -20.0, 30.0))
    hu = np.full(grid.shape, -1000, np.int16)
    hu[4:20, 4:16, 4:24] = 0
    hu[5:8, 5:7, 5:9] = 2000
    return Volume(hu=hu, grid=grid)
