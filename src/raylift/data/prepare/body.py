"""Where the patient is in a CT: the body without the table, and the lungs in it. On a coarse copy, so it is quick."""

from dataclasses import replace

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from raylift.data.prepare.morphology import dilated, eroded, opened
from raylift.data.prepare.resample import AIR_HU
from raylift.segment.morphology import planes_filled
from raylift.types import Grid, Volume

COARSE = 2  # the masks are found on voxels of twice the spacing  # ours
SKIN_HU = -300.0  # halfway between air and soft tissue, above mattresses  # ours
LUNG_HU = -400.0  # ours
LUNG_MEAN_HU = (-960.0, -550.0)  # gas in the bowel lies below  # ours
LUNG_MM3 = 3e5  # the smallest part counted as lung  # ours
LUNGS_MM3 = 8e5  # both lungs together, cut or not  # ours
LIMB_SHARE = 0.01  # of the trunk's volume: an arm that does not touch it  # ours
LIMB_MM = 9.0  # an arm is thicker than twice this; a table's shell is not  # ours


def coarse(volume: Volume) -> Volume:
    """`volume` with voxels of twice the spacing, each the mean of eight; float32."""
    hu = volume.hu
    for axis, n in enumerate(hu.shape):
        one, next_to_it = (hu[(*[slice(None)] * axis, slice(k, n // 2 * 2, 2))] for k in (0, 1))
        hu = np.add(one, next_to_it, dtype=np.float32)
    hu /= 8
    affine = volume.grid.affine.copy()
    affine[:3, 3] = volume.grid.world([0.5] * 3)
    affine[:3, :3] *= COARSE
    return Volume(hu=hu, grid=Grid(hu.shape, affine), source=volume.source)


def body_mask(small: Volume) -> np.ndarray:
    """The patient in a coarse CT, lungs and bowel gas with it, bool; the table is not part of it."""
    labels, sizes = _parts(opened(small.hu > SKIN_HU))
    if not len(sizes):
        return np.zeros(small.hu.shape, bool)
    body = labels == 1
    for k, size in enumerate(sizes[1:], 2):
        if size < LIMB_SHARE * sizes[0]:
            break
        if _is_limb(labels == k, small.grid.spacing_mm[0]):
            body |= labels == k
    return planes_filled(dilated(body))


def _parts(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The joined parts of a mask, numbered from 1, the largest first, and their sizes in voxels."""
    parts = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)))
    labels = sitk.GetArrayFromImage(sitk.RelabelComponent(parts))
    return labels, np.bincount(labels.ravel())[1:]


def _is_limb(part: np.ndarray, spacing: float) -> bool:
    """True for a part that is thick almost everywhere."""
    box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in ndimage.find_objects(part.astype(np.uint8))[0])
    depth = ndimage.distance_transform_edt(np.pad(part[box], ((0, 0), (1, 1), (1, 1))), sampling=spacing)
    core = depth > LIMB_MM
    reach = ndimage.binary_dilation(core, iterations=int(2 * LIMB_MM / spacing)) if core.any() else core
    return bool(core.any() and (reach & (depth > 0)).sum() > 0.8 * part.sum())


def lung_mask(small: Volume, body: np.ndarray) -> np.ndarray | None:
    """The lungs in a coarse CT, bool; None where there are none to speak of."""
    air = body & (small.hu < LUNG_HU)
    labels, sizes = _parts(eroded(air))
    voxel_mm3 = float(np.prod(small.grid.spacing_mm))
    lungs = np.zeros(small.hu.shape, bool)
    for k, size in enumerate(sizes, 1):
        if size * voxel_mm3 < LUNG_MM3 / 2:  # the core of a part is smaller than the part
            break
        part = dilated(labels == k, edges=False) & air
        if part.sum() * voxel_mm3 > LUNG_MM3 and LUNG_MEAN_HU[0] < small.hu[part].mean() < LUNG_MEAN_HU[1]:
            lungs |= part
    return lungs if lungs.sum() * voxel_mm3 > LUNGS_MM3 else None


def without_table(volume: Volume, body: np.ndarray) -> Volume:
    """`volume` with everything outside the coarse mask `body` set to air."""
    return replace(volume, hu=np.where(fine(body), volume.hu, np.float32(AIR_HU)))


def fine(mask: np.ndarray) -> np.ndarray:
    """A coarse mask with the voxels of the volume that it was found in."""
    return mask.repeat(COARSE, 0).repeat(COARSE, 1).repeat(COARSE, 2)


def box_mm(mask: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest LPS position that `mask` reaches, mm."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    ends = grid.world(np.array([[s.start - 0.5 for s in box], [s.stop - 0.5 for s in box]]))
    return ends.min(0), ends.max(0)
