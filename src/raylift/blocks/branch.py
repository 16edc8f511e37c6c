"""One X-ray's way through X2CT-GAN and the nets that extend it (3DSRNet, X-Recon)."""

from collections.abc import Callable, Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from raylift.blocks.checks import halved
from raylift.blocks.decoders3d import convs_per_level, decoder_levels
from raylift.blocks.encoders2d import DenseEncoder, Enhance
from raylift.blocks.lifts import FullyConnectedLift, RepeatLift
from raylift.errors import BadInput
from raylift.types import View


class XrayBranch(nn.Module):
    """An encoder, its lifts, and the levels of the view's own decoder, finest first.

    X-ray --> encode --.-- each map, lifted along the view's rays --> volumes, finest first
                       '-- the last map's mean, a linear layer -----> the deepest volume
    levels[k].join, .rise: the decoder, which the net that owns the branch walks (see `DecoderLevel`)
    """

    def __init__(
        self,
        view: View,
        *,
        size: int,
        layers: Sequence[int],
        width: int,
        growth: int,
        widths: Sequence[int],
        convs: int = 2,
    ):
        super().__init__()
        if len(widths) != len(layers) + 1:
            raise BadInput(f"{len(layers)} encoder steps need {len(layers) + 1} widths of volumes, not {len(widths)}")
        self.encode = DenseEncoder(layers, width=width, growth=growth)
        *shallow, deepest = self.encode.channels
        *skips, deep = widths
        self.skips = nn.ModuleList(RepeatLift(c, w, view) for c, w in zip(shallow, skips, strict=True))
        self.deep = FullyConnectedLift(deepest, deep, halved("an encoder of these layers", size, len(layers)))
        self.levels = decoder_levels(widths, convs_per_level(len(widths), convs))

    def lift(self, xray: Float[Tensor, "B 1 S S"], enhance: Enhance | None = None) -> list[Tensor]:
        """The lifted maps, finest first: B 16 128^3, 16 64^3, 32 32^3, 64 16^3, 128 8^3, 256 4^3."""
        *shallow, deepest = self.encode(xray, enhance)
        return [*(lift(x) for lift, x in zip(self.skips, shallow, strict=True)), self.deep(deepest)]


def fused(
    pa: XrayBranch, lat: XrayBranch, lifted_pa: Sequence[Tensor], lifted_lat: Sequence[Tensor]
) -> list[Float[Tensor, "B C s s s"]]:
    """At each resolution, coarsest first: v, the mean of what both views' decoders have there.

    lifted a --> decode a --.         .--> a: goes on from v
                            v = (a + b) / 2
    lifted b --> decode b --'         '--> b: goes on from v
    """
    *skips_pa, deep_pa = lifted_pa
    *skips_lat, deep_lat = lifted_lat
    v = [(deep_pa + deep_lat) / 2]  # B 256 4^3
    for k in reversed(range(len(skips_pa))):
        a = pa.levels[k].join(pa.levels[k + 1].rise(v[-1]), skips_pa[k])
        b = lat.levels[k].join(lat.levels[k + 1].rise(v[-1]), skips_lat[k])
        v.append((a + b) / 2)  # B 128 8^3 .. B 16 128^3
    return v


def own_heads(branches: Mapping[str, XrayBranch], head: Callable[[], nn.Module], *, built: bool) -> nn.ModuleDict:
    """A head for each view's own decoder, which the released codes compute and give the weight 0. Where they are not
    `built`, the last convolutions, which only they read, are taken out of the branches too.
    """
    if built:
        return nn.ModuleDict({name: head() for name in branches})
    for branch in branches.values():
        branch.levels[0].refine = nn.Sequential()
    return nn.ModuleDict()
