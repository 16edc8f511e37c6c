"""The private block RAYLIFT of a DICOM X-ray: the beam, the isocentre and the scale, which no standard tag holds."""

from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.datadict import add_private_dict_entries

from raylift.errors import BadInput, GeometryError
from raylift.io.dicom import MALFORMED
from raylift.types import Beam, ConeBeam, ParallelBeam, Values, Vector, View, Xray

GROUP, CREATOR, VERSION = 0x0071, "RAYLIFT", "1"
ELEMENTS = {  # offset in the block: (VR, multiplicity, name)
    0x01: ("LO", "1", "Version"),
    0x02: ("CS", "1", "Beam Type"),
    0x03: ("FD", "3", "Source or Ray Direction"),
    0x04: ("FD", "3", "Detector Centre"),
    0x05: ("FD", "3", "Column Direction"),
    0x06: ("FD", "3", "Row Direction"),
    0x07: ("FD", "2", "Pixel Size"),
    0x08: ("FD", "3", "Isocentre"),
    0x09: ("CS", "1", "Values"),
    0x0A: ("FD", "1", "Value of a Grey Level"),
    0x0B: ("FD", "1", "Value of Grey Level Zero"),
    0x0C: ("CS", "1", "View"),
    0x0D: ("LO", "1", "Disclaimer"),
}
add_private_dict_entries(CREATOR, {(GROUP << 16) + 0x1000 + k: entry for k, entry in ELEMENTS.items()})


@dataclass(frozen=True, kw_only=True)
class Private:
    """What the block says: value = offset + scale * grey level."""

    beam: Beam | None
    isocentre_mm: Vector | None
    values: Values
    scale: float
    offset: float
    view: View | None


def write_private(dataset: pydicom.Dataset, xray: Xray, scale: float, offset: float) -> None:
    """Puts the block into `dataset`."""
    from raylift import DISCLAIMER

    block = dataset.private_block(GROUP, CREATOR, create=True)
    beam = xray.beam
    entries = {0x01: VERSION, 0x09: xray.values.upper(), 0x0A: float(scale), 0x0B: float(offset), 0x0D: DISCLAIMER}
    if xray.view is not None:
        entries[0x0C] = str(xray.view)
    if xray.isocentre_mm is not None:
        entries[0x08] = [float(x) for x in xray.isocentre_mm]
    if beam is not None:
        cone = isinstance(beam, ConeBeam)
        entries[0x02] = "CONE" if cone else "PARALLEL"
        entries[0x03] = list(beam.source_mm if cone else beam.ray_dir)
        entries[0x04], entries[0x05] = list(beam.detector_centre_mm), list(beam.column_dir)
        entries[0x06], entries[0x07] = list(beam.row_dir), list(beam.pixel_mm)
    for offset_in_block, value in sorted(entries.items()):
        block.add_new(offset_in_block, ELEMENTS[offset_in_block][0], value)


def private_beam(dataset: pydicom.Dataset, pixels: tuple[int, ...], name: str) -> Private | None:
    """What the block says, or None where there is none; a block that makes no sense is an error."""
    try:
        block = dataset.private_block(GROUP, CREATOR)
    except KeyError:
        return None
    try:
        isocentre = _numbers(block, 0x08)
        values, scale, offset = str(_value(block, 0x09)).lower(), _numbers(block, 0x0A), _numbers(block, 0x0B)
        view = _value(block, 0x0C)
        if values not in ("line_integral", "intensity", "unknown") or not scale or not offset or scale[0] <= 0:
            raise ValueError(values)
        return Private(
            beam=_beam(block, pixels),
            isocentre_mm=isocentre,
            values=values,
            scale=scale[0],
            offset=offset[0],
            view=View(view) if view else None,
        )
    except GeometryError as error:
        raise GeometryError(f"{name}: its RAYLIFT block: {error}") from None
    except MALFORMED:
        raise BadInput(f"{name}: its RAYLIFT block is damaged") from None


def _beam(block, pixels: tuple[int, ...]) -> Beam | None:
    kind = _value(block, 0x02)
    if kind is None:
        return None
    start, centre, columns, rows, pixel_mm = (_numbers(block, k) for k in range(0x03, 0x08))
    panel = {
        "detector_centre_mm": centre,
        "column_dir": columns,
        "row_dir": rows,
        "pixels": pixels,
        "pixel_mm": pixel_mm,
    }
    return ConeBeam(source_mm=start, **panel) if kind == "CONE" else ParallelBeam(ray_dir=start, **panel)


def _value(block, offset: int):
    return block[offset].value if offset in block else None


def _numbers(block, offset: int) -> tuple[float, ...] | None:
    """The element's floats, also where another program kept it as unknown bytes."""
    value = _value(block, offset)
    if value is None:
        return None
    found = np.frombuffer(value, "<f8") if isinstance(value, bytes) else np.atleast_1d(np.array(value, float))
    if not np.isfinite(found).all():
        raise ValueError("not finite")
    return tuple(float(x) for x in found)
