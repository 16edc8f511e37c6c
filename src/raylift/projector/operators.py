"""The projector and its adjoint as two torch operators, each the other's gradient, for autograd and torch.compile."""

import torch
from torch import Tensor

from raylift.errors import BadInput
from raylift.projector import cpu, reference
from raylift.projector.rays import Rays

BACKENDS = {"cpu": cpu, "reference": reference}


def backend_for(backend: str, device: torch.device) -> str:
    """The backend that serves `device`: 'auto' is the compiled loops on the CPU, plain torch elsewhere."""
    if backend == "auto":
        return "cpu" if device.type == "cpu" else "reference"
    if backend not in BACKENDS:
        raise BadInput(f"no projector backend '{backend}'; there are auto, {', '.join(BACKENDS)}")
    if backend == "cpu" and device.type != "cpu":
        raise BadInput(f"backend 'cpu' cannot read a tensor on {device}; use 'auto' or move the tensor")
    return backend


@torch.library.custom_op("raylift::project", mutates_args=())
def project(mu: Tensor, table: Tensor, affine: Tensor, rows: int, columns: int, backend: str) -> Tensor:
    """Line integrals, n V rows columns, of volumes n D H W; voxels that no ray meets are not asked for their values."""
    xrays = BACKENDS[backend].project(mu.contiguous(), table, affine, rows, columns)
    _refuse_not_finite(xrays, "volumes")
    return xrays


@torch.library.custom_op("raylift::backproject", mutates_args=())
def backproject(xrays: Tensor, table: Tensor, affine: Tensor, shape: list[int], backend: str) -> Tensor:
    """The adjoint: volumes n D H W of pictures n V rows columns."""
    _refuse_not_finite(xrays, "X-rays")
    return BACKENDS[backend].backproject(xrays.contiguous(), table, affine, tuple(shape))


def _refuse_not_finite(values: Tensor, what: str) -> None:
    """One pass and no copy: a sum is finite where all values are, but for values that overflow it."""
    if not values.sum().isfinite() and not values.isfinite().all():
        raise BadInput(f"the {what} hold NaN or infinite values; replace them before projecting")


@project.register_fake
def _(mu, table, affine, rows, columns, backend):
    return mu.new_empty(mu.shape[0], table.shape[0], rows, columns)


@backproject.register_fake
def _(xrays, table, affine, shape, backend):
    return xrays.new_empty(xrays.shape[0], *shape)


def _keep_for_project(ctx, inputs, output):
    mu, ctx.table, ctx.affine, _, _, ctx.backend = inputs
    ctx.shape = list(mu.shape[1:])


def _keep_for_backproject(ctx, inputs, output):
    xrays, ctx.table, ctx.affine, _, ctx.backend = inputs
    ctx.pixels = xrays.shape[2:]


def _gradient_of_project(ctx, gradient):
    mu = backproject(gradient, ctx.table, ctx.affine, ctx.shape, ctx.backend)
    return mu, None, None, None, None, None


def _gradient_of_backproject(ctx, gradient):
    xrays = project(gradient, ctx.table, ctx.affine, *ctx.pixels, ctx.backend)
    return xrays, None, None, None, None


project.register_autograd(_gradient_of_project, setup_context=_keep_for_project)
backproject.register_autograd(_gradient_of_backproject, setup_context=_keep_for_backproject)


def run_project(mu: Tensor, rays: Rays, backend: str) -> Tensor:
    """`mu` *b D H W through `rays`, checked: *b V rows columns."""
    if tuple(mu.shape[-3:]) != rays.shape:
        raise BadInput(f"a volume of {tuple(mu.shape[-3:])} voxels does not fit a grid of {rays.shape}")
    flat = _checked(mu, "volume").reshape(-1, *rays.shape)
    xrays = project(flat, rays.table, rays.affine, *rays.pixels, backend_for(backend, mu.device))
    return xrays.reshape(*mu.shape[:-3], len(rays.table), *rays.pixels)


def run_backproject(xrays: Tensor, rays: Rays, backend: str) -> Tensor:
    """`xrays` *b V rows columns back along `rays`, checked: *b D H W."""
    wanted = (len(rays.table), *rays.pixels)
    if tuple(xrays.shape[-3:]) != wanted:
        raise BadInput(f"X-rays of shape {tuple(xrays.shape[-3:])} do not fit beams of (views, rows, columns) {wanted}")
    flat = _checked(xrays, "X-rays").reshape(-1, *wanted)
    mu = backproject(flat, rays.table, rays.affine, list(rays.shape), backend_for(backend, xrays.device))
    return mu.reshape(*xrays.shape[:-3], *rays.shape)


def _checked(values: Tensor, what: str) -> Tensor:
    """The tensor, if the loops can take it; half precision is raised to float32."""
    if not values.is_floating_point():
        raise BadInput(f"the {what} must be floating point, not {values.dtype}; give mu in 1/mm or line integrals")
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
