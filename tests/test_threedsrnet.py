"""3DSRNet's own parts: SRCT looks where it should, SRTE counts what it should, ASPP sees what its rates allow."""

import json
from math import prod
from pathlib import Path

import pytest
import torch
from torch import nn

from raylift.blocks import srct
from raylift.blocks.srct import SRCT, DeformableAttention, places, sample, sine_position
from raylift.blocks.srte import CELL_LEVELS, SRTE, TEM, CellTexture, likeness, quantised, shares
from raylift.errors import BadInput, UnknownName
from raylift.models.counts import parameters
from raylift.models.threedsrnet import ASPP, CODE, MODEL, MODELS
from raylift.types import View

SIDES = [(6, 4, 2), (3, 2, 1)]  # no two alike, so that a wrong axis order is seen


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def identity(layer: nn.Linear) -> None:
    """The layer hands on what it gets."""
    with torch.no_grad():
        layer.weight.copy_(torch.eye(layer.in_features))
        layer.bias.zero_()


def plain_attention(width: int, levels: int, *, points: int = 2) -> DeformableAttention:
    """Deformable attention that looks at its own place on every level, all points weighed alike, and hands on."""
    attention = DeformableAttention(width, levels=levels, points=points)
    identity(attention.value)
    identity(attention.out)
    with torch.no_grad():
        for p in (attention.offset_bias, attention.offset_weight, attention.weigh.weight, attention.weigh.bias):
            p.zero_()
    return attention


def tiny(**options) -> nn.Module:
    """The tiny net with these options."""
    return MODEL.build(torch.Generator().manual_seed(0), **{**MODEL.tiny, **options})


# SRCT


def test_a_deformable_token_without_offset_samples_itself():
    tokens = torch.randn(2, prod(SIDES[0]), 8)
    attention = plain_attention(8, 1)
    torch.testing.assert_close(attention(torch.randn_like(tokens), tokens, SIDES[:1]), tokens)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_offset_along_an_axis_looks_that_far_along_that_axis(axis):
    volume = torch.randn(1, 8, *SIDES[0])
    attention = plain_attention(8, 1)
    with torch.no_grad():
        attention.offset_bias.view(-1, 3)[:, axis] = 1.0
    tokens = volume.flatten(2).mT
    found = attention(tokens, tokens, SIDES[:1]).mT.unflatten(-1, SIDES[0])
    ahead = torch.roll(volume, -1, axis + 2)
    ahead.select(axis + 2, -1).zero_()  # beyond the volume there is nothing
    torch.testing.assert_close(found, ahead)


def test_a_token_finds_its_own_place_on_every_level():
    """What is linear in the place reads the same on a fine and on a coarse level, where neither is cut off."""
    sides = [(16, 8, 12), (8, 4, 6)]
    levels = [places(side, torch.zeros(1)) for side in sides]
    tokens = torch.cat([torch.cat([at, torch.zeros(len(at), 1)], 1) for at in levels])[None]  # N: d, h, w, 0
    found = plain_attention(4, 2)(tokens, tokens, sides)
    inner = ((tokens[..., :3] > 0.2) & (tokens[..., :3] < 0.8)).all(-1)
    assert inner.any()
    torch.testing.assert_close(found[inner], tokens[inner])


def test_sampling_is_trilinear_and_nothing_lies_outside():
    volume = torch.zeros(1, 1, 4, 4, 4)
    volume[0, 0, 1, 2, 3] = 1.0
    at = torch.tensor([[1.5, 2.5, 3.5], [2.0, 2.5, 3.5], [2.0, 2.0, 3.5], [-3.0, 2.5, 3.5]]) / 4
    torch.testing.assert_close(sample(volume, at[None, :, None])[0, 0, :, 0], torch.tensor([1.0, 0.5, 0.25, 0.0]))


def test_first_offsets_differ_between_heads_and_points():
    attention = DeformableAttention(8, levels=3)
    start = attention.offset_bias.view(*attention.shape, 3)
    assert len({tuple(way.tolist()) for way in start[:, 0].flatten(0, 1)}) == 8
    assert start.abs().amax() == 2
    assert start.sum((0, 1, 2)).abs().amax() == 0  # no side is favoured


def test_places_follow_the_order_of_flatten():
    at = places((2, 3, 4), torch.zeros(1)).T.reshape(3, 2, 3, 4)
    torch.testing.assert_close(at[0, :, 1, 2], torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(at[1, 0, :, 2], torch.tensor([1 / 6, 0.5, 5 / 6]))
    torch.testing.assert_close(at[2, 1, 1], torch.tensor([0.125, 0.375, 0.625, 0.875]))


def test_every_place_has_its_own_sines():
    where = sine_position(places((8, 8, 8), torch.zeros(1)), 128)
    assert where.shape == (512, 128)
    assert torch.pdist(where).min() > 0.1
    torch.testing.assert_close(where.square().sum(1), torch.full((512,), 64.0))  # sin^2 + cos^2, 64 times


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_srct_moves_with_its_input_where_it_is_not_told_the_place(axis, monkeypatch):
    monkeypatch.setattr(srct, "sine_position", lambda at, width: torch.zeros(len(at), width))
    net = SRCT((4, 8), depth=1).eval()
    maps = [torch.randn(1, 4, 24, 24, 24), torch.randn(1, 8, 12, 12, 12)]
    moved = [torch.roll(x, shift, axis) for x, shift in zip(maps, (4, 2), strict=True)]
    for before, after, shift, rim in zip(net(maps), net(moved), (4, 2), (10, 5), strict=True):
        inner = (..., *[slice(rim, -rim)] * 3)
        torch.testing.assert_close(torch.roll(before, shift, axis)[inner], after[inner], atol=1e-5, rtol=1e-4)


def test_srct_is_told_the_place():
    net = SRCT((4, 8), depth=1).eval()
    out = net([torch.ones(1, 4, 8, 8, 8), torch.ones(1, 8, 4, 4, 4)])[0]
    inner = out[..., 2:-2, 2:-2, 2:-2].flatten(2)
    assert inner.std(-1).amax() > 1e-3


@pytest.mark.parametrize("attn", ["deformable", "full"])
def test_srct_gives_back_what_it_got_and_every_level_tells_every_other(attn):
    net = SRCT((4, 8, 8), attn=attn).eval()
    maps = [torch.randn(2, c, *[n] * 3, requires_grad=True) for c, n in ((4, 8), (8, 4), (8, 2))]
    out = net(maps)
    assert [x.shape for x in out] == [x.shape for x in maps]
    for x in out:
        assert all(g.abs().sum() > 0 for g in torch.autograd.grad(x.sum(), maps, retain_graph=True))


def test_full_attention_is_the_formula_in_eq_2():
    attention = srct.FullAttention(8, levels=1, heads=1)
    query, tokens = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    q, k, v = attention.query(query), attention.key(query), attention.value(tokens)
    expected = attention.out((q @ k.mT / 8**0.5).softmax(-1) @ v)
    torch.testing.assert_close(attention(query, tokens, [(5, 1, 1)]), expected)


def test_srct_refuses_what_it_cannot_do():
    with pytest.raises(UnknownName, match="did you mean 'deformable'"):
        SRCT((4, 8), attn="deformed")
    with pytest.raises(BadInput, match="4 heads"):
        SRCT((4, 6))


# SRTE


def test_likeness_is_a_cosine():
    x = torch.randn(2, 5, 40) + 1
    like = likeness(x)
    mean = x.mean(-1)
    by_hand = [(x[0, :, p] @ mean[0]) / (x[0, :, p].norm() * mean[0].norm()) for p in range(40)]
    torch.testing.assert_close(like[0], torch.stack(by_hand))
    torch.testing.assert_close(likeness(7 * x), like)
    torch.testing.assert_close(likeness(torch.ones(1, 3, 4)), torch.ones(1, 4))


def test_levels_lie_at_the_bins_centres_and_codes_reach_one_level_far():
    like = torch.linspace(0.2, 1.0, 84)[None]  # no value at a level's edge
    levels, codes = quantised(like, 8)
    torch.testing.assert_close(levels[0], 0.25 + 0.1 * torch.arange(8))
    for p in range(84):
        for n in range(8):
            apart = abs(float(like[0, p] - levels[0, n]))
            assert float(codes[0, p, n]) == pytest.approx(1 - apart if apart < 0.1 else 0.0, abs=1e-6)
    assert ((codes > 0).sum(-1) >= 1).all() and ((codes > 0).sum(-1) <= 2).all()


@pytest.mark.parametrize("x", [torch.randn(2, 8, 4, 6), torch.ones(2, 8, 4, 6), torch.zeros(2, 8, 4, 6)])
def test_shares_sum_to_one_even_where_all_pixels_are_alike(x):
    _, codes = quantised(likeness(x.flatten(2)), 16)
    torch.testing.assert_close(shares(codes.sum(1)).sum(-1), torch.ones(2))
    told = CellTexture(8, 2).pairs(x)
    torch.testing.assert_close(told[:, 2].sum(-1), torch.ones(2))


def test_pairs_count_each_pixel_with_its_lower_right_neighbour():
    x = torch.randn(1, 3, 5, 4)
    told = CellTexture(4, 1).pairs(x)[0]  # level, level, share
    levels, codes = quantised(likeness(x.flatten(2)), CELL_LEVELS)
    codes = codes[0].reshape(5, 4, CELL_LEVELS)
    expected = torch.zeros(CELL_LEVELS, CELL_LEVELS)
    for row in range(4):
        for column in range(3):
            expected += torch.outer(codes[row, column], codes[row + 1, column + 1])
    torch.testing.assert_close(told[2].reshape(CELL_LEVELS, CELL_LEVELS), expected / expected.sum())
    torch.testing.assert_close(told[0].reshape(CELL_LEVELS, CELL_LEVELS)[:, 0], levels[0])
    torch.testing.assert_close(told[1].reshape(CELL_LEVELS, CELL_LEVELS)[0], levels[0])


def test_each_cell_is_counted_in_its_own_place():
    texture = CellTexture(8, 4).eval()
    x = torch.randn(2, 8, 16, 16)
    before = texture(x)
    assert before.shape == (2, 4, 4, 4)
    x[1, :, 4:8, 12:16] = torch.randn(8, 4, 4)  # cell (1, 3) of the second picture
    changed = (texture(x) - before).abs().amax(1) > 1e-6
    assert changed.nonzero().tolist() == [[1, 1, 3]]


def test_tem_knows_no_order_of_the_pixels():
    """Past its 3x3 convolution only counts are left: pixels that change places take their answers with them."""
    tem = TEM(8, levels=16).eval()
    tem.reduce = nn.Sequential(nn.Conv2d(8, 4, 1, bias=False))
    z = torch.randn(1, 8, 6, 6)
    order = torch.randperm(36)
    mixed = z.flatten(2)[..., order].unflatten(-1, (6, 6))
    torch.testing.assert_close(tem(mixed), tem(z).flatten(2)[..., order].unflatten(-1, (6, 6)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("x", [torch.zeros(2, 4, 16, 16), torch.ones(2, 4, 16, 16), torch.rand(2, 4, 16, 16)])
def test_srte_stays_finite_on_a_blank_map(x):
    x = x.clone().requires_grad_()
    out = SRTE([4], 16)([x])
    assert out.shape == x.shape
    out.square().sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()


def test_quantising_is_done_in_float32():
    x = torch.randn(1, 8, 64)
    with torch.autocast("cpu", torch.bfloat16):
        levels, codes = quantised(likeness(x.bfloat16()), 128)
    assert levels.dtype == codes.dtype == torch.float32


# ASPP


@pytest.mark.parametrize("dilations", [(1, 2, 3), (1, 1)])
def test_aspp_on_a_constant_map_is_its_summed_kernels(dilations):
    aspp = ASPP(4, dilations)
    value = torch.randn(1, 4, 1, 1)
    out = aspp(value.expand(1, 4, 9, 9))
    inner = out[..., 3:-3, 3:-3]  # no look from here leaves the map
    v = value.flatten()
    looks = [conv.weight.sum((-2, -1)) @ v + conv.bias for conv in (aspp.pooled, aspp.plain, *aspp.atrous)]
    expected = aspp.join.weight[:, :, 0, 0] @ torch.cat(looks) + aspp.join.bias
    torch.testing.assert_close(inner, expected[None, :, None, None].expand_as(inner), atol=1e-5, rtol=1e-4)


def test_at_the_codes_rates_a_small_map_is_nearly_all_padding():
    aspp = ASPP(4, (6, 12, 18))
    x = torch.randn(1, 4, 8, 8)
    for conv in list(aspp.atrous)[1:]:  # 12 and 18: the middle tap alone
        middle = nn.functional.conv2d(x, conv.weight[:, :, 1:2, 1:2], conv.bias)
        torch.testing.assert_close(conv(x), middle)


# the net


def test_counts_are_those_of_paper_and_code():
    with torch.device("meta"):
        whole, released = MODEL.build(auxiliary_heads=True), MODEL.build(auxiliary_heads=True, srct=False, srte=False)
    assert parameters(whole) == 73_195_123
    assert parameters(released) == 70_656_435
    parts = [parameters(part) for part in (whole.aspp, whole.srct, whole.srte)]
    assert parts == [8_915_968, 1_161_216, 1_377_472]


def test_operations_are_near_those_of_table_i():
    golden = json.loads((Path(__file__).parent / "golden" / "models.json").read_text())["3dsrnet"]
    assert golden["as_stated"]["x2"] == pytest.approx(785.979e9, rel=0.015)
    assert golden["as_stated"]["parameters"] == 73_195_123


def test_with_all_switches_off_it_is_x2ct_gan():
    from raylift.models.x2ct import MODEL as X2CT

    net = tiny(aspp=False, srct=False, srte=False).eval()
    plain = X2CT.build(torch.Generator().manual_seed(1), **X2CT.tiny).eval()
    plain.load_state_dict(net.state_dict())
    xrays = torch.rand(1, 2, 16, 16)
    torch.testing.assert_close(net(xrays)["ct"], plain(xrays)["ct"])


def test_without_its_auxiliary_heads_it_answers_the_same():
    whole, pruned = tiny(auxiliary_heads=True).eval(), tiny().eval()
    missing, unexpected = pruned.load_state_dict(whole.state_dict(), strict=False)
    assert not missing and unexpected
    xrays = torch.rand(1, 2, 16, 16)
    out = whole(xrays)
    assert torch.equal(pruned(xrays)["ct"], out["ct"])
    assert out["ct_pa"].shape == out["ct_lat"].shape == out["ct"].shape


def test_each_view_is_fused_with_its_own_features():
    """One SRCT serves both views in their own axes: the same picture, lifted alike, gives the same along H and W."""
    net = tiny().eval()
    net.lat.load_state_dict(net.pa.state_dict())
    for branch in (net.pa, net.lat):
        for skip in branch.skips:
            skip.mix = nn.Identity()  # its kernel stands in the CT's axes
    xray = torch.rand(1, 1, 16, 16)
    frontal, lateral = net.lift(net.pa, View.PA, xray), net.lift(net.lat, View.LAT, xray)
    for a, b in zip(frontal[:-1], lateral[:-1], strict=True):
        torch.testing.assert_close(a, b.transpose(3, 4))
    other = net.lift(net.lat, View.LAT, torch.rand(1, 1, 16, 16))
    assert not torch.allclose(frontal[1], other[1].transpose(3, 4), atol=1e-4)


def test_every_variant_differs_from_its_parent_in_its_net_or_its_recipe():
    parent = parameters(tiny())
    for model in MODELS[1:]:
        smaller = parameters(model.build_tiny()) < parent
        assert smaller != (model.recipe != MODEL.recipe), model.name
    assert "igdl" not in MODELS[4].recipe.losses and "ffl" not in MODELS[5].recipe.losses
    assert {model.name for model in MODELS} == {
        "3dsrnet", "3dsrnet-no-aspp", "3dsrnet-no-srct", "3dsrnet-no-srte", "3dsrnet-no-igdl", "3dsrnet-no-ffl",
        "3dsrnet-code",
    }  # fmt: skip


def test_a_switch_changes_the_answer():
    net, xrays = tiny().eval(), torch.rand(1, 2, 16, 16)
    answer = net(xrays)["ct"]
    assert answer.any()
    for name in ("aspp", "srct", "srte"):
        module = getattr(net, name)
        setattr(net, name, None)
        assert not torch.allclose(net(xrays)["ct"], answer, atol=1e-6), name
        setattr(net, name, module)


@pytest.mark.parametrize("options", [{"attn": "full"}, {"dilations": (6, 12, 18)}])
def test_other_options_train(options):
    net = tiny(**options).train()
    net(torch.rand(2, 2, 16, 16))["ct"].square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_srte_can_count_the_texts_three_layers():
    options = {"size": 64, "layers": (1, 1, 1, 1), "widths": (4, 4, 4, 8, 8), "texture_levels": (0, 1, 2)}
    net = tiny(**options)
    out = net.lift(net.pa, View.PA, torch.rand(1, 1, 64, 64))
    grads = torch.autograd.grad(out[2].sum(), [*net.srte.enter.parameters()], retain_graph=True)
    assert all(g.isfinite().all() for g in grads) and grads[0].flatten(1).any(0).all()  # every layer's channels
    untouched = torch.autograd.grad(out[0].sum(), [*net.srte.parameters()], allow_unused=True)
    assert all(g is None for g in untouched)  # only the last of the layers is replaced


def test_the_net_refuses_maps_that_srte_cannot_cut():
    with pytest.raises(BadInput, match="multiple of 16"):
        tiny(size=24)
    with pytest.raises(BadInput, match="texture_levels"):
        tiny(texture_levels=(1, 0))
    with pytest.raises(BadInput, match="srct_levels"):
        tiny(srct_levels=4)
    assert tiny(size=24, srte=False)(torch.rand(1, 2, 24, 24))["ct"].shape == (1, 1, 24, 24, 24)


def test_the_presets_are_those_of_paper_and_code():
    paper, code = MODEL.recipe, CODE.recipe
    assert [paper.losses[name] for name in ("mse", "ffl")] == [0.5, 0.25]  # III-D
    assert paper.losses["igdl"] * 3 == 0.25  # III-D, of the mean over three axes
    assert (paper.epochs, paper.milestones, paper.batch_size) == (200, (80, 140), 2)  # IV-A3
    assert code.losses == {"gan": 0.1, "mse": 10.0, "projection": 10.0, "igdl": 10.0, "ffl": 10.0}
    assert code.optimiser == "adam" and code.epochs == 300
