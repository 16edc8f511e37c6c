"""The projector in plain torch: Joseph's method, to be read and trusted; float32 or float64.

Nothing in it is bound to the CPU, but on a GPU it is unmeasured and unchecked here.

Each ray steps through the slices across its main axis (the one along which it advances most, in mm), is interpolated
bilinearly inside each, and the sum is multiplied by the length in mm of one such step. Outside the volume is zero.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample

from raylift.projector.rays import ACROSS, CORNER, DOWN, FIRST, RECTIFIED, START, TURN_ACROSS, TURN_DOWN
from raylift.types import Grid

SAMPLES = 1 << 23  # ours: samples of the volume that are held at one time


def project(
    mu: Float[Tensor, "n D H W"],
    table: Float[Tensor, "V 20"],
    affine: Float[Tensor, "3 3"],
    rows: int,
    columns: int,
) -> Float[Tensor, "n V rows columns"]:
    """Line integrals of `mu` (1/mm), differentiable in `mu`, `table` and `affine`."""
    table, affine = table.to(mu.device), affine.to(mu.device)
    return torch.stack([_project_view(mu, view, affine, rows, columns) for view in table], dim=1)


def backproject(
    xrays: Float[Tensor, "n V rows columns"],
    table: Float[Tensor, "V 20"],
    affine: Float[Tensor, "3 3"],
    shape: tuple[int, int, int],
) -> Float[Tensor, "n D H W"]:
    """The exact adjoint of `project`."""
    table, affine = table.to(xrays.device), affine.to(xrays.device)
    total = xrays.new_zeros(len(xrays), *shape)
    for view, picture in zip(table, xrays.unbind(1), strict=True):
        flat = picture.flatten(1)
        for axis, pixels in _by_axis(view, affine, *picture.shape[1:], shape):
            where, weight = _samples(shape, view, affine, axis, pixels, picture.shape[2])
            slices = total.movedim(axis + 1, 0)  # slice n p q
            spread = (flat[:, pixels] * weight[:, None].to(flat.dtype))[:, :, :, None]  # slice n r 1
            bilinear, zeros, wanted = 0, 0, [True, False]
            slices += torch.ops.aten.grid_sampler_2d_backward(
                spread, torch.zeros_like(slices), where.to(flat.dtype), bilinear, zeros, False, wanted
            )[0]
    return total


def project_pose(
    mu: Float[Tensor, "*b D H W"],
    grid: Grid,
    *,
    source: Float[Tensor, "V 3"],
    corner: Float[Tensor, "V 3"],
    column_step: Float[Tensor, "V 3"],
    row_step: Float[Tensor, "V 3"],
    pixels: tuple[int, int],
) -> Float[Tensor, "*b V rows columns"]:
    """Line integrals of cone beams whose pose is a tensor, in LPS mm, and may be learned.

    `corner` is the centre of the first pixel, the steps lead to the next column and row. Every ray takes its own
    main axis, D included.
    """
    affine = torch.as_tensor(grid.affine[:3, :3].copy(), dtype=source.dtype, device=source.device)
    origin = torch.as_tensor(grid.affine[:3, 3].copy(), dtype=source.dtype, device=source.device)
    inverse = torch.linalg.inv(affine)
    start, point = ((p - origin) @ inverse.T for p in (source, corner))
    across, down = column_step @ inverse.T, row_step @ inverse.T
    flags = source.new_tensor([[0.0, -1.0]]).expand(len(source), 2)  # not rectified; rays start at the source
    table = torch.cat([point, across, down, point - start, across, down, flags], dim=1)
    flat = mu.reshape(-1, *mu.shape[-3:])
    return project(flat, table, affine, *pixels).reshape(*mu.shape[:-3], len(source), *pixels)


def _project_view(mu, view, affine, rows, columns) -> Float[Tensor, "n rows columns"]:
    picture = mu.new_zeros(len(mu), rows * columns)
    for axis, pixels in _by_axis(view, affine, rows, columns, mu.shape[1:]):
        picture = picture.index_add(1, pixels, _through_slices(mu, view, affine, axis, pixels, columns))
    return picture.reshape(len(mu), rows, columns)


def _rays(view: Float[Tensor, "20"], pixels: Int[Tensor, "r"], columns: int):
    """Where the rays end and which way they run, in the grid's index, (r, 3) each."""
    row, column = (pixels // columns)[:, None], (pixels % columns)[:, None]
    point = view[CORNER] + column * view[ACROSS] + row * view[DOWN]
    direction = view[FIRST] + column * view[TURN_ACROSS] + row * view[TURN_DOWN]
    return point, direction


def _by_axis(view, affine, rows: int, columns: int, shape):
    """The picture's pixels (flat numbers) by their ray's main axis, few enough at a time."""
    everything = torch.arange(rows * columns, device=view.device)
    with torch.no_grad():
        along = _rays(view, everything, columns)[1].abs() * affine.norm(dim=0)
        if view[RECTIFIED]:
            along[:, 0] = 0
        main = torch.where(along[:, 1] >= along[:, 2], 1, 2)
        main = torch.where(along[:, 0] > along[:, 1:].amax(1), 0, main)
    for axis in range(3):
        pixels = everything[main == axis]
        if len(pixels):
            for part in pixels.split(max(1, SAMPLES // shape[axis])):
                yield axis, part


def _through_slices(mu, view, affine, axis: int, pixels, columns: int) -> Float[Tensor, "n r"]:
    """The line integrals of the rays that end at `pixels`, all of main axis `axis`."""
    where, weight = _samples(mu.shape[1:], view, affine, axis, pixels, columns)
    slices = mu.movedim(axis + 1, 0)  # slice n p q
    values = grid_sample(slices, where.to(mu.dtype), padding_mode="zeros", align_corners=False)  # slice n r 1
    return (values[..., 0] * weight[:, None].to(mu.dtype)).sum(0)


def _samples(shape, view, affine, axis: int, pixels, columns: int):
    """Where each ray cuts each slice, on grid_sample's scale, and the mm that the sample stands for."""
    point, direction = _rays(view, pixels, columns)
    p, q = (k for k in range(3) if k != axis)
    step = (torch.arange(shape[axis], device=view.device)[:, None] - point[:, axis]) / direction[:, axis]  # slice r
    at_q = (2 * (point[:, q] + step * direction[:, q]) + 1) / shape[q] - 1
    at_p = (2 * (point[:, p] + step * direction[:, p]) + 1) / shape[p] - 1
    length = (direction @ affine.T).norm(dim=1) / direction[:, axis].abs()
    return torch.stack([at_q, at_p], -1)[:, :, None], length * (step > view[START])  # slice r 1 2, slice r
