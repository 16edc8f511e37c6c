"""Quick layers answer what the plain ones answer: every net, each layer, and where a gradient is wanted."""

import copy

import pytest
import torch
from torch import nn

from raylift import models
from raylift.blocks import quick as layers
from raylift.blocks.decoders3d import conv_norm_relu, head, up_norm_relu
from raylift.blocks.lifts import RepeatLift
from raylift.models.quick import quick
from raylift.types import View

NETS = ["x2ct-gan", "x2ct-gan-single", "x2ct-cnn", "3dsrnet", "x-recon", "cvaa-gan", "ear", "e2e"]


def volume(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) + 3


@pytest.mark.parametrize("name", NETS)
def test_a_quick_net_answers_what_the_plain_one_answers(name):
    model, generator = models.get(name), torch.Generator().manual_seed(0)
    plain = model.build_tiny(generator).eval()
    xrays = torch.rand(2, len(model.views), model.tiny_size, model.tiny_size, generator=generator)
    with torch.no_grad():
        wanted, found = plain(xrays)["ct"], quick(copy.deepcopy(plain))(xrays)["ct"]
    assert wanted.std() > 0 and found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max().clamp_min(1)))


@pytest.mark.parametrize("plain", [conv_norm_relu(3, 20), up_norm_relu(3, 5), head(3), head(3, 5)])
def test_a_quick_layer_answers_what_the_plain_one_answers(plain):
    x = volume(2, 3, 6, 7, 9)
    swift = layers.quick_layers(nn.Sequential(copy.deepcopy(plain)))
    assert any(isinstance(module, layers.QuickBlock | layers.QuickHead) for module in swift.modules())
    with torch.no_grad():
        torch.testing.assert_close(swift(x), plain(x), rtol=1e-5, atol=1e-4)


def test_what_a_quick_layer_cannot_do_stays_as_it_is():
    for kept in (
        nn.Conv3d(4, 1, 3, padding=1),
        nn.Conv3d(4, 1, 7),
        nn.Conv3d(4, 1, 7, padding=3, stride=2),
        nn.Sequential(nn.Conv3d(4, 4, 3, groups=2), nn.InstanceNorm3d(4), nn.ReLU()),
        nn.Sequential(nn.Conv3d(4, 4, 3), nn.InstanceNorm3d(4, affine=True), nn.ReLU()),
        nn.Sequential(nn.Conv3d(4, 4, 3), nn.BatchNorm3d(4), nn.ReLU()),
    ):
        net = layers.quick_layers(nn.Sequential(kept))
        assert net[0] is kept and not any(type(m).__module__ == layers.__name__ for m in net.modules())


@pytest.mark.parametrize("view", [View.PA, View.LAT])
def test_three_slices_along_the_rays_are_all_that_a_lift_makes(view):
    lift = RepeatLift(3, 4, view).eval()
    picture = volume(2, 3, 8, 8)
    dim = layers.RAY_DIM[view.axis] % 5
    with torch.no_grad():
        whole, short = lift(picture), layers.QuickLift(lift)(picture)
    assert short.shape[dim] == 3
    every = torch.tensor([0, *[1] * 6, 2])
    torch.testing.assert_close(short.index_select(dim, every), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 30.0, -1000.0])
def test_the_norm_is_that_of_torch_even_far_from_zero(offset):
    x = volume(2, 5, 20, 21, 22) + offset
    wanted = nn.InstanceNorm3d(5)(x.double()).relu().float()
    found = layers.norm_relu_(layers.channels_last(x.clone()), 1e-5)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 if abs(offset) < 100 else 0.05)


def test_a_constant_volume_gives_zeros():
    assert not layers.norm_relu_(layers.channels_last(torch.full((1, 3, 4, 4, 4), 7.0)), 1e-5).any()


def test_where_a_gradient_is_wanted_the_plain_layers_run():
    model = models.get("x2ct-gan")
    net = quick(model.build_tiny(torch.Generator().manual_seed(0)))
    net(torch.rand(1, 2, model.tiny_size, model.tiny_size))["ct"].sum().backward()
    assert all(p.grad is not None for p in net.main.parameters())
