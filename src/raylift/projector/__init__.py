"""The projector: volumes to X-rays (line integrals) and the exact adjoint, both differentiable, for any pose.

>>> import torch
>>> from raylift.geometry import chest_view
>>> from raylift.types import Grid, View
>>> grid = Grid.canonical((64, 64, 64), 5.0)
>>> xrays = project(torch.full((64, 64, 64), 0.02), grid, [chest_view(View.PA, pixels=33)])
>>> xrays.shape, round(float(xrays[0, 16, 16]), 3)  # 320 mm of 0.02 / mm
(torch.Size([1, 33, 33]), 6.4)

Backends: 'cpu' is compiled by numba at its first use (and cached); 'reference' is plain torch on any device.
'auto' is 'cpu' for tensors on the CPU and the reference elsewhere; on a GPU that is unmeasured and unchecked here.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from raylift.projector.operators import run_backproject, run_project
from raylift.projector.rays import rays_through
from raylift.types import Beam, Grid

__all__ = ["LineIntegral", "backproject", "project"]


def project(
    mu: Float[Tensor, "*b D H W"], grid: Grid, beams: Sequence[Beam], *, backend: str = "auto"
) -> Float[Tensor, "*b V rows cols"]:
    """Line integrals (dimensionless) of `mu` (1/mm) along every ray of `beams`, from the source to the panel."""
    return run_project(mu, rays_through(grid, beams), backend)


def backproject(
    xrays: Float[Tensor, "*b V rows cols"], grid: Grid, beams: Sequence[Beam], *, backend: str = "auto"
) -> Float[Tensor, "*b D H W"]:
    """The exact adjoint of `project`: each voxel's sum over the pixels, weighted by mm of ray in it."""
    return run_backproject(xrays, rays_through(grid, beams), backend)


class LineIntegral:
    """The linear operator of one grid and its beams: `A(mu)` projects, `A.adjoint(xrays)` is its transpose."""

    def __init__(self, grid: Grid, beams: Sequence[Beam], backend: str = "auto"):
        self.grid, self.beams, self.backend = grid, tuple(beams), backend
        self.rays = rays_through(grid, beams)

    def __call__(self, mu: Float[Tensor, "*b D H W"]) -> Float[Tensor, "*b V rows cols"]:
        """Line integrals (dimensionless) of `mu` (1/mm)."""
        return run_project(mu, self.rays, self.backend)

    def adjoint(self, xrays: Float[Tensor, "*b V rows cols"]) -> Float[Tensor, "*b D H W"]:
        """The exact transpose of projecting."""
        return run_backproject(xrays, self.rays, self.backend)
