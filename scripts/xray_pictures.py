"""Writes docs/images/drr-pa.png and drr-lat.png: one chest CT at 60 keV (left) and as a detector sees it (right).

    python scripts/xray_pictures.py examples/lidc-idri-0001/ct.nii.gz

The exposure is EXPOSURE below. The left half is scaled by its 0.5 and 99.5 percentiles and nothing else; the right one
is shown as a console shows an X-ray: part of the broad structure is taken away first, so that ribs and vessels stand
out. Both are cut to the part of the panel that the CT fills.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from raylift import io
from raylift.data.drr import xrays_of
from raylift.physics import Exposure, blurred
from raylift.types import View

IMAGES = Path(__file__).parents[1] / "docs" / "images"
PIXELS, CUT = 320, 30
EXPOSURE = Exposure(
    spectrum="120KV_AL35",
    detector="csi",
    photons=1e5,
    scatter=0.05,
    focal_spot_mm=1.0,
    blur_mm=0.4,
    values="line_integral",
)


def local(picture: np.ndarray) -> np.ndarray:
    """The picture less 0.6 of itself blurred by 20 pixels (27 mm at the panel); air as dark as the darkest tissue."""
    broad = blurred(torch.from_numpy(picture), (20.0, 20.0)).numpy()
    left = picture - 0.6 * broad
    body = picture > 0.1
    return np.where(body, left, np.percentile(left[body], 1))


def grey(picture: np.ndarray) -> np.ndarray:
    """8 bits between the picture's 0.5 and 99.5 percentiles, dense is bright."""
    low, high = np.percentile(picture, [0.5, 99.5])
    return ((picture - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)


def pictures(ct: str) -> dict[View, tuple[np.ndarray, np.ndarray]]:
    """For each view, where the CT fills it, the line integrals at 60 keV and those that EXPOSURE measures."""
    volume, views = io.read_ct(ct), (View.PA, View.LAT)
    plain, taken = (xrays_of(volume, views=views, pixels=PIXELS, exposure=e) for e in (None, EXPOSURE))
    return {a.view: (a.pixels[CUT:-CUT], b.pixels[CUT:-CUT]) for a, b in zip(plain, taken, strict=True)}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    IMAGES.mkdir(parents=True, exist_ok=True)
    for view, pair in pictures(sys.argv[1]).items():
        Image.fromarray(np.hstack([grey(x) for x in (pair[0], local(pair[1]))])).save(
            IMAGES / f"drr-{view.lower()}.png", optimize=True
        )
