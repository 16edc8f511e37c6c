"""The kinds of phantoms: what draws one, how large its field is, and what its labels mean."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from raylift.data.phantom.pneumothorax import pneumothorax
from raylift.data.phantom.spine import spine
from raylift.data.phantom.torso import LABELS, Phantom, torso
from raylift.data.phantom.vertebra import vertebra
from raylift.segment.vertebrae import VERSE
from raylift.types import Grid

CHEST_MM = (400.0, 400.0, 560.0)  # ours: holds a chest with its arms


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`draw(seed, grid=..., **options)` gives a phantom; field (mm; D, H, W) and voxel are what it has by default."""

    draw: Callable[..., Phantom]
    about: str
    field_mm: tuple[float, float, float] = CHEST_MM
    spacing_mm: float = 2.5
    labels: Mapping[str, int] = field(default_factory=lambda: LABELS)

    def grid(self, spacing_mm: float | None = None) -> Grid:
        """The field in voxels of that side."""
        side = spacing_mm or self.spacing_mm
        return Grid.canonical(tuple(round(length / side) for length in self.field_mm), side)


KINDS: dict[str, Kind] = {
    "torso": Kind(draw=torso, about="chest and upper abdomen, with arms and table"),
    "pneumothorax": Kind(draw=pneumothorax, about="a torso with air of stated volume beside a lung"),
    "vertebra": Kind(
        draw=vertebra,
        about="one vertebra from T1 to L5, labelled as in VerSe",
        field_mm=(128.0, 128.0, 128.0),
        spacing_mm=1.0,
        labels=VERSE,
    ),
    "spine": Kind(
        draw=spine,
        about="T1 to L5 with a stated Cobb angle, kyphosis and lordosis, labelled as in VerSe",
        field_mm=(600.0, 240.0, 264.0),
        spacing_mm=1.5,
        labels=VERSE,
    ),
}
