"""The gate: why a volume cannot be used, in words; each check returns a reason or None."""

import numpy as np

from raylift.data.prepare.profiles import Profile
from raylift.types import Grid, Volume

LABELS = 1024  # a label map's numbers are whole and lie below this  # ours
AIR_SHARE = 0.001  # of a CT's voxels are air, around the body or in it  # ours
TILT_DEG = 30.0  # a scan turned further than this is no standard one  # ours
NARROW_MM = 150.0  # ours
BONE_HU = 300.0  # ours
SPINE_MM = 20.0  # how far before the body's middle its bones may lie on average  # ours


def not_a_ct(volume: Volume) -> str | None:
    """A label map, another kind of image, or one that is not in HU."""
    hu = volume.hu
    low, high = float(hu.min()), float(hu.max())
    if not np.isfinite([low, high]).all():
        return "some of its voxels are not finite"
    if low == high:
        return f"every voxel is {low:g}: an empty image"
    if low >= 0 and high < LABELS and (hu.dtype.kind in "ui" or np.array_equal(hu, np.rint(hu))):
        return f"whole numbers from {low:g} to {high:g} and no air: a label map, not a CT"
    if np.count_nonzero(hu < -500) < AIR_SHARE * hu.size:
        return f"values from {low:g} to {high:g} with no air near -1000 HU: not a CT in HU"
    if np.count_nonzero(hu > -200) < AIR_SHARE * hu.size:
        return f"values from {low:g} to {high:g}: nothing but air"
    return None


def wrong_grid(grid: Grid, profile: Profile, allow_short: bool) -> str | None:
    """Too short, too thick, too narrow or turned; `grid` is canonical."""
    directions = grid.affine[:3, :3] / grid.spacing_mm
    turned = np.degrees(np.arccos(np.clip(np.abs(directions).max(0), 0, 1))).max()
    if turned > TILT_DEG:
        return f"its axes are turned by {turned:.0f} degrees from the patient's"
    spacing = np.array(grid.spacing_mm)
    extent = spacing * grid.shape
    if min(grid.shape) < 4:
        return f"only {grid.shape[0]} x {grid.shape[1]} x {grid.shape[2]} voxels: a localiser or a part of a scan"
    if spacing.max() > profile.thickest_mm:
        return f"{spacing.max():.1f} mm between slices or voxels; {profile.name} takes up to {profile.thickest_mm:g}"
    if extent[1:].min() < NARROW_MM:
        return f"only {extent[1:].min():.0f} mm wide"
    if extent[0] < profile.shortest_mm and not allow_short:
        return (
            f"{extent[0]:.0f} mm long, shorter than {profile.shortest_mm:g} mm; "
            "--allow-short pads it with air and marks what is not filled"
        )
    return None


def back_to_front(small: Volume, body: np.ndarray, lungs: np.ndarray | None) -> str | None:
    """Bones that lie before the body's middle: the spine is not where the file says the back is."""
    if lungs is None:
        return None
    planes = np.flatnonzero(lungs.any((1, 2)))
    part = slice(planes[0], planes[-1] + 1)
    bones = body[part] & (small.hu[part] > BONE_HU)
    if not bones.any():
        return None
    rows = np.arange(body.shape[1]) * small.grid.spacing_mm[1]
    middle, spine = (np.average(rows, weights=mask.sum((0, 2))) for mask in (body[part], bones))
    if spine < middle - SPINE_MM:
        return f"its bones lie {middle - spine:.0f} mm before the body's middle: front and back are exchanged"
    return None
