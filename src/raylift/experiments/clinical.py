"""Figures of what is no phantom's own pair: real chest X-rays, a stand-in for a clinical spine, and pneumothoraces."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from raylift import io
from raylift.data import store
from raylift.errors import RayliftError
from raylift.estimate import predict
from raylift.experiments.context import Context
from raylift.experiments.figures import SHOWN_HU, at
from raylift.metrics import dice
from raylift.reconstruct import reconstruct
from raylift.report.assess import x_recon_r
from raylift.report.experiment import Picture
from raylift.report.plots import Tile, agreement, panels
from raylift.segment.bone import bone_xray
from raylift.segment.chest import LABELS, segment_chest
from raylift.segment.quantities import AIR, quantities
from raylift.types import Volume

PICTURES = (".png", ".jpg", ".jpeg", ".dcm")
PANEL_MM = 430.0  # ours: what a chest X-ray without a stated spacing is taken to be wide
MOST = 10  # XctNet Fig. 8


def real_chests(numbers: Sequence[int]) -> Callable[[Context], list[Picture]]:
    """Slices of what the rows make of real X-rays that have no true CT (XctNet Fig. 8)."""

    def draw(context: Context) -> list[Picture]:
        title = f"Real chest X-rays, slices {', '.join(map(str, numbers))} of 128; there is no truth"
        files = _pictures(context.clinical)
        if not files:
            return [Picture(title=title, note="no real X-rays: give their folder (--clinical FOLDER)")]
        rows: dict[str, list[Tile | None]] = {}
        notes = [f"a picture that states no spacing is taken to be {PANEL_MM:g} mm wide"]
        for file in files:
            for label in context.labels():
                try:
                    tiles = _slices(file, context.runs / label, numbers, context.size.voxels)
                except RayliftError as error:
                    tiles = [None] * (len(numbers) + 1)
                    notes.append(f"{file.name}, {label}: {error}")
                rows[f"{file.stem[:16]}\n{label}"] = tiles
        columns = ["X-ray", *(f"slice {k}" for k in numbers)]
        return [Picture(title=title, png=panels(rows, columns), note="; ".join(notes))]

    return draw


def _pictures(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)[:MOST]


def _slices(file: Path, run: Path, numbers: Sequence[int], size: int) -> list[Tile]:
    """The X-ray as the file shows it, and slices of what became of it."""
    dicom = file.suffix.lower() == ".dcm"  # says its own spacing
    pixels = io.read_xray(file, spacing=None if dicom else 1.0).pixels
    result = reconstruct(file, model=run, refine=False, spacing=None if dicom else PANEL_MM / pixels.shape[1])
    ends = (float(np.percentile(pixels, 0.5)), float(np.percentile(pixels, 99.5)))
    cuts = [Tile(pixels=result.ct.hu[at(k, size)], limits=SHOWN_HU) for k in numbers]
    return [Tile(pixels=pixels, limits=ends), *cuts]


def spine_stand_in(label: str) -> Callable[[Context], list[Picture]]:
    """What a net that learned bones alone makes of an X-ray of a whole body, cropped to the box (3DSRNet Fig. 9)."""

    def draw(context: Context) -> list[Picture]:
        title = (
            f"In place of a clinical X-ray, for none is here: X-rays made of a phantom's whole body, seen by {label}"
        )
        if label not in context.labels():
            return [Picture(title=title, note=f"{label} failed; see the table")]
        data, rows, n = context.other_data("lumbar"), {}, context.size.voxels // 2
        model, net = context.run(label)
        for case in data.splits["test"][:2]:
            batch = store.load_batch([data.case(case)], views=model.views, size=model.size)
            whole = cropped(batch.xrays[0], context.roi)
            bones = [bone_xray(x.numpy(), b.pixel_mm) for x, b in zip(batch.xrays[0], batch.beams[0], strict=True)]
            bones = cropped(torch.from_numpy(np.stack(bones)), context.roi)
            for row, seen in ((case, whole), (f"{case}, skeleton", bones)):
                with torch.no_grad():
                    hu = predict(model, net, seen, batch.beams[0])[0].numpy()
                pictures = [Tile(pixels=x.numpy(), limits=(0.0, float(x.max()))) for x in seen]
                planes = (hu[n], hu[:, n], hu[:, :, n])
                rows[row] = [*pictures, *(Tile(pixels=p, limits=SHOWN_HU) for p in planes)]
        columns = [*(f"{view}, cropped" for view in model.views), "axial", "coronal", "sagittal"]
        note = (
            "the net has learned from X-rays of the skeleton alone; flesh is new to it, so below each X-ray stands "
            "what `reconstruct --bone` takes for its skeleton. Nothing here is a patient"
        )
        return [Picture(title=title, png=panels(rows, columns), note=note)]

    return draw


def cropped(xrays: torch.Tensor, roi: tuple[float, float, float, float]) -> torch.Tensor:
    """The box (top, left, bottom, right, as shares) of each X-ray, enlarged to its old size."""
    rows, columns = xrays.shape[-2:]
    top, left, bottom, right = roi
    box = xrays[..., round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)]
    return F.interpolate(box[None], size=(rows, columns), mode="bilinear", align_corners=False)[0]


def pneumothoraces(context: Context) -> list[Picture]:
    """Volume and occupancy of the air beside the lungs, reconstructed against true, and Dice (X-Recon)."""
    title = "Pneumothorax: reconstructed against true"
    true = [chest_numbers(context, context.truth(case)) for case in context.cases()]
    found, dices = {}, {}
    for label in context.labels():
        seen = [chest_numbers(context, context.volume(label, case)) for case in context.cases()]
        known = [k for k in range(len(true)) if true[k] is not None and seen[k] is not None]
        if len(known) < 2:
            continue
        found[label] = (known, seen)
        dices[label] = [dices_of(true[k], seen[k]) for k in known]
    if not found:
        return [Picture(title=title, note="fewer than two cases could be segmented (voxels too coarse, or no lung)")]
    pictures = [Picture(title="Dice of lungs and of the air beside them, mean (cases)", note=dice_text(dices))]
    reported = x_recon_r()
    for what, unit, quantity in (("volume", "mL", "pneumothorax_ml"), ("occupancy", "%", "occupancy_percent")):
        for label, (known, seen) in found.items():
            values = agreement(
                [true[k][quantity] for k in known], {label: [seen[k][quantity] for k in known]}, what=f"{what}, {unit}"
            )
            note = f"{len(known)} cases; X-Recon reports r = {reported[quantity]} on 25 patients"
            pictures.append(Picture(title=f"{title}: {what}, {label}", png=values, note=note))
    return pictures


def chest_numbers(context: Context, hu: np.ndarray) -> dict | None:
    """Air's volume (mL) and its share of the cavities (%), and the masks; None where the chest cannot be segmented."""
    grid = context.grid()
    try:
        chest = segment_chest(Volume(hu=hu, grid=grid, source="cube"), thresholds="relative")
    except RayliftError:
        return None
    total = quantities(chest)["total"]
    masks = {name: chest.mask(name) for name in ("lung_right", "lung_left") if name in LABELS}
    found = {quantity: total[quantity] or 0.0 for quantity in ("pneumothorax_ml", "occupancy_percent")}
    return {**found, "masks": {**masks, "air": chest.mask(*AIR)}}


def dices_of(true: dict, seen: dict) -> dict[str, float]:
    """Dice of each mask."""
    masks = true["masks"].items()
    return {name: dice(torch.from_numpy(seen["masks"][name]), torch.from_numpy(mask)) for name, mask in masks}


def dice_text(dices: dict[str, list[dict[str, float]]]) -> str:
    """Each row's mean Dice in words."""
    told = []
    for label, rows in dices.items():
        means = ", ".join(f"{name.replace('_', ' ')} {np.mean([row[name] for row in rows]):.3f}" for name in rows[0])
        told.append(f"{label}: {means} ({len(rows)})")
    return "; ".join(told)
