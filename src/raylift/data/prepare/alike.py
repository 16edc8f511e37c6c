"""Scans that are one scan under two names, with other voxels: another kernel, slice thickness or padding."""

from collections.abc import Mapping, Sequence

import numpy as np

from raylift.types import Volume

BLOCKS = 8  # a side  # ours
NEAR_HU = 10.0  # RMS over the blocks: another kernel moves real chests by 5 to 7, a patient 4 mm on by 11 to 24  # ours
NEAR_MM = 0.02  # of the extent  # ours


def likeness(volume: Volume) -> list[float]:
    """A canonical scan's extent (mm) and its mean HU (clipped to -1000..400) in 8 x 8 x 8 blocks."""
    shape = np.array(volume.hu.shape)
    extent = [round(float(n * s), 1) for n, s in zip(shape, volume.grid.spacing_mm, strict=True)]
    edges = [np.linspace(0, n, BLOCKS + 1).astype(int) for n in shape]
    means = []
    for low, high in zip(edges[0], edges[0][1:], strict=False):
        slab = np.zeros(shape[1:])
        for plane in volume.hu[low:high]:
            slab += plane.clip(-1000, 400)
        slab /= max(high - low, 1)
        rows = np.add.reduceat(slab, edges[1][:-1], 0) / np.maximum(np.diff(edges[1]), 1)[:, None]
        means.append(np.add.reduceat(rows, edges[2][:-1], 1) / np.maximum(np.diff(edges[2]), 1))
    return extent + np.rint(np.concatenate(means, None)).tolist()


def same_scans(content: Mapping[str, str], looks: Mapping[str, Sequence[float]], told: set[str]) -> dict[str, str]:
    """For each case a name that cases of one scan share: `content` where nothing else is alike.

    Two scans that are alike are one unless somebody said whose both are: `told` has these cases.
    """
    first = {scan: case for case, scan in sorted(content.items(), reverse=True)}  # scan -> its first case
    cases = sorted(case for case in first.values() if case in looks)
    if not cases:
        return dict(content)
    looks_of = np.array([looks[case] for case in cases], np.float64)
    shared: dict[str, str] = {}
    for k, case in enumerate(cases):
        extent, means = looks_of[:k, :3], looks_of[:k, 3:]
        near = (np.abs(extent - looks_of[k, :3]) <= NEAR_MM * looks_of[k, :3]).all(1)
        near &= np.sqrt(((means - looks_of[k, 3:]) ** 2).mean(1)) < NEAR_HU
        others = [cases[j] for j in np.flatnonzero(near) if not {case, cases[j]} <= told]
        if others:
            shared[content[case]] = shared.get(content[others[0]], content[others[0]])
    return {case: shared.get(scan, scan) for case, scan in content.items()}
