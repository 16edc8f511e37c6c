"""The Medical Segmentation Decathlon: `dataset.json` names the modality and each image with its label map."""

import json
from pathlib import Path
from typing import Any

from raylift.data.importers.source import Found, Source, stem

TABLE = "dataset.json"


def recognises(folder: Path) -> bool:
    """True where `dataset.json` lists the images of `imagesTr`."""
    return (folder / "imagesTr").is_dir() and isinstance(_told(folder).get("training"), list)


def sources(folder: Path) -> Found:
    """The images that the table names, those for training with their label maps; none where they are no CTs."""
    told = _told(folder)
    modality = ", ".join(map(str, told.get("modality", {}).values())) or "unknown"
    if modality.upper() != "CT":
        return Found(others=((f"{folder.name}/{TABLE}", f"its images are of modality {modality}, not CT"),))
    found, others = [], []
    for entry in [*told["training"], *told.get("test", [])]:
        image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (entry, None)
        path = folder / str(image)
        if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            others.append((str(image)[:120], f"{TABLE} names this image, but it is not there"))
            continue
        labels = folder / str(label) if label and (folder / str(label)).is_file() else None
        found.append(Source(path=path, id=stem(path), labels=labels))
    return Found(sources=tuple(found), others=tuple(others))


def _told(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads((folder / TABLE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
