"""The nouns: volumes, X-rays, and the beams that tie one to the other. World: LPS, millimetres."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import hypot
from typing import Literal

import numpy as np

from raylift.errors import BadInput, GeometryError

Vector = tuple[float, float, float]


class View(StrEnum):
    """The poses an X-ray is named by; `axis` is the ray's main axis in the patient."""

    PA = "PA"
    AP = "AP"
    LAT = "LAT"  # left lateral: the patient's left side at the detector
    RLAT = "RLAT"  # right lateral

    @property
    def axis(self) -> str:
        """'frontal' (rays along H) or 'lateral' (rays along W)."""
        return "frontal" if self in (View.PA, View.AP) else "lateral"


def _vector(name: str, value) -> Vector:
    vector = tuple(float(x) for x in value)
    if len(vector) != 3 or not np.isfinite(vector).all():
        raise GeometryError(f"{name} must be three finite numbers, not {value!r}")
    return vector


def _unit(name: str, value) -> Vector:
    vector = np.array(_vector(name, value))
    length = np.linalg.norm(vector)
    if length < 1e-9:
        raise GeometryError(f"{name} has no length: {value!r}")
    if abs(length - 1) > 1e-9:  # a unit vector stays as it is, to the last bit
        vector = vector / length
    return tuple(float(x) for x in vector)


@dataclass(frozen=True, kw_only=True)
class _Detector:
    """A flat panel: where its centre is, where columns and rows grow, how many pixels of what size."""

    detector_centre_mm: Vector
    column_dir: Vector  # where columns grow: to the right of the picture
    row_dir: Vector  # where rows grow: down the picture
    pixels: tuple[int, int]  # rows, columns
    pixel_mm: tuple[float, float]  # row pitch, column pitch

    def __post_init__(self):
        put = object.__setattr__
        put(self, "detector_centre_mm", _vector("detector_centre_mm", self.detector_centre_mm))
        put(self, "column_dir", _unit("column_dir", self.column_dir))
        put(self, "row_dir", _unit("row_dir", self.row_dir))
        put(self, "pixels", tuple(int(n) for n in self.pixels))
        put(self, "pixel_mm", tuple(float(x) for x in self.pixel_mm))
        if abs(np.dot(self.column_dir, self.row_dir)) > 1e-6:
            raise GeometryError("column_dir and row_dir must be at right angles")
        if len(self.pixels) != 2 or min(self.pixels) < 1:
            raise GeometryError(f"pixels must be two positive counts, not {self.pixels}")
        if len(self.pixel_mm) != 2 or not all(0 < x < np.inf for x in self.pixel_mm):
            raise GeometryError(f"pixel_mm must be two positive numbers, not {self.pixel_mm}")

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width of the panel."""
        return self.pixels[0] * self.pixel_mm[0], self.pixels[1] * self.pixel_mm[1]

    def pixel_centres_mm(self) -> np.ndarray:
        """World positions of all pixel centres, (rows, columns, 3), float64."""
        rows, columns = self.pixels
        down = (np.arange(rows) - (rows - 1) / 2) * self.pixel_mm[0]
        right = (np.arange(columns) - (columns - 1) / 2) * self.pixel_mm[1]
        return (
            np.array(self.detector_centre_mm)
            + down[:, None, None] * np.array(self.row_dir)
            + right[None, :, None] * np.array(self.column_dir)
        )

    def resized(self, rows: int, columns: int):
        """The same panel with other pixels; its outline stays."""
        height, width = self.size_mm
        return replace(self, pixels=(rows, columns), pixel_mm=(height / rows, width / columns))


@dataclass(frozen=True, kw_only=True)
class ConeBeam(_Detector):
    """A point source and a flat panel. Rays start at the source and end at the panel.

    >>> ConeBeam(source_mm=(0, 1500, 0), detector_centre_mm=(0, -300, 0), column_dir=(1, 0, 0),
    ...          row_dir=(0, 0, -1), pixels=(256, 256), pixel_mm=(1.68, 1.68)).source_to_detector_mm
    1800.0
    """

    source_mm: Vector

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "source_mm", _vector("source_mm", self.source_mm))
        if self.source_to_detector_mm < 1e-6:
            raise GeometryError("the source lies in the detector's plane")

    @property
    def source_to_detector_mm(self) -> float:
        """Distance from the source to the detector's plane."""
        to_detector = np.subtract(self.detector_centre_mm, self.source_mm)
        return float(abs(np.dot(to_detector, np.cross(self.column_dir, self.row_dir))))

    def magnification(self, at_mm=(0, 0, 0)) -> float:
        """How much larger than life the panel shows what lies at `at_mm`: SDD / distance from the source."""
        normal = np.cross(self.column_dir, self.row_dir)
        depth = float(abs(np.dot(np.subtract(at_mm, self.source_mm), normal)))
        if depth < 1e-6:
            raise GeometryError(f"{at_mm} lies in the source's plane and has no magnification")
        return self.source_to_detector_mm / depth

    def moved(self, by_mm) -> "ConeBeam":
        """The beam shifted by `by_mm`."""
        return replace(
            self,
            source_mm=tuple(np.add(self.source_mm, by_mm)),
            detector_centre_mm=tuple(np.add(self.detector_centre_mm, by_mm)),
        )


@dataclass(frozen=True, kw_only=True)
class ParallelBeam(_Detector):
    """Parallel rays along `ray_dir` that end at a flat panel; nothing is magnified."""

    ray_dir: Vector

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "ray_dir", _unit("ray_dir", self.ray_dir))
        if abs(np.dot(self.ray_dir, np.cross(self.column_dir, self.row_dir))) < 1e-6:
            raise GeometryError("the rays run along the detector's plane")

    def magnification(self, at_mm=(0, 0, 0)) -> float:
        """Always 1."""
        return 1.0

    def moved(self, by_mm) -> "ParallelBeam":
        """The beam shifted by `by_mm`."""
        return replace(self, detector_centre_mm=tuple(np.add(self.detector_centre_mm, by_mm)))


Beam = ConeBeam | ParallelBeam


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a volume lie: `affine` takes an index (d, h, w, 1) to LPS mm at the voxel's centre."""

    shape: tuple[int, int, int]
    affine: np.ndarray  # 4 x 4, float64

    def __post_init__(self):
        affine = np.array(self.affine, dtype=np.float64)
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError("a grid's affine must be a finite 4 x 4 matrix")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise GeometryError("a grid's affine must not be singular (a spacing of 0?)")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GeometryError(f"a grid's shape must be three positive counts, not {self.shape}")

    def __eq__(self, other) -> bool:
        return isinstance(other, Grid) and self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    @classmethod
    def canonical(cls, shape, spacing_mm, centre_mm=(0.0, 0.0, 0.0)) -> "Grid":
        """An upright grid: D to the feet, H to the back, W to the patient's left, centred on `centre_mm`.

        >>> Grid.canonical((128, 128, 128), 2.5).spacing_mm
        (2.5, 2.5, 2.5)
        """
        sd, sh, sw = np.broadcast_to(np.asarray(spacing_mm, float), 3)
        affine = np.eye(4)
        affine[:3, :3] = [[0, 0, sw], [0, sh, 0], [-sd, 0, 0]]  # LPS rows; columns d, h, w
        affine[:3, 3] = np.asarray(centre_mm, float) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        return cls(tuple(int(n) for n in shape), affine)

    @property
    def spacing_mm(self) -> Vector:
        """Distance between neighbours along D, H and W."""
        return tuple(hypot(*column) for column in self.affine[:3, :3].T)

    @property
    def centre_mm(self) -> np.ndarray:
        """LPS position of the grid's centre."""
        return self.world((np.array(self.shape) - 1) / 2)

    @property
    def corners_mm(self) -> np.ndarray:
        """LPS positions of the box's eight outer corners (voxel faces, not centres), (8, 3)."""
        n = np.array(self.shape)
        sides = np.array(np.meshgrid(*[(-0.5, k - 0.5) for k in n], indexing="ij")).reshape(3, 8).T
        return self.world(sides)

    def world(self, index) -> np.ndarray:
        """LPS mm of (fractional) indices (..., 3) in the order d, h, w."""
        return np.asarray(index, float) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def index(self, world_mm) -> np.ndarray:
        """Fractional (d, h, w) of LPS positions (..., 3)."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(world_mm, float) @ inverse[:3, :3].T + inverse[:3, 3]


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A CT: `hu` (D, H, W) in Hounsfield units on `grid`. D need not run to the feet: see `geometry.canonical`."""

    hu: np.ndarray
    grid: Grid
    source: str = ""  # the file's or folder's name, for messages; never a patient's

    def __post_init__(self):
        if self.hu.shape != self.grid.shape:
            raise BadInput(f"{self.source or 'volume'}: {self.hu.shape} voxels on a grid of {self.grid.shape}")


Values = Literal["line_integral", "intensity", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Xray:
    """One X-ray as it looks on a light box (frontal: patient's right at the viewer's left; lateral: facing left).

    `pixels` (rows, columns) float32: line integrals when `values` is 'line_integral'; transmitted
    intensity (bright where little is absorbed) when 'intensity'; when 'unknown', a picture in which dense is
    bright, of unknown scale.
    """

    pixels: np.ndarray
    pixel_mm: tuple[float, float] | None  # at the detector: row pitch, column pitch; None: nobody said
    view: View | None = None
    values: Values = "unknown"
    beam: Beam | None = None  # absolute LPS; None: nobody said
    isocentre_mm: Vector | None = None  # LPS
    source: str = ""  # the file's name, for messages
    notes: tuple[str, ...] = field(default=())  # what was guessed or assumed while reading, one sentence each

    def __post_init__(self):
        if self.pixels.ndim != 2:
            raise BadInput(f"{self.source or 'X-ray'}: an X-ray has rows and columns, not shape {self.pixels.shape}")
        if self.beam is not None and self.beam.pixels != self.pixels.shape:
            raise GeometryError(
                f"{self.source or 'X-ray'}: the picture is {self.pixels.shape}, its beam says {self.beam.pixels}"
            )
