"""CTs that were found but not read: where their voxels lie, what was noticed on the way, and how to read them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from raylift.errors import BadInput
from raylift.types import Grid, Volume


@dataclass(frozen=True, kw_only=True)
class UnreadCT:
    """One CT of a file or folder; without a grid it cannot be read, and `fault` says why."""

    grid: Grid | None
    load: Callable[[float | None], Volume] = field(repr=False)
    fault: str = ""
    notes: tuple[str, ...] = ()  # what was noticed, one phrase each

    def read(self, finest_mm: float | None = None) -> Volume:
        """The CT, int16 HU; one that is too large for the memory is averaged to voxels of at most `finest_mm`."""
        if self.grid is None:
            raise BadInput(self.fault)
        return self.load(finest_mm)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a file or folder holds: its CTs, the one with most voxels first, and what else lies there and is none."""

    cts: tuple[UnreadCT, ...]
    others: tuple[str, ...] = ()  # such as '2 files of modality SR'
