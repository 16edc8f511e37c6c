"""Phantoms as files: a CT, its label map and its truth for each."""

from pathlib import Path

import numpy as np

from raylift.data.phantom.kinds import KINDS, Kind
from raylift.errors import BadInput, unknown_name
from raylift.io.files import whole_folder, write_json
from raylift.types import Grid, Volume

MM = (0.5, 10.0)  # ours: a voxel's side


def save_phantoms(
    n: int,
    out_folder,
    *,
    kind: str = "torso",
    seed: int = 0,
    spacing: float | None = None,
    on_done=None,
    **options,
) -> list[Path]:
    """Write `n` phantoms into `out_folder`/torso-0000/ and so on; the folders, each with `ct.nii.gz`, `labels.nii.gz`
    and `truth.json`. Phantom k has the seed (`seed`, k), whatever `n` is; `on_done` is called with each folder.
    """
    if kind not in KINDS:
        raise unknown_name("kind of phantom", kind, KINDS)
    if spacing is not None and not MM[0] <= spacing <= MM[1]:
        raise BadInput(f"a phantom's voxels have a side of {MM[0]:g} to {MM[1]:g} mm, not {spacing:g}")
    grid = KINDS[kind].grid(spacing)
    folders = []
    for k in range(n):
        folder = Path(out_folder) / f"{kind}-{k:04d}"
        save_phantom(folder, KINDS[kind], (seed, k), grid=grid, **options)
        folders.append(folder)
        if on_done is not None:
            on_done(folder)
    return folders


def save_phantom(folder, kind: Kind, seed: tuple[int, ...], *, grid: Grid, **options) -> None:
    """Write one phantom into `folder`, whole or not at all."""
    from raylift.io import write_ct

    phantom = kind.draw(np.random.default_rng(seed), grid=grid, **options)
    labels = Volume(hu=phantom.labels.astype(np.int16), grid=grid, source="labels")
    with whole_folder(folder) as fresh:
        write_ct(phantom.volume, fresh / "ct.nii.gz")
        write_ct(labels, fresh / "labels.nii.gz")
        truth = {"seed_sequence": list(seed), "labels": dict(kind.labels)} | phantom.truth
        write_json(fresh / "truth.json", truth)
