"""X2CT-GAN's data: a folder a scan with `ct_xray_data.h5` in it (or `<scan>_ct_xray_data.h5`), named after LIDC-IDRI.

Only the CT is taken; its two pictures are 8-bit and of a scale that nobody stated.
"""

from pathlib import Path

from raylift.data.importers.source import Found, Source, visible

FILE = "ct_xray_data.h5"


def recognises(folder: Path) -> bool:
    """True where a scan's file lies in `folder` or in a folder of it."""
    return bool(_files(folder))


def sources(folder: Path) -> Found:
    """The scans; 'LIDC-IDRI-0001.20000101.3000566.1' is one of patient LIDC-IDRI-0001."""
    found = []
    for path in _files(folder):
        scan = path.name.removesuffix(FILE).rstrip("_") or path.parent.name
        found.append(Source(path=path, id=scan, patient=scan.split(".")[0], study=".".join(scan.split(".")[:2])))
    return Found(sources=tuple(found))


def _files(folder: Path) -> list[Path]:
    inside = visible(folder)
    here = [p for p in inside if p.name.endswith(FILE)]
    return here + [p / FILE for p in inside if p.is_dir() and (p / FILE).is_file()]
