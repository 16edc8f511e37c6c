"""How much air the outermost voxels of a pleural cavity hold, which wall, air and lung share.

Air lies against the wall. Where it is t < 1 voxels thick, and the wall ends anywhere in a voxel, the next layer inward
has t² / 2 of it on average and the outermost voxels t - t² / 2, of the half that is not wall. So the layer says how
thick the air is, and each voxel's own HU how much of it is not wall.
"""

import numpy as np
from scipy import ndimage

from raylift.segment.pneumothorax import mean_over

THICK = np.linspace(0, 2, 41)  # voxels of air; from 2 on the layer is full of it wherever the wall ends
_LAYER = (THICK[:, None] - np.linspace(0, 1, 201)).clip(0, 1)  # its share in the next layer, by where the wall ends
MEANS = _LAYER.mean(1)
RATIOS = (_LAYER**2).mean(1) / np.maximum(MEANS, 1e-9)
LEAST = 0.04  # ours: of a layer, the least share that counts
LEAST_IN_WALL = 0.3  # ours: less may be a wall of another kind
EDGE_VOXELS, ALONG_VOXELS = 6.0, 4.0  # ours: how far inward thinning is measured, and the SD of its smoothing
GENTLEST = 0.1  # ours: voxels by which air thins a voxel further out, at least


def rim_share(mean: np.ndarray, square: np.ndarray) -> np.ndarray:
    """The share of air in what is not wall of the outermost voxels, of the `mean` of the shares in the layer next to
    them and the mean of their `square`.

    An even thin layer and the edge of a thick one have the same mean; the square tells them apart: how thick the air
    is, and along how much of the wall there is any.
    """
    mean = mean.clip(0, 1)
    ratio = np.where(mean > LEAST, square / np.maximum(mean, LEAST), 0)
    thick = np.maximum(np.interp(ratio, RATIOS, THICK), np.interp(mean, MEANS, THICK))
    covered = mean / np.maximum(np.interp(thick, THICK, MEANS), 1e-6)
    return np.where(mean > LEAST, covered * _in_rim(thick), 0).astype(np.float32)


def thinning(along: np.ndarray, layer: np.ndarray, away: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """The same beyond the air that was reached, where it is too thin to show in the next `layer`, of which `along` is
    the smoothed share: it goes on thinning out as it does up to there.

    `away` is how far each voxel is from that air, and `nearest` which one of it is (3, D, H, W).
    """
    reached = away == 0
    inward = ndimage.distance_transform_edt(~(layer & ~reached))
    thick = np.sqrt(2 * along.clip(0, 0.5))
    edge = layer & reached & (along < 0.5) & (inward < EDGE_VOXELS)
    values = (thick, inward, thick * inward, inward**2)
    t, d, td, dd = (np.nan_to_num(mean_over(v, edge, ALONG_VOXELS)) for v in values)
    slope = np.maximum((td - t * d) / np.maximum(dd - d * d, 0.05), GENTLEST)
    at = tuple(nearest)
    return _in_rim((t[at] - slope[at] * (d[at] - 1 + away)).clip(0, 1)).astype(np.float32)


def not_wall(hu: np.ndarray, within: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """How much of each voxel is not the chest's wall, by its HU between those `within` and those `beyond`; 0 to 1."""
    share = (beyond - hu) / np.maximum(beyond - within, 1.0)
    return np.where(share < LEAST_IN_WALL, 0, share).clip(max=1)


def _in_rim(thick: np.ndarray) -> np.ndarray:
    """Of what is not wall of the outermost voxels, how much is air that is so many voxels thick."""
    return np.where(thick < 1, 2 * thick - thick**2, 1)
