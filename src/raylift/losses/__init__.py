"""What training makes small: each loss is a function of prediction and truth (B 1 D H W on the target's scale).

`valid` is false where the CT does not fill the cube; nothing there counts. A scalar comes back, in float32 at least.
"""

from collections.abc import Callable

from raylift.errors import unknown_name
from raylift.losses.adversarial import lsgan_discriminator, lsgan_generator
from raylift.losses.edges import edge, igdl, soft_edges
from raylift.losses.parts import Scalar
from raylift.losses.projections import cone_beams, cone_projection, mip, projection
from raylift.losses.spectra import ffl, frequency
from raylift.losses.voxels import l1, mse, ssim

__all__ = [
    "LOSSES",
    "cone_beams",
    "cone_projection",
    "edge",
    "ffl",
    "frequency",
    "get",
    "igdl",
    "l1",
    "lsgan_discriminator",
    "lsgan_generator",
    "mip",
    "mse",
    "projection",
    "soft_edges",
    "ssim",
]

LOSSES: dict[str, Callable[..., Scalar]] = {
    "mse": mse,
    "l1": l1,
    "projection": projection,
    "mip": mip,
    "cone_projection": cone_projection,
    "igdl": igdl,
    "ffl": ffl,
    "edge": edge,
    "frequency": frequency,
    "ssim": ssim,
}


def get(name: str) -> Callable[..., Scalar]:
    """The loss of that name, or an error that offers the nearest one."""
    if name not in LOSSES:
        raise unknown_name("loss", name, [*LOSSES, "gan"])
    return LOSSES[name]
