"""Blocks: lifts follow their rays, gates are gates, decoders and discriminators have the sizes that they say."""

import copy
from math import sqrt

import pytest
import torch
from torch import nn

from raylift.blocks.attention import CBAM, ECA, eca_kernel
from raylift.blocks.branch import XrayBranch
from raylift.blocks.decoders3d import DecoderLevel, convs_per_level, decoder_levels
from raylift.blocks.discriminators import CoordConv3d, PatchD3D, coordinates
from raylift.blocks.encoders2d import DenseEncoder, residual_stage
from raylift.blocks.fusion import OctaveExchange
from raylift.blocks.init import channels_last, draw_weights
from raylift.blocks.lifts import (
    FullyConnectedLift,
    RepeatLift,
    expand_views,
    from_ray_axes,
    replicate,
    to_ray_axes,
)
from raylift.blocks.narrow import NarrowConv3d, narrow_in_float32
from raylift.types import View

VIEWS = (View.PA, View.AP, View.LAT, View.RLAT)
SUMMED = {"frontal": 1, "lateral": 2}  # the axis of D H W along which the view's rays run


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("view", VIEWS)
def test_replicating_is_the_adjoint_of_summing_along_the_rays(view):
    picture, volume = rand(5, 5).double(), rand(5, 5, 5).double() - 0.5
    torch.testing.assert_close(
        (replicate(picture, view, 5) * volume).sum(), (picture * volume.sum(SUMMED[view.axis])).sum()
    )


def test_a_pixel_becomes_its_ray():
    """PA: row 1, column 3 is D 1, W 3 at every H; LAT: row 1, column 3 is D 1, H 3 at every W."""
    picture = torch.zeros(4, 4)
    picture[1, 3] = 1
    frontal, lateral = replicate(picture, View.PA, 4), replicate(picture, View.LAT, 4)
    assert frontal[1, :, 3].eq(1).all() and frontal.sum() == 4
    assert lateral[1, 3, :].eq(1).all() and lateral.sum() == 4


def test_a_marker_is_brightest_where_its_rays_cross():
    ct = torch.zeros(1, 1, 6, 6, 6)
    ct[0, 0, 1, 4, 2] = 1
    xrays = torch.cat([ct.sum(3), ct.sum(4)], 1)
    lifted = expand_views(xrays, (View.PA, View.LAT)).sum(1)[0]
    assert lifted[1, 4, 2] == 2
    assert (lifted == 2).sum() == 1


def test_what_two_views_saw_meets_where_their_rays_cross():
    """The lifts of a marked and of an unmarked X-ray differ along the mark's rays, most where both views' rays run."""
    torch.manual_seed(0)
    apart = []
    for view, column in ((View.PA, 3), (View.LAT, 11)):
        branch = XrayBranch(view, size=16, layers=(1,), width=4, growth=4, widths=(4, 4)).eval()
        xray = torch.zeros(1, 1, 16, 16)
        marked = xray.clone()
        marked[..., 8:10, column : column + 2] = 1
        apart.append((branch.lift(marked)[0] - branch.lift(xray)[0]).abs().sum((0, 1)))
    both = (apart[0] * apart[1])[1:-1, 1:-1, 1:-1]
    d, h, w = (int(i) + 1 for i in torch.unravel_index(both.argmax(), both.shape))
    assert abs(d - 8.5) < 3 and abs(h - 11.5) < 3 and abs(w - 3.5) < 3


@pytest.mark.parametrize("view", VIEWS)
def test_ray_axes_and_back(view):
    volume = rand(2, 3, 4, 5, 6)
    seen = to_ray_axes(volume, view)
    assert torch.equal(from_ray_axes(seen, view), volume)
    along = volume.shape[2:][SUMMED[view.axis]]
    assert seen.shape[2] == along
    torch.testing.assert_close(seen.sum(2), volume.sum(2 + SUMMED[view.axis]))  # rows down, columns to the right


@pytest.mark.parametrize("view", (View.PA, View.LAT))
def test_a_lift_moves_with_its_rows_and_spreads_along_its_rays(view):
    lift = RepeatLift(3, 2, view).eval()
    picture = torch.zeros(1, 3, 12, 12)
    picture[..., 4:6, 4:7] = rand(1, 3, 2, 3)
    still, moved = lift(picture), lift(picture.roll(3, dims=-2))
    torch.testing.assert_close(moved[:, :, 4:-1], still.roll(3, dims=2)[:, :, 4:-1], atol=1e-5, rtol=1e-4)
    inner = still.movedim(2 + SUMMED[view.axis], 2)[:, :, 1:-1]  # but for the padding at both ends
    torch.testing.assert_close(inner, inner[:, :, :1].expand_as(inner), atol=1e-5, rtol=1e-4)
    assert still.std() > 0


def test_the_fully_connected_lift_has_the_shape_that_it_says():
    assert FullyConnectedLift(5, 4, 2)(rand(3, 5, 7, 7)).shape == (3, 4, 2, 2, 2)


def test_the_dense_encoder_halves_and_says_its_channels():
    encoder = DenseEncoder((2, 1, 1), width=8, growth=4)
    maps = encoder(rand(2, 1, 32, 32))
    assert [m.shape[1] for m in maps] == encoder.channels == [8, 8, 6, 10]
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4]


def test_an_enhancement_replaces_its_map_and_reaches_the_deeper_ones():
    encoder = DenseEncoder((1, 1), width=8, growth=4)
    xray = rand(1, 1, 16, 16)
    plain, enhanced = encoder(xray), encoder(xray, {1: torch.zeros_like})
    assert torch.equal(plain[0], enhanced[0])
    assert (enhanced[1] == 0).all()
    assert not torch.equal(plain[2], enhanced[2])


def test_a_residual_stage_halves_once():
    assert residual_stage(4, 8, 3, stride=2)(rand(2, 4, 16, 16)).shape == (2, 8, 8, 8)


@pytest.mark.parametrize("dims", (2, 3))
def test_attention_only_weakens(dims):
    x = rand(2, 32, *[6] * dims)
    for gate in (CBAM(32, dims=dims, reduction=8), ECA(32)):
        out = gate(x)
        assert out.shape == x.shape
        assert (out < x).all() and (out > 0).all()
    assert (ECA(32, "add")(x) > x).all()


def test_eca_gates_whole_channels():
    x = rand(1, 64, 5, 5)
    ratio = ECA(64)(x) / x
    torch.testing.assert_close(ratio, ratio[..., :1, :1].expand_as(ratio))
    assert eca_kernel(512) == 5


def test_an_exchange_tells_each_what_the_other_saw():
    exchange = OctaveExchange(4, 8)
    fine, coarse = rand(1, 4, 8, 8, 8), rand(1, 8, 4, 4, 4)
    first = exchange(fine, coarse)
    assert first[0].shape == fine.shape and first[1].shape == coarse.shape
    assert not torch.equal(exchange(fine, coarse + 1)[0], first[0])
    assert not torch.equal(exchange(fine + 1, coarse)[1], first[1])


def test_decoder_levels_chain_from_the_deepest_up():
    levels = decoder_levels((2, 4, 8), convs_per_level(3, 2))
    assert convs_per_level(6, 2) == (1, 2, 2, 2, 2, 0)  # X2CT-GAN's
    assert [len(level.refine) for level in levels] == [1, 2, 0]
    x = levels[2].rise(rand(1, 8, 2, 2, 2))
    assert x.shape == (1, 4, 4, 4, 4)
    x = levels[1].rise(levels[1].join(x, x))
    assert x.shape == (1, 2, 8, 8, 8)
    assert levels[0].rise(levels[0].join(x, x)).shape == (1, 2, 8, 8, 8)


def test_a_level_tells_its_two_inputs_apart():
    level = DecoderLevel(2, None, convs=0)
    a, b = rand(2, 1, 2, 4, 4, 4)
    assert not torch.allclose(level.join(a, b), level.join(b, a))


@pytest.mark.parametrize("coord", ("none", "first", "all"))
def test_the_discriminator_sees_both_the_xrays_and_the_ct(coord):
    critic = PatchD3D((View.PA, View.LAT), coord=coord, width=4)
    xrays, ct = rand(2, 2, 32, 32), rand(2, 1, 32, 32, 32)
    seen = critic(xrays, ct)
    assert seen.shape == (2, 1, 7, 7, 7)
    assert not torch.equal(seen, critic(xrays.flip(1), ct))
    assert not torch.equal(seen, critic(xrays, 1 - ct))


def test_the_discriminators_of_the_papers_have_their_parameters():
    def count(**options) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in PatchD3D(**options).parameters())

    both = (View.PA, View.LAT)
    assert count(views=both) == 11_055_169  # X2CT-GAN
    assert count(views=(View.PA,)) == 11_051_073  # X2CT-GAN, one view
    assert count(views=both, coord="first") == 11_067_457  # X-Recon


def test_the_map_of_the_discriminator_at_paper_size():
    with torch.device("meta"):
        critic = PatchD3D((View.PA, View.LAT))
        assert critic(torch.empty(1, 2, 128, 128), torch.empty(1, 1, 128, 128, 128)).shape[2:] == (19, 19, 19)


def test_coordinates_run_from_the_first_voxel_to_the_last():
    where = coordinates(rand(2, 1, 3, 4, 5))
    assert where.shape == (2, 3, 3, 4, 5)
    for axis in range(3):
        assert where[:, axis].select(axis + 1, 0).eq(-1).all() and where[:, axis].select(axis + 1, -1).eq(1).all()
    assert CoordConv3d(1, 2, 3)(rand(2, 1, 3, 4, 5)).shape == (2, 2, 1, 2, 3)


def test_weights_are_drawn_as_named():
    conv = nn.Conv3d(8, 16, 4)
    draw_weights(conv, "normal", torch.Generator().manual_seed(0))
    assert conv.weight.std().item() == pytest.approx(0.02, rel=0.05) and (conv.bias == 0).all()
    draw_weights(conv, "he", torch.Generator().manual_seed(0))
    assert conv.weight.std().item() == pytest.approx(sqrt(2 / (64 * 16)), rel=0.05)
    with pytest.raises(ValueError, match="uniform"):
        draw_weights(conv, "uniform")


def test_another_layout_is_the_same_net():
    net = nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.ReLU(), nn.ConvTranspose3d(8, 4, 4, stride=2, padding=1))
    x = rand(1, 4, 6, 6, 6)
    plain = net(x)
    laid = channels_last(net)(x)
    assert laid.is_contiguous(memory_format=torch.channels_last_3d) and not laid.is_contiguous()
    torch.testing.assert_close(laid, plain, atol=1e-5, rtol=1e-4)


def test_a_volume_narrower_than_its_kernel_trains_right_in_bf16():
    net, x = nn.Conv3d(4, 4, 5, padding=2), rand(1, 4, 4, 4, 4)
    net(x).square().mean().backward()
    wanted = net.weight.grad.clone()
    narrow_in_float32(net).zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        found = net(x)
        assert found.dtype == torch.float32 and net(rand(1, 4, 5, 5, 5)).dtype == torch.bfloat16
        assert net.eval()(x).dtype == torch.bfloat16
    found.square().mean().backward()
    torch.testing.assert_close(net.weight.grad, wanted)
    assert type(copy.deepcopy(net)) is NarrowConv3d and list(net.state_dict()) == ["weight", "bias"]
