"""The tables as columns by name; scripts/write_physics_tables.py writes them."""

from functools import cache
from importlib.resources import files

import numpy as np


@cache
def columns(name: str) -> dict[str, np.ndarray]:
    """Each column of a table by its head, float64, read-only; 'kev' is the first."""
    lines = (files(__name__) / f"{name}.csv").read_text(encoding="ascii").splitlines()
    values = np.loadtxt(lines[1:], delimiter=",", unpack=True)
    values.setflags(write=False)
    return dict(zip(lines[0].split(","), values, strict=True))
