"""Phantoms as files: a CT, its label map and its truth for each."""

from pathlib import Path

import numpy as np

from raylift.data.atomic import new_folder, write_json
from raylift.data.phantom.torso import LABELS, torso
from raylift.types import Grid, Volume

FIELD_MM = (400.0, 400.0, 560.0)  # ours: holds a chest with its arms


def save_phantoms(n: int, out_folder, *, seed: int = 0, spacing: float = 2.5, on_done=None, **options) -> list[Path]:
    """Write `n` torsos into `out_folder`/torso-0000/ and so on; the folders, each with `ct.nii.gz`, `labels.nii.gz`
    and `truth.json`. Torso k has the seed (`seed`, k), whatever `n` is; `on_done` is called with each folder.
    """
    shape = tuple(round(length / spacing) for length in FIELD_MM)
    folders = []
    for k in range(n):
        folder = Path(out_folder) / f"torso-{k:04d}"
        save_torso(folder, (seed, k), grid=Grid.canonical(shape, spacing), **options)
        folders.append(folder)
        if on_done is not None:
            on_done(folder)
    return folders


def save_torso(folder, seed: tuple[int, ...], *, grid: Grid, **options) -> None:
    """Write one torso into `folder`, whole or not at all."""
    from raylift.io import write_ct

    phantom = torso(np.random.default_rng(seed), grid=grid, **options)
    labels = Volume(hu=phantom.labels.astype(np.int16), grid=grid, source="labels")
    with new_folder(Path(folder)) as fresh:
        write_ct(phantom.volume, fresh / "ct.nii.gz")
        write_ct(labels, fresh / "labels.nii.gz")
        write_json(fresh / "truth.json", {"seed_sequence": list(seed), "labels": LABELS} | phantom.truth)
