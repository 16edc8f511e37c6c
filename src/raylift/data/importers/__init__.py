"""The layouts that data sets are published in, each found by looking: one small module a layout.

A module has `recognises(folder)`, which looks at names and the first lines of tables and never at a voxel, and
`sources(folder)`, which says what lies there. A folder that nobody recognises is walked through, so that a recognised
one may lie anywhere below it.
"""

from pathlib import Path

from raylift.data.importers import bids, ctspine1k, decathlon, plain, tcia, x2ct, xrayto3d
from raylift.data.importers.source import Found, Source, visible

__all__ = ["LAYOUTS", "Found", "Source", "look"]

LAYOUTS = {
    "TCIA download": tcia,
    "Medical Segmentation Decathlon": decathlon,
    "BIDS (VerSe)": bids,
    "CTSpine1K": ctspine1k,
    "X2CT-GAN HDF5": x2ct,
    "xrayto3D list": xrayto3d,
}


def look(folder: Path) -> Found:
    """All that lies in `folder` and below it, in a fixed order."""
    for layout in LAYOUTS.values():
        if layout.recognises(folder):
            return layout.sources(folder)
    here = plain.sources(folder)
    if any(source.path == folder for source in here.sources):
        return here  # a folder of DICOM files; its own subfolders go with it
    for below in visible(folder):
        if below.is_dir():
            here = here + look(below)
    return here
