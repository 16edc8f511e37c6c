"""What is special to PSR, SIT, E2E, BX2S-Net and EAR: their counts, their blocks' laws, their wiring."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from raylift.blocks.attention import CBAM
from raylift.blocks.lifts import expand_views, replicate
from raylift.errors import BadInput
from raylift.geometry import parallel_beam, shadow
from raylift.losses import edge, soft_edges
from raylift.models import get
from raylift.models.bx2s import FFAG, BX2SNet
from raylift.models.counts import counts
from raylift.models.e2e import E2E, E2ESmall, widen
from raylift.models.ear import EAM, EAR, FEM, GatedConvolution, expand_turned
from raylift.models.psr import PSR
from raylift.models.sit import SIT
from raylift.types import Grid, View


def drawn(net: nn.Module, seed: int = 0) -> nn.Module:
    """The net with weights that let a signal through (He), ready for use."""
    torch.manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    return net.eval()


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
        ("ear", {}, 5.7, 52.3, 57.8),
        ("ear-baseline", {}, 4.5, 23.3, 28.8),
        ("ear-baseline", {"shortcuts": "plain"}, 5.1, 26.7, 32.2),
        ("ear-abs", {}, 5.1, 26.9, 32.4),
        ("ear-abs-fem", {}, 5.7, 36.6, 42.1),
        ("ear", {"widths": (8, 16, 32, 64, 128)}, 1.4, 13.6, 14.9),
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


def test_each_part_of_ear_adds_parameters():
    grown = [counts(get(name))["parameters"] for name in ("ear-baseline", "ear-abs", "ear-abs-fem", "ear")]
    assert grown == sorted(set(grown))
    assert counts(get("ear-eam"))["parameters"] > grown[0]


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


# nets of convolutions alone move with their X-rays --------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "stride"),
    [
        (PSR(inputs=2, size=64, width=1 / 16, steps=2), 4),
        (SIT(inputs=2, size=96, width=4, pools=1), 2),
        (E2E(size=64, width=4, levels=3), 4),
        (E2E(size=64, width=4, levels=3, skips=False), 4),
        (E2ESmall(size=64, width=4, levels=3), 4),
        (BX2SNet(size=64, widths=(4, 4, 8), ffag=False), 4),
        (EAR(size=64, widths=(4, 8), shortcuts="none", fem=False, eam=False), 4),
        (EAR(size=64, widths=(4, 8), shortcuts="plain", fem=False, eam=False), 4),
    ],
    ids=["psr", "sit", "e2e", "e2e-no-skips", "e2e-small", "bx2s-no-ffag", "ear-baseline", "ear-plain"],
)
def test_a_shift_by_the_total_stride_moves_the_interior(net, stride):
    drawn(net)
    size = 96 if isinstance(net, SIT) else 64
    xrays = torch.rand(1, 2, size, size)
    with torch.no_grad():
        before = net(xrays)["ct"]
        after = net(xrays.roll(stride, 2))["ct"]
    centre = slice(size // 2 - 2, size // 2 + 2)
    moved = before.roll(stride, 2)[:, :, centre]
    assert moved.std() > 1e-3
    assert_close(after[:, :, centre], moved, atol=1e-4 * float(moved.abs().max()), rtol=1e-4)
    assert not torch.allclose(after[:, :, centre], before[:, :, centre], rtol=1e-2)


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


# EAR ------------------------------------------------------------------------------------------------------------


def test_fem_with_filters_that_do_nothing_gives_the_normed_volume():
    fem = FEM(3, kernel=3).eval()
    for conv in (fem.real, fem.imaginary):
        nn.init.dirac_(conv.weight)
    for shape in ((8, 8, 8), (6, 5, 7)):
        x = torch.randn(2, 3, *shape)
        assert_close(fem.enhance(x), fem.norm(x), atol=1e-5, rtol=1e-4)


def test_fem_with_a_gain_for_each_frequency_moves_with_a_cyclic_shift():
    x = torch.randn(1, 4, 8, 8, 8)
    moved = x.roll((3, 1, 2), (2, 3, 4))

    def agree(kernel: int) -> bool:
        fem = drawn(FEM(4, kernel))
        fem.imaginary.load_state_dict(fem.real.state_dict())  # one real gain a frequency: a symmetric filter
        out = fem.enhance(x)
        assert out.dtype == torch.float32 and not out.is_complex()
        return torch.allclose(fem.enhance(moved), out.roll((3, 1, 2), (2, 3, 4)), atol=1e-4)

    assert agree(1)
    assert not agree(3)  # neighbouring frequencies: a window that depends on the place


def test_fem_keeps_float32_under_mixed_precision():
    fem = drawn(FEM(4))
    x = torch.randn(1, 4, 8, 8, 8) * 100
    exact = fem.enhance(x)
    with torch.autocast("cpu", torch.bfloat16):
        inside = fem.enhance(x)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, exact)


def test_gate_leaves_between_once_and_twice_the_feature():
    gate = drawn(GatedConvolution(4))
    x = torch.rand(2, 4, 6, 6, 6) + 0.1
    out = gate(x, torch.randn_like(x))
    assert (out >= x).all() and (out <= 2 * x).all()


def test_eam_draws_one_map_at_the_finest_of_its_resolutions():
    maps = [torch.randn(2, w, *[16 >> k] * 3, requires_grad=True) for k, w in enumerate((4, 8, 16))]
    edges = drawn(EAM((4, 8, 16)))(maps)
    assert edges.shape == (2, 1, 16, 16, 16)
    assert edges.min() >= 0 and edges.max() <= 1
    assert all(g.abs().max() > 0 for g in torch.autograd.grad(edges.sum(), maps))


def test_abs_can_only_weaken_a_shortcut():
    x = torch.randn(2, 16, 6, 6, 6)
    out = drawn(CBAM(16, dims=3, reduction=8))(x)
    assert out.shape == x.shape
    assert (out.abs() <= x.abs()).all() and (out * x >= 0).all()


def test_only_a_net_with_eam_tells_its_edges():
    xrays = torch.rand(1, 2, 32, 32)
    for name in ("ear", "ear-baseline", "ear-abs", "ear-abs-fem", "ear-eam"):
        model = get(name)
        out = model.build_tiny(torch.Generator().manual_seed(0)).eval()(xrays)
        assert ("edge_map" in out) == model.options["eam"]
        if "edge_map" in out:
            assert out["edge_map"].shape == out["ct"].shape


@pytest.mark.parametrize(
    "options",
    [
        {"first_stride": 1},
        {"eam_use": "gate"},
        {"eam_levels": (2, 3)},
        {"eam_levels": ()},
        {"fem_kernel": 1},
        {"shortcuts": "plain"},
        {"rotate_expand": True, "view_angle_deg": 60.0},
    ],
    ids=str,
)
def test_ears_options_change_the_answer(options):
    model = get("ear")
    xrays = torch.rand(1, 2, 32, 32)
    plain, other = (model.build(torch.Generator().manual_seed(0), **{**model.tiny, **o}) for o in ({}, options))
    assert other(xrays)["ct"].shape == (1, 1, 32, 32, 32)
    assert not torch.allclose(plain(xrays)["ct"], other(xrays)["ct"], atol=1e-4)


def test_settings_reach_ears_switches():
    model = get("ear-eam").with_settings({"net.shortcuts": "abs", "net.eam_levels": "2,3,4", "view_angle_deg": "60"})
    assert model.options["shortcuts"] == "abs"
    net = replace(model, options={**model.options, **model.tiny}).build(torch.Generator().manual_seed(0))
    assert net.eam_levels == (2, 3, 4)
    assert net(torch.rand(1, 2, 32, 32))["ct"].shape == (1, 1, 32, 32, 32)


def test_a_view_that_is_not_turned_is_plainly_repeated():
    xrays = torch.rand(2, 1, 8, 8)
    assert_close(expand_turned(xrays, 0.0), replicate(xrays, View.PA, 8))
    told, plain = EAR(size=32, rotate_expand=True, widths=(4, 8)), EAR(size=32, widths=(4, 8))
    assert torch.equal(told._expand(torch.ones(1, 2, 32, 32)), plain._expand(torch.ones(1, 2, 32, 32)))
    assert_close(plain._expand(xrays.expand(2, 2, 8, 8)), expand_views(xrays.expand(2, 2, 8, 8), (View.PA, View.LAT)))


@pytest.mark.parametrize("angle_deg", [60.0, 80.0, 110.0, 140.0])
def test_a_turned_view_is_repeated_along_the_rays_of_its_beam(angle_deg):
    """An X-ray whose value is its column gives each voxel the column where the beam sees it."""
    size, turn = 16, 90 - angle_deg
    xray = torch.arange(float(size)).expand(1, 1, size, size).contiguous()
    expanded = expand_turned(xray, turn)[0, 0].numpy()
    beam = parallel_beam(View.PA, detector_mm=size, pixels=size, primary_deg=turn)
    grid = Grid.canonical((size,) * 3, 1.0)
    seen = shadow(beam, grid.world(np.stack(np.indices(grid.shape), -1)))
    inside = (seen[..., 1] >= 0) & (seen[..., 1] <= size - 1)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(expanded[inside], seen[..., 1][inside], atol=1e-4)
    outside = (seen[..., 1] < -1) | (seen[..., 1] > size)
    assert (expanded[outside] == 0).all()


def test_the_edge_loss_can_judge_the_attention_map():
    """Least where the map is the truth's own edges, and its gradient reaches EAM without the volume's head."""
    truth = torch.rand(1, 1, 32, 32, 32)
    edges = soft_edges(truth)
    best = edge(edges, truth, on="map")
    assert best < edge(edges * 0.9, truth, on="map") and best < edge((edges * 1.1).clamp_max(0.99), truth, on="map")
    assert best == edge(truth, truth)
    net = get("ear").build_tiny(torch.Generator().manual_seed(0))
    edge(net(torch.rand(1, 2, 32, 32))["edge_map"], truth, on="map").backward()
    assert net.eam.draw.weight.grad.abs().max() > 0
    assert net.head.weight.grad is None


def test_ears_losses_come_one_by_one():
    rows = [get(f"ear{tail}").recipe.losses for tail in ("-loss-rec", "-loss-rec-edge", "-loss-rec-edge-freq", "")]
    assert [list(r) for r in rows] == [["l1", "edge", "frequency", "mip"][:n] for n in (1, 2, 3, 4)]
    assert rows[-1] == {"l1": 1.0, "edge": 0.1, "frequency": 0.1, "mip": 0.1}  # 4.4
    assert len({str(get(f"ear{tail}").options) for tail in ("-loss-rec", "-loss-rec-edge", "")}) == 1


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
        lambda: EAR(size=48),
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
        (lambda: EAR(shortcuts="plan"), "did you mean 'plain'"),
        (lambda: EAR(eam_use="gated"), "did you mean 'gate'"),
    ],
)
def test_a_wrong_option_is_answered(build, text):
    with pytest.raises(BadInput, match=text):
        build()
