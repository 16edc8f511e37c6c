"""Nets of convolutions alone move with their X-rays' rows, by their total stride, wherever no border is seen."""

import pytest
import torch
from torch import Tensor, nn

from raylift.blocks.attention import CBAM, ECA
from raylift.blocks.fem import FEM
from raylift.blocks.lifts import FullyConnectedLift
from raylift.errors import BadInput
from raylift.models import MODELS, bx2s
from raylift.models.spec import Model

# what sees the whole picture, and so cannot move with a part of it
FIXED = {
    FullyConnectedLift: "fully connected",
    CBAM: "attention to the whole picture",
    ECA: "attention to the whole picture",
    bx2s.FFAG: "attention to the whole volume",
    FEM: "a Fourier transform of the whole volume",
}
# fewer levels than the tiny copy has, so that the middle of a small volume sees no border
SHALLOW = {
    "cvaa-gan": {"layers": (1,), "width": 3, "growth": 2, "widths": (2, 2), "vaa_kernel": 3},
    "sit": {"pools": 1},
    "xctnet": {"blocks": (1,)},
}
SIZES = (48, 64, 96)


def plain_nets() -> list[str]:
    """One name for each different net that is not told the geometry."""
    found = {
        repr((m.net, m.views, {**m.options, **m.tiny})): name
        for name, m in reversed(MODELS.items())
        if m.recipe is not None and not m.told_geometry
    }
    return sorted(found.values())


def reason(net: nn.Module) -> str | None:
    """Why the net cannot move with its X-rays, where it cannot."""
    return next((why for kind, why in FIXED.items() for layer in net.modules() if isinstance(layer, kind)), None)


def bare(model: Model, size: int, seed: int) -> nn.Module:
    """The tiny net at this size with weights that let a signal through (He), without norms of the whole picture."""
    shallow = next((options for prefix, options in SHALLOW.items() if model.name.startswith(prefix)), {})
    net = model.build(torch.Generator().manual_seed(seed), **{**model.tiny, **shallow, "size": size}).eval()
    torch.manual_seed(seed)
    for parent in net.modules():
        for name, layer in parent.named_children():
            if isinstance(layer, nn.InstanceNorm2d | nn.InstanceNorm3d):
                setattr(parent, name, nn.Identity())
            elif isinstance(layer, nn.modules.conv._ConvNd):
                nn.init.kaiming_normal_(layer.weight)
    return net


def total_stride(net: nn.Module, xrays: Tensor) -> int:
    """How many of the X-ray's rows the coarsest feature has as one: of its pictures, else of its volumes."""
    rows: dict[int, list[int]] = {4: [xrays.shape[2]], 5: [xrays.shape[2]]}

    def note(layer: nn.Module, inputs: tuple, out: Tensor) -> None:
        if isinstance(out, Tensor) and out.ndim in rows:
            rows[out.ndim].append(out.shape[2])

    hooks = [layer.register_forward_hook(note) for layer in net.modules() if isinstance(layer, nn.modules.conv._ConvNd)]
    with torch.no_grad():
        net(xrays)
    for hook in hooks:
        hook.remove()
    encoder = rows[4] if min(rows[4]) < xrays.shape[2] else rows[5]
    return xrays.shape[2] // min(encoder)


def seen_rows(net: nn.Module, xrays: Tensor) -> Tensor:
    """The X-rays' rows that the middle row of the volume depends on."""
    xrays = xrays.clone().requires_grad_()
    middle = net(xrays)["ct"][:, :, xrays.shape[2] // 2]
    return torch.autograd.grad(middle.sum(), xrays)[0].abs().sum((0, 1, 3)).nonzero().flatten()


def buildable(model: Model, size: int) -> bool:
    """Whether the net has this size."""
    try:
        bare(model, size, 0)
    except BadInput:
        return False
    return True


def with_an_interior(model: Model) -> tuple[nn.Module, Tensor, int]:
    """A net at the least size whose middle row sees no border, before or after the shift; X-rays; its stride."""
    for size in SIZES:
        if not buildable(model, size):
            continue
        xrays = torch.rand(1, len(model.views), size, size, generator=torch.Generator().manual_seed(0))
        for seed in range(4):  # a ReLU at the end may happen to be shut
            net = bare(model, size, seed)
            stride, rows = total_stride(net, xrays), seen_rows(net, xrays)
            if not len(rows):
                continue
            if rows.min() > 0 and rows.max() < size - 1 - stride:
                return net, xrays, stride
            break
    raise AssertionError(f"{model.name}: no interior at any of {SIZES}")


FIRST = {MODELS[name].net: name for name in reversed(plain_nets())}.values()
every_plain_net = pytest.mark.parametrize(  # seconds each: variants of a net wait for `make slow`
    "name", [n if n in FIRST else pytest.param(n, marks=pytest.mark.slow) for n in plain_nets()]
)


@every_plain_net
def test_a_shift_by_the_total_stride_moves_the_interior(name, monkeypatch):
    model = MODELS[name]
    monkeypatch.setattr(bx2s, "standardised", lambda xrays: xrays)  # a norm of the whole picture too
    why = reason(model.build_tiny())
    if why:
        pytest.skip(why)
    net, xrays, stride = with_an_interior(model)
    assert stride > 1
    middle = xrays.shape[2] // 2
    with torch.no_grad():
        before = net(xrays)["ct"][:, :, middle]
        moved = net(xrays.roll(stride, 2))["ct"]
        between = net(xrays.roll(1, 2))["ct"][:, :, middle + 1]
    scale = float(before.abs().max())
    torch.testing.assert_close(moved[:, :, middle + stride], before, atol=1e-4 * scale, rtol=1e-4)
    assert (moved[:, :, middle] - before).abs().max() > 1e-3 * scale
    assert (between - before).abs().max() > 1e-3 * scale  # a smaller shift does not do


def test_every_kind_that_cannot_move_is_some_nets():
    kinds = {type(layer) for name in plain_nets() for layer in MODELS[name].build_tiny().modules()}
    assert set(FIXED) <= kinds
