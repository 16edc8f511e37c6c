"""What a net costs at paper size: parameters, and operations under three conventions that the field mixes.

true    multiply-accumulates that are really done; a transposed convolution costs k^3 C_in C_out for each input voxel
thop    the same, but a transposed convolution is charged for each output voxel (8 times too much at stride 2)
x2      twice the sum of thop, one for each bias added and one for each ReLU: 3DSRNet's Table I counts so

Norms, softmax, interpolation, sampling and Fourier transforms are not counted in any. Everything runs on the meta
device: no memory, no arithmetic.
"""

from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from raylift.models.spec import Model

aten = torch.ops.aten
RELUS = {aten.relu, aten.relu_, aten.leaky_relu, aten.leaky_relu_}


@dataclass(frozen=True)
class Flops:
    """Operations of one forward pass of one sample."""

    true: int
    thop: int
    x2: int


class _Counter(TorchDispatchMode):
    """Adds up what each operation costs while a net runs."""

    def __init__(self):
        super().__init__()
        self.true = self.thop = self.extra = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        kind = func.overloadpacket
        if kind is aten.convolution:
            self._convolution(args, out)
        elif kind in (aten.mm, aten.bmm):
            self._add(out.numel() * args[0].shape[-1])
        elif kind in (aten.addmm, aten.baddbmm):
            self._add(out.numel() * args[1].shape[-1])
            self.extra += out.numel()
        elif kind in RELUS:
            self.extra += out.numel()
        return out

    def _add(self, macs: int) -> None:
        self.true += macs
        self.thop += macs

    def _convolution(self, args, out: Tensor) -> None:
        x, weight, bias, transposed = args[0], args[1], args[2], args[6]
        each = prod(weight.shape[1:])  # what one output voxel costs, or one input voxel where it is transposed
        if transposed:
            self.true += x.numel() * each
            self.thop += out.numel() * each // weight.shape[1] * weight.shape[0] // args[8]
        else:
            self._add(out.numel() * each)
        if bias is not None:
            self.extra += out.numel()


def measured(net: nn.Module, *inputs: Any) -> tuple[Flops, Any]:
    """Operations of `net(*inputs)` and what it returned; inputs and net may live on the meta device."""
    was_training = net.training
    with torch.no_grad(), _Counter() as counter:
        out = net.eval()(*inputs)
    net.train(was_training)
    return Flops(counter.true, counter.thop, 2 * (counter.thop + counter.extra)), out


def flops(net: nn.Module, *inputs: Any) -> Flops:
    """Operations of `net(*inputs)` alone."""
    return measured(net, *inputs)[0]


def parameters(net: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(p.numel() for p in net.parameters())


def counts(model: Model, **options: Any) -> dict[str, Any]:
    """Parameters, operations and output shape of `model` at paper size, for one sample, built on the meta device.

    A net that is told the geometry works on real beams: of it only `learned_part()` is counted, a module and the shape
    of what it is given, where the net says which that is.
    """
    with torch.device("meta"):
        net = model.build(**options).eval()
        found: dict[str, Any] = {"parameters": parameters(net)}
        xrays = torch.empty(1, len(model.views), model.size, model.size)
        if not model.told_geometry:
            cost, out = measured(net, xrays)
            found |= {**asdict(cost), "shape": list(out["ct"].shape)}
        elif hasattr(net, "learned_part"):
            part, shape = net.learned_part()
            found |= asdict(flops(part, torch.empty(shape)))
        critic = model.build_discriminator()
        if critic is not None:
            ct = torch.empty(1, 1, *[model.size] * 3)
            found["discriminator"] = parameters(critic)
            found["discriminator_true"] = flops(critic, xrays, ct).true
    return found


def summary(model: Model) -> dict[str, Any]:
    """The counts of the net as it is built, what paper or code state, and the counts of the net that they mean."""
    said = dict(model.stated_counts)
    options = said.pop("options", {})
    row: dict[str, Any] = {"built": counts(model)}
    if said:
        row["stated"] = said
    if options:
        row["as_stated"] = counts(model, **options)
    return row
