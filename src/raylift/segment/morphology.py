"""Balls in millimetres on masks: what lies within a distance, and connected parts by size. Masks are bool (D, H, W)."""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage


def grown(mask: np.ndarray, mm: float, spacing: float) -> np.ndarray:
    """`mask` with what lies within `mm` of it."""
    radius = round(mm / spacing)
    if radius < 1 or not mask.any():
        return mask.copy()
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.BinaryDilate(image, [radius] * 3, sitk.sitkBall)).astype(bool)


def shrunk(mask: np.ndarray, mm: float, spacing: float) -> np.ndarray:
    """`mask` without what lies within `mm` of its border; the volume's own border is none."""
    return ~grown(~mask, mm, spacing)


def opened(mask: np.ndarray, mm: float, spacing: float) -> np.ndarray:
    """`mask` without what is thinner than twice `mm`."""
    return grown(shrunk(mask, mm, spacing), mm, spacing) & mask


def closed(mask: np.ndarray, mm: float, spacing: float) -> np.ndarray:
    """`mask` with gaps narrower than twice `mm` filled; beyond the volume's border it goes on as it is there."""
    margin = round(mm / spacing) + 1
    inner = (slice(margin, -margin),) * 3
    return shrunk(grown(np.pad(mask, margin, mode="edge"), mm, spacing), mm, spacing)[inner] | mask


def parts(mask: np.ndarray, least_voxels: float = 1) -> tuple[np.ndarray, list[int]]:
    """Connected parts as numbers, and the numbers of those of at least that size, the largest first."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    order = np.argsort(-sizes, kind="stable")
    return labels, [int(k) for k in order if sizes[k] >= max(least_voxels, 1)]


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part."""
    labels, order = parts(mask)
    return labels == order[0] if order else mask.copy()


def planes_filled(mask: np.ndarray) -> np.ndarray:
    """`mask` with the holes of each axial plane filled: what is not joined to the plane's border."""
    flat = np.zeros((3, 3, 3), bool)
    flat[1] = ndimage.generate_binary_structure(2, 1)
    labels, count = ndimage.label(~mask, flat)
    outside = np.zeros(count + 1, bool)
    for border in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        outside[border] = True
    outside[0] = False  # the mask itself
    return ~outside[labels]


def solid(mask: np.ndarray) -> np.ndarray:
    """`mask` with what it encloses."""
    labels, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return labels[1:-1, 1:-1, 1:-1] != labels[0, 0, 0]


def box_of(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice, slice]:
    """The smallest box that holds `mask`, and `margin` voxels around where there are any."""
    ends = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in zip(ends, mask.shape, strict=True)
    )
