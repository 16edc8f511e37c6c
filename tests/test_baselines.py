"""The nets that the papers compare with (PSR, SIT, E2E, BX2S-Net): their counts, their blocks' laws, their wiring."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from drawn import drawn
from raylift.errors import BadInput
from raylift.models import get
from raylift.models.bx2s import FFAG, BX2SNet
from raylift.models.counts import counts
from raylift.models.e2e import E2E, E2ESmall, widen
from raylift.models.psr import PSR
from raylift.models.sit import SIT

# counts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("reconnet", {}, 588_591_424),
        ("psr", {"width": 0.25}, 36_802_384),
        ("sit", {}, 9_068_480),
        ("bx2s-net", {"classes": 2}, 1_814_934),
        ("bx2s-net-no-ffag", {"classes": 2}, 1_118_254),
    ],
)
def test_parameters_are_those_of_the_released_code(name, options, parameters):
    assert counts(get(name), **options)["parameters"] == parameters


@pytest.mark.parametrize(
    ("name", "options", "millions", "true", "thop"),  # at the digits that were printed
    [
        ("psr", {}, 588.6, 371.9, 1303.9),
        ("sit", {}, 9.1, 26.0, 26.1),
        ("e2e-small", {}, 1.4, 3.3, 7.1),
        ("bx2s-net", {"classes": 2}, 1.8, 44.1, 47.6),
    ],
)
def test_costs_at_paper_size(name, options, millions, true, thop):
    cost = counts(get(name), **options)
    found = [round(cost[key] / unit, 1) for key, unit in (("parameters", 1e6), ("true", 1e9), ("thop", 1e9))]
    assert found == [millions, true, thop]


def test_the_papers_operations_and_how_they_were_counted():
    assert counts(get("psr"))["thop"] == pytest.approx(get("psr").stated_counts["thop_printed"], rel=4e-4)
    ete = counts(get("ete"))
    assert 2 * ete["true"] == pytest.approx(208.175e9, rel=0.011)  # 3DSRNet Table I, only under this rule
    assert ete["x2"] > 1.1 * 208.175e9


# the planar nets ------------------------------------------------------------------------------------------------


def answer_planes(layer, inputs, out):
    """A forward hook: plane k holds the value k."""
    return torch.arange(out.shape[1], dtype=out.dtype)[None, :, None, None].expand_as(out)


@pytest.mark.parametrize("net", [PSR(size=16, width=1 / 64, steps=2), SIT(size=16, width=4, pools=2)])
def test_planes_lie_along_the_frontal_rays(net):
    net.planes.register_forward_hook(answer_planes)
    ct = net.eval()(torch.rand(1, 1, 16, 16))["ct"]
    assert_close(ct, torch.arange(16.0)[:, None].expand(1, 1, 16, 16, 16))  # the value is the index along H


def test_psr_rows_stay_rows_and_columns_columns():
    """A bright row of the X-ray changes rows near it and none far off; a column likewise."""
    net = drawn(PSR(size=64, width=1 / 16, steps=1))
    plain = torch.zeros(1, 1, 64, 64)
    for dim, axis in ((2, 2), (3, 4)):
        marked = plain.clone()
        marked.narrow(dim, 8, 2).fill_(1.0)
        change = (net(marked)["ct"] - net(plain)["ct"]).abs().sum([d for d in range(5) if d != axis])
        assert change[4:14].max() > 0
        assert change[40:].max() == 0


def test_psrs_reshape_alternates_planes():
    """Channel 2c + d of the deepest map becomes channel c of plane d."""
    net, seen = drawn(PSR(size=16, width=1 / 64, steps=2)), {}
    net.mix_2d.register_forward_hook(lambda layer, inputs, out: seen.update(maps=out))
    net.mix_3d.register_forward_hook(lambda layer, inputs, out: seen.update(volume=inputs[0]))
    net(torch.rand(1, 1, 16, 16))
    assert seen["volume"].shape == (1, 4, 2, 4, 4)
    for c in range(4):
        for d in range(2):
            assert torch.equal(seen["volume"][0, c, d], seen["maps"][0, 2 * c + d])


# E2E ------------------------------------------------------------------------------------------------------------


def test_widen_repeats_channels():
    x = torch.rand(2, 3, 2, 2, 2)
    wide = widen(x, 6)
    assert wide.shape[1] == 6
    assert_close(wide[:, 3:], x)


def test_e2e_sees_the_full_resolution_through_its_skips_only():
    """Without skips nothing finer than two voxels passes the maxima; with them each voxel counts."""
    for skips, differs in ((True, True), (False, False)):
        net = drawn(E2E(size=16, width=4, levels=2, skips=skips))
        for parameter in net.downs[0].parameters():
            nn.init.zeros_(parameter)  # level 1 is the identity: its maximum is the X-rays' own
        torch.manual_seed(1)
        xrays = torch.zeros(1, 2, 16, 16)
        xrays[:, :, 4, 4] = 1.0
        shifted = torch.zeros(1, 2, 16, 16)
        shifted[:, :, 5, 5] = 1.0  # in the same cell of 2 x 2
        same = torch.allclose(net(xrays)["ct"], net(shifted)["ct"])
        assert same is not differs


def test_3dcnn_never_answers_below_zero():
    model = get("3dcnn")
    xrays = torch.rand(2, 2, model.tiny_size, model.tiny_size)
    ct = model.build_tiny(torch.Generator().manual_seed(0))(xrays)["ct"]
    assert ct.min() >= 0
    assert (ct > 0).any()


# BX2S-Net -------------------------------------------------------------------------------------------------------


def test_bx2s_does_not_see_an_xrays_gain_or_offset():
    net = drawn(BX2SNet(size=16, widths=(4, 4, 8)))
    xrays = torch.rand(1, 2, 16, 16)
    gain, offset = torch.tensor([3.0, 0.5])[:, None, None], torch.tensor([-1.0, 2.0])[:, None, None]
    assert_close(net(xrays * gain + offset)["ct"], net(xrays)["ct"], atol=1e-4, rtol=1e-4)
    assert torch.isfinite(net(torch.zeros(1, 2, 16, 16))["ct"]).all()


def test_ffag_joins_all_scales_at_any_level():
    scales = (3, 6, 9)
    maps = [torch.rand(2, w, *[16 >> k] * 3, requires_grad=True) for k, w in enumerate(scales)]
    for level in range(3):
        block = drawn(FFAG(scales, level))
        out = block(maps, torch.rand(2, scales[level], *[16 >> level] * 3))
        assert out.shape == (2, scales[level], *[16 >> level] * 3)
        grads = torch.autograd.grad(out.sum(), maps)
        assert all(g.abs().max() > 0 for g in grads)


def test_bx2s_with_two_classes_answers_with_one_volume():
    net = BX2SNet(size=16, widths=(4, 4, 8), classes=2).eval()
    assert net(torch.rand(1, 2, 16, 16))["ct"].shape == (1, 1, 16, 16, 16)


# what cannot be built -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda: PSR(size=48),
        lambda: SIT(size=20, pools=4),
        lambda: E2E(size=20),
        lambda: E2ESmall(size=20),
        lambda: BX2SNet(size=20),
        lambda: BX2SNet(size=16, widths=(4, 6, 7, 8)),
    ],
)
def test_a_size_that_does_not_halve_is_bad_input(build):
    with pytest.raises(BadInput, match=r"halve|divides"):
        build()


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: PSR(width=1 / 128), "1/64 is the least"),
        (lambda: E2E(width=3), "no multiple of 2 views"),
        (lambda: E2E(norm="instanc"), "did you mean 'instance'"),
        (lambda: E2E(activation="relus"), "did you mean 'relu'"),
    ],
)
def test_a_wrong_option_is_answered(build, text):
    with pytest.raises(BadInput, match=text):
        build()
