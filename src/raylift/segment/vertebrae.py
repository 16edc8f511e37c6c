"""Which voxel belongs to which vertebra: label maps of every numbering, read into one.

Ours is VerSe's: C1 to C7 are 1 to 7, T1 to T12 are 8 to 19, L1 to L5 are 20 to 24, L6 is 25, T13 is 28.
"""

import csv
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from raylift.errors import BadInput, unknown_name
from raylift.types import Grid, Volume

CERVICAL = tuple(f"C{k}" for k in range(1, 8))
THORACIC = tuple(f"T{k}" for k in range(1, 13))
LUMBAR = tuple(f"L{k}" for k in range(1, 6))
LEVELS = CERVICAL + THORACIC + LUMBAR  # from the head down
VERSE = {name: k + 1 for k, name in enumerate(LEVELS)} | {"L6": 25, "T13": 28}  # VerSe 2020; CTSpine1K is the same
TOTALSEGMENTATOR = {name: 50 - k for k, name in enumerate(LEVELS)}  # its class map, version 2: L5 is 27, C1 is 50
NUMBERINGS = {"verse": VERSE, "ctspine1k": VERSE, "totalsegmentator": TOTALSEGMENTATOR}
NAMES = {number: name for name, number in VERSE.items()}
DOWN = {name: k for k, name in enumerate(CERVICAL + THORACIC + ("T13",) + LUMBAR + ("L6",))}
FEWEST_MM3 = 500.0  # ours: a smaller piece is a vertebra's tip at the edge of the scan


@dataclass(frozen=True, kw_only=True, eq=False)
class Vertebrae:
    """A label map in VerSe's numbers, how it came about, and how far each level is to be believed, [0, 1]."""

    labels: UInt8[np.ndarray, "D H W"]
    grid: Grid
    how: str
    confidence: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def spans(self) -> dict[str, tuple[slice, slice, slice]]:
        """For each level, from the head down, the smallest box of voxels that holds it."""
        found = {NAMES[k + 1]: box for k, box in enumerate(ndimage.find_objects(self.labels)) if box and k + 1 in NAMES}
        return {level: found[level] for level in sorted(found, key=DOWN.__getitem__)}

    @property
    def levels(self) -> list[str]:
        """The names that are there, from the head down."""
        return list(self.spans)

    def mask(self, level: str) -> np.ndarray:
        """True where `level` is."""
        return self.labels == VERSE[level]

    def box(self, level: str, margin: int = 0) -> tuple[slice, slice, slice]:
        """The level's span, `margin` voxels wider where the grid goes on."""
        return tuple(
            slice(max(0, side.start - margin), min(n, side.stop + margin))
            for side, n in zip(self.spans[level], self.labels.shape, strict=True)
        )

    def part(self, level: str, margin: int = 2) -> tuple[np.ndarray, Grid]:
        """The mask of one level in its box, and where that box lies."""
        box = self.box(level, margin)
        affine = self.grid.affine.copy()
        affine[:3, 3] = self.grid.world([side.start for side in box])
        mask = self.labels[box] == VERSE[level]
        return mask, Grid(mask.shape, affine)

    def centroid_mm(self, level: str) -> np.ndarray:
        """LPS position of the middle of all voxels of `level`."""
        mask, grid = self.part(level)
        return grid.world(np.argwhere(mask).mean(0))

    def middle_mm(self, level: str) -> np.ndarray:
        """LPS position of the middle of the box that holds `level`: what a box drawn around it in two X-rays marks."""
        return self.grid.world([(side.start + side.stop - 1) / 2 for side in self.spans[level]])

    def cut_off(self, level: str) -> bool:
        """True where the scan ends within the vertebra."""
        return any(s.start == 0 or s.stop == n for s, n in zip(self.spans[level], self.labels.shape, strict=True))


def from_label_map(volume: Volume, *, numbering: str | None = None, structures: Path | str | None = None) -> Vertebrae:
    """The vertebrae in a label map; `numbering` is one of NUMBERINGS, `structures` a table with the columns
    `structure` (vertebrae_L5) and `id`. Without either the numbers themselves say which numbering it is.
    """
    if structures is not None:
        numbers, how = read_structures(structures), f"label map, numbers from {Path(structures).name}"
    else:
        name = guess_numbering(volume) if numbering is None else numbering
        if name not in NUMBERINGS:
            raise unknown_name("numbering of vertebrae", name, NUMBERINGS)
        numbers, how = NUMBERINGS[name], f"label map, numbered as in {name}"
    labels = np.zeros(volume.hu.shape, np.uint8)
    for level, number in numbers.items():
        labels[volume.hu == number] = VERSE[level]
    voxel = float(np.prod(volume.grid.spacing_mm))
    counts, notes = np.bincount(labels.ravel(), minlength=29), []
    for number in np.flatnonzero((counts > 0) & (counts * voxel < FEWEST_MM3)):
        if number:
            labels[labels == number] = 0
            notes.append(f"{NAMES[int(number)]} left out: {counts[number] * voxel:.0f} mm³ of it are in the scan")
    if not labels.any():
        raise BadInput(f"{volume.source or 'label map'}: holds no vertebra of this numbering; see --numbering")
    found = Vertebrae(labels=labels, grid=volume.grid, how=how, notes=tuple(notes))
    found.confidence.update(dict.fromkeys(found.levels, 1.0))
    return found


def guess_numbering(volume: Volume) -> str:
    """'totalsegmentator' or 'verse', by the numbers that occur and by which of them lie nearer to the head.

    VerSe's numbers grow to the feet, TotalSegmentator's to the head.
    """
    numbers = [int(n) for n in np.unique(volume.hu) if n > 0]
    if not numbers:
        raise BadInput(f"{volume.source or 'label map'}: empty; a label map with vertebrae is needed")
    if max(numbers) > 28:
        return "totalsegmentator"
    if len(numbers) > 1 and min(numbers) >= 26:
        return "totalsegmentator"
    return "verse"


def read_structures(path: Path | str) -> dict[str, int]:
    """Level to number, from a table whose rows say `structure` (vertebrae_L5 or L5) and `id`."""
    numbers = {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            name = (row.get("structure") or "").removeprefix("vertebrae_")
            if name in VERSE and (row.get("id") or "").strip().isdigit():
                numbers[name] = int(row["id"])
    if not numbers:
        raise BadInput(f"{Path(path).name}: names no vertebra; columns `structure` (vertebrae_L5) and `id` are needed")
    return numbers


def as_volume(vertebrae: Vertebrae) -> Volume:
    """The label map as a volume to be written; its numbers are VerSe's."""
    return Volume(hu=vertebrae.labels.astype(np.int16), grid=vertebrae.grid, source="vertebrae")
