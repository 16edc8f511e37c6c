"""Masks (D H W) made smaller and larger by a voxel; by shifting them, which is many times faster than a filter."""

import numpy as np


def eroded(mask: np.ndarray, *, edges: bool = True) -> np.ndarray:
    """The voxels of `mask` whose neighbours are all in it: 18, or 6 without `edges`; beyond the array all is."""
    d, h, w = (narrowed(mask, axis) for axis in range(3))
    return narrowed(d, 1) & narrowed(h, 2) & narrowed(w, 0) if edges else d & h & w


def dilated(mask: np.ndarray, *, edges: bool = True) -> np.ndarray:
    """`mask` and its voxels' neighbours: 18, or 6 without `edges`."""
    return ~eroded(~mask, edges=edges)


def narrowed(mask: np.ndarray, axis: int) -> np.ndarray:
    """The voxels of `mask` whose two neighbours along `axis` are in it."""
    both = mask.copy()
    old, new = np.moveaxis(mask, axis, 0), np.moveaxis(both, axis, 0)
    new[1:] &= old[:-1]
    new[:-1] &= old[1:]
    return both


def opened(mask: np.ndarray) -> np.ndarray:
    """`mask` without what is thinner than three voxels."""
    return dilated(eroded(mask))
