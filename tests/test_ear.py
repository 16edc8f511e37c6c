"""EAR: its counts, its blocks' laws, its options, its losses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from drawn import drawn
from raylift.blocks.attention import CBAM
from raylift.blocks.eam import EAM, GatedConvolution
from raylift.blocks.fem import FEM
from raylift.blocks.lifts import expand_turned, expand_views, replicate
from raylift.errors import BadInput
from raylift.geometry import parallel_beam, shadow
from raylift.losses import edge, soft_edges
from raylift.models import get
from raylift.models.counts import counts
from raylift.models.ear import EAR
from raylift.types import Grid, View


@pytest.mark.parametrize(
    ("name", "options", "millions", "true", "thop"),  # at the digits that were printed
    [
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


def test_each_part_of_ear_adds_parameters():
    grown = [counts(get(name))["parameters"] for name in ("ear-baseline", "ear-abs", "ear-abs-fem", "ear")]
    assert grown == sorted(set(grown))
    assert counts(get("ear-eam"))["parameters"] > grown[0]


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


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: EAR(size=48), "halve"),
        (lambda: EAR(shortcuts="plan"), "did you mean 'plain'"),
        (lambda: EAR(eam_use="gated"), "did you mean 'gate'"),
    ],
)
def test_a_wrong_option_is_answered(build, text):
    with pytest.raises(BadInput, match=text):
        build()
