"""What there is: the models with their cost and weights, and any file or folder in a few words."""

from pathlib import Path
from typing import Any

from raylift import io, models
from raylift.data.store import open_dataset
from raylift.io.files import existing, shown
from raylift.models import catalogue
from raylift.models.weights import read_model
from raylift.types import Beam


def model_rows(name: str | None = None) -> list[dict[str, Any]]:
    """One row for each model, or for the one of that name: what it is, what it costs, whether weights ship.

    `gmac` is null where the net works on real beams and is not counted.
    """
    return catalogue.rows(models.MODELS.values() if name is None else [models.get(name)])


def model_page(name: str) -> str:
    """One model's declaration in words, Markdown."""
    return catalogue.describe(models.get(name))


def describe(path: str | Path) -> dict[str, Any]:
    """What a file or folder is: a CT, an X-ray, a geometry.json, a data set, a run, or a result."""
    path = existing(path)
    if path.is_dir() and (path / "dataset.json").is_file():
        return _dataset(path)
    if path.is_dir() and (path / "model.json").is_file():
        model = read_model(path)
        return {"file": shown(path), "kind": "run", **catalogue.rows([model])[0]}
    if path.suffix.lower() == ".json":
        return _geometry(path)
    return io.describe(path)


def _dataset(path: Path) -> dict[str, Any]:
    dataset = open_dataset(path)
    return {
        "file": shown(path),
        "kind": "data set",
        "profile": dataset.profile,
        "size": dataset.size,
        "spacing_mm": dataset.spacing,
        "views": [str(view) for view in dataset.views],
        "patients": len(set(dataset.patients.values())),
        **{f"cases ({split})": len(cases) for split, cases in dataset.splits.items()},
        "split_hash": dataset.split_hash,
    }


def _geometry(path: Path) -> dict[str, Any]:
    geometry = io.read_geometry(path)
    beams: dict[str, Beam] = {str(entry.view): entry.beam for entry in geometry.views}
    return {
        "file": shown(path),
        "kind": "geometry",
        "isocentre_lps_mm": geometry.isocentre_mm,
        **{view: repr(beam) for view, beam in beams.items()},
    }
