"""The papers' figures, drawn of an experiment's runs; one that lacks something says so in its place."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from raylift import models
from raylift.evaluate import EVERY
from raylift.experiments.context import Context
from raylift.experiments.spec import WINDOW
from raylift.metrics import entropy, entropy_map
from raylift.models.counts import counts
from raylift.report.experiment import Picture
from raylift.report.plots import Tile, panels, violins

PAPER_SLICES = 128  # what the papers' slice numbers count
SHOWN_HU = (-1000.0, 500.0)  # ours: lung, soft tissue and bone in one picture
APART_HU = 500.0  # ours: the ends of a difference's colours
CHANNELS = 16  # XctNet Fig. 6


def at(slice_number: int, size: int) -> int:
    """The slice of a cube of `size` that is where the papers' slice of 128 is.

    >>> at(64, 32), at(3, 32)
    (16, 0)
    """
    return min(size - 1, slice_number * size // PAPER_SLICES)


def _tile(pixels: np.ndarray) -> Tile:
    return Tile(pixels=pixels, limits=SHOWN_HU)


def slices(numbers: Sequence[int]) -> Callable[[Context], list[Picture]]:
    """Axial slices of the truth and of each row (XctNet Fig. 3)."""

    def draw(context: Context) -> list[Picture]:
        case = context.cases()[0]
        places = [at(k, context.size.voxels) for k in numbers]
        rows = {"truth": [_tile(context.truth(case)[k]) for k in places]}
        for label in context.labels():
            rows[label] = [_tile(context.volume(label, case)[k]) for k in places]
        low, high = SHOWN_HU
        titles = [f"slice {k} of {PAPER_SLICES}" for k in numbers]
        return [Picture(title=f"Axial slices of {case}, {low:g} to {high:g} HU", png=panels(rows, titles))]

    return draw


def differences(numbers: Sequence[int]) -> Callable[[Context], list[Picture]]:
    """Signed differences to the truth (XctNet Fig. 4)."""

    def draw(context: Context) -> list[Picture]:
        case = context.cases()[0]
        places = [at(k, context.size.voxels) for k in numbers]
        truth = context.truth(case)
        ends = (-APART_HU, APART_HU)
        rows = {
            label: [
                Tile(pixels=context.volume(label, case)[k] - truth[k], limits=ends, colours="RdBu_r") for k in places
            ]
            for label in context.labels()
        }
        png = panels(rows, [f"slice {k} of {PAPER_SLICES}" for k in numbers], scale="result - truth, HU")
        return [Picture(title=f"Signed difference maps of {case}", png=png)]

    return draw


def spreads(names: Sequence[str] = ("mae", "mse", "psnr", "ssim")) -> Callable[[Context], list[Picture]]:
    """Violins of each metric over the cases, with the interquartile range (XctNet Fig. 5)."""

    def draw(context: Context) -> list[Picture]:
        rows = [row for row in context.comparison.rows if row.scores is not None and not row.refined]
        shown = {
            EVERY[name][0]: {row.label: [v for v in row.values(name).values() if v is not None] for row in rows}
            for name in names
        }
        count = len(context.cases())
        return [Picture(title=f"Spread over {count} cases, not refined; the bar is the IQR", png=violins(shown))]

    return draw


def feature_maps(context: Context) -> list[Picture]:
    """Sixteen channels of the deepest 2-D features of each row, drawn by lot (XctNet Fig. 6)."""
    case, rows = context.cases()[0], {}
    for label in context.labels():
        maps = deepest_maps(context, label, case)
        if maps is None:
            continue
        chosen = np.random.default_rng(0).permutation(len(maps))[:CHANNELS]
        chosen.sort()
        tiles = []
        for k in chosen:
            low, high = float(maps[k].min()), float(maps[k].max())
            tiles.append(Tile(pixels=maps[k], limits=(low, max(high, low + 1e-6)), colours="viridis"))
        rows[f"{label} ({len(maps)} x {maps.shape[1]} x {maps.shape[2]})"] = tiles
    title = f"{CHANNELS} channels of the bottleneck, each on its own scale; {case}"
    if not rows:
        return [Picture(title=title, note="no row has an encoder of 2-D features")]
    return [Picture(title=title, png=panels(rows, [""] * CHANNELS, tile_inches=0.7))]


def deepest_maps(context: Context, label: str, case: str) -> np.ndarray | None:
    """The 2-D features of fewest pixels (the last of them), channels rows columns; None where there are none."""
    _, net = context.run(label)
    seen: list[torch.Tensor] = []

    def look(module: nn.Module, given, out) -> None:
        if isinstance(out, torch.Tensor) and out.dim() == 4 and min(out.shape[-2:]) > 1 and out.shape[1] >= CHANNELS:
            seen.append(out.detach())

    hooks = [module.register_forward_hook(look) for module in net.modules()]
    try:
        context.outputs(label, case)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        return None
    fewest = min(map.shape[-1] * map.shape[-2] for map in seen)
    return [map for map in seen if map.shape[-1] * map.shape[-2] == fewest][-1][0].float().numpy()


def entropies(context: Context) -> list[Picture]:
    """Maps of the local entropy in the middle axial slice, two cases; the volume's entropy beside (XctNet Fig. 7)."""
    chosen = context.cases()[:2]
    middle = context.size.voxels // 2
    rows: dict[str, list[Tile]] = {}
    for label in ["truth", *context.labels()]:
        tiles, told = [], []
        for case in chosen:
            hu = torch.from_numpy(context.hu(label, case))
            told.append(f"{float(entropy(hu, window=WINDOW)):.2f}")
            tiles.append(Tile(pixels=hu[middle].numpy(), limits=SHOWN_HU))
            tiles.append(Tile(pixels=entropy_map(hu[middle], window=WINDOW), limits=(0, 6), colours="jet"))
        rows[f"{label}\n{', '.join(told)} bits"] = tiles
    columns = [name for case in chosen for name in (case, "entropy map")]
    png = panels(rows, columns, scale="bits, in a disk of 9 pixels")
    return [Picture(title="Local entropy; beside each name the whole volume's", png=png)]


def planes(context: Context) -> list[Picture]:
    """The middle axial, coronal and sagittal planes of the truth and of each row (CVAA-GAN's figure)."""
    case, n = context.cases()[0], context.size.voxels // 2
    rows = {}
    for label in ["truth", *context.labels()]:
        hu = context.hu(label, case)
        rows[label] = [_tile(hu[n]), _tile(hu[:, n]), _tile(hu[:, :, n])]
    low, high = SHOWN_HU
    columns = ["axial", "coronal", "sagittal"]
    return [Picture(title=f"Middle planes of {case}, {low:g} to {high:g} HU", png=panels(rows, columns))]


def operations(context: Context) -> list[Picture]:
    """Parameters and operations at the paper's size, under the conventions that papers mix (XctNet Table 3)."""
    rows = []
    for variant in context.experiment.rows:
        counted = counts(models.get(variant.model))
        giga = [f"{counted[key] / 1e9:.1f}" for key in ("true", "thop", "x2")]
        rows.append((variant.name, f"{counted['parameters'] / 1e6:.2f}", *giga))
    head = ("net at the paper's size", "parameters (M)", "GMAC", "G, thop's", "G, twice and all")
    note = "true multiply-accumulates; transposed convolutions charged for each output voxel; twice that with biases"
    return [Picture(title="Operations at the paper's size", table=(head, *rows), note=note)]
