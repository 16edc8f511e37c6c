"""X-Recon: how MFusionRend weighs its scales, what may be pruned, what its discriminator is told, its recipes."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from raylift.blocks.discriminators import CoordConv3d
from raylift.errors import BadInput, UnknownName
from raylift.models.spec import Model
from raylift.models.weights import describe
from raylift.models.xrecon import L2, MODEL, MODELS, NO_COORD, PROJECTIONS, SMALL, MFusionRend, XRecon

GOLDEN = json.loads((Path(__file__).parent / "golden" / "models.json").read_text())  # test_models.py holds it


def tiny(model: Model = MODEL, **options) -> nn.Module:
    return model.build(torch.Generator().manual_seed(0), **{**model.tiny, **options}).eval()


def rand(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def rendered(drawn: list[Tensor], width: int = 2) -> Tensor:
    """What MFusionRend makes of volumes drawn at each scale, coarsest first: its convolutions only pass them on."""
    ct = None
    for h in drawn:
        scale = MFusionRend(width)
        nn.init.zeros_(scale.draw[0].weight)
        nn.init.zeros_(scale.draw[0].bias)
        scale.draw[0].weight.data[0, 0] = 1
        v = torch.cat([h, torch.zeros_like(h).expand(-1, width - 1, -1, -1, -1)], 1)
        ct = scale(v, torch.zeros_like(v), ct)
    return ct


# MFusionRend ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scales", [1, 3, 5])
def test_the_scales_weigh_all_but_the_last_half_of_a_half(scales):
    ones = [torch.ones(1, 1, *[2 * 2**k] * 3) for k in range(scales)]
    ct = rendered(ones)
    assert ct.shape == ones[-1].shape
    torch.testing.assert_close(ct, torch.full_like(ct, 1 - 0.5**scales))  # five scales: 31/32


@pytest.mark.parametrize("scale", range(5))
def test_each_finer_scale_weighs_twice_the_one_below(scale):
    """Only one of five scales draws something: a constant c arrives as c / 2^(5 - scale), coarsest first."""
    drawn = [torch.full((1, 1, *[2**k] * 3), 3.0 if k == scale else 0.0) for k in range(5)]
    ct = rendered(drawn)
    torch.testing.assert_close(ct, torch.full_like(ct, 3.0 / 2 ** (5 - scale)))


def test_a_coarser_scale_comes_up_smoothly_and_in_its_place():
    """A ramp along D stays a ramp: voxel centres, not corners, stay where they are."""
    ramp = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(1, 1, 4, 4, 4) + 1
    ct = 4 * rendered([ramp, torch.zeros(1, 1, 8, 8, 8)])
    fine = (torch.arange(8.0) - 0.5) / 2 + 1
    torch.testing.assert_close(ct[0, 0, 1:-1], fine[1:-1, None, None].expand(6, 8, 8))


def test_the_net_draws_what_its_scales_draw():
    """The output is LeakyReLU of h_16 / 2 + up(h_8) / 4 + up2(h_4) / 8, whatever the weights."""
    net, drawn = tiny(), {}
    for k, scale in enumerate(net.render):
        scale.draw.register_forward_hook(lambda layer, inputs, out, k=k: drawn.__setitem__(k, out))
    ct = net(rand(2, 2, 16, 16))["ct"]
    total = torch.zeros_like(ct)
    for k, h in drawn.items():
        for _ in range(k):
            h = nn.functional.interpolate(h, scale_factor=2.0, mode="trilinear")
        total += h / 2 ** (k + 1)
    assert sorted(drawn) == [0, 1, 2]
    torch.testing.assert_close(ct, nn.functional.leaky_relu(total, 0.01))


def test_the_views_average_comes_before_the_main_decoder():
    """Main features scaled by zero leave the volume to the views, and the other way round."""
    scale = MFusionRend(3)
    v, x = rand(1, 3, 4, 4, 4), rand(1, 3, 4, 4, 4) + 1
    weight = scale.draw[0].weight.data
    weight[:, 3:] = 0
    assert torch.equal(scale(v, x), scale(v, 0 * x))
    assert not torch.equal(scale(v, x), scale(0 * v, x))


# pruning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_the_pruned_net_answers_as_the_unpruned_one(training):
    whole, pruned = tiny(unpruned=True), tiny()
    missing, unexpected = pruned.load_state_dict(whole.state_dict(), strict=False)
    assert not missing
    unread = ("heads.", "pa.levels.0.refine.", "lat.levels.0.refine.", "main.0.")
    assert unexpected and all(key.startswith(unread) for key in unexpected)
    xrays = rand(2, 2, 16, 16)
    outs = []
    for net in (whole, pruned):
        torch.manual_seed(0)  # dropout
        outs.append(net.train(training)(xrays))
    assert torch.equal(outs[0]["ct"], outs[1]["ct"])
    assert set(outs[1]) == {"ct"}
    assert outs[0]["ct_pa"].shape == outs[0]["ct_lat"].shape == outs[0]["ct"].shape


def test_what_is_pruned_gets_no_gradient():
    whole = tiny(unpruned=True).train()
    whole(rand(2, 2, 16, 16))["ct"].square().sum().backward()
    dry = {name for name, p in whole.named_parameters() if p.grad is None}
    assert dry == set(whole.state_dict()) - set(tiny().state_dict())


@pytest.mark.parametrize(
    ("name", "parameters", "gmac", "thop", "pruned"),
    [("x-recon", 98_799_735, 1273.03, 1572.55, 761.23), ("x-recon-128", 37_517_943, 239.65, 295.54, 144.15)],
)
def test_the_released_codes_counts(name, parameters, gmac, thop, pruned):
    whole = GOLDEN[name]["as_stated"]
    assert whole["parameters"] == parameters
    assert whole["true"] == pytest.approx(gmac * 1e9, abs=5e6)
    assert whole["thop"] == pytest.approx(thop * 1e9, abs=5e6)
    assert GOLDEN[name]["built"]["true"] == pytest.approx(pruned * 1e9, abs=5e6)


# the discriminator ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("coord", "told"), [("first", [0]), ("all", [0, 1, 2, 3, 4]), ("none", [])])
def test_which_convolutions_are_told_where_they_are(coord, told):
    with torch.device("meta"):
        critic = MODEL.build_discriminator(coord=coord)
    convolutions = [layer for layer in critic.layers if isinstance(layer, nn.Conv3d)]
    assert [k for k, layer in enumerate(convolutions) if isinstance(layer, CoordConv3d)] == told
    parameters = sum(p.numel() for p in critic.parameters())
    more = sum(3 * convolutions[k].out_channels * 4**3 for k in told)
    assert parameters == 11_055_169 + more  # X2CT-GAN's and three channels each
    if coord == "first":
        assert parameters == 11_067_457  # original code


def test_a_setting_tells_all_convolutions_where_they_are():
    told = MODEL.with_settings({"discriminator.coord": "all"})
    critics = [m.build_discriminator(**m.tiny_discriminator) for m in (MODEL, told, NO_COORD)]
    assert len({sum(p.numel() for p in critic.parameters()) for critic in critics}) == 3
    assert describe(told)["discriminator"]["coord"] == "all"  # a run remembers it, and is not resumed with another
    with pytest.raises(UnknownName, match="option of x-recon's discriminator 'coords'; did you mean 'coord'"):
        MODEL.with_settings({"discriminator.coords": "all"})
    with pytest.raises(BadInput, match="x-recon-l2 has no discriminator"):
        L2.with_settings({"discriminator.coord": "all"})
    with pytest.raises(UnknownName, match="did you mean 'all'"):
        MODEL.build_discriminator(coord="al")


def test_only_a_told_discriminator_knows_where_it_looks():
    """A cube of water deep inside air, moved by the map's stride: the same verdict moves on, unless it is told."""
    ct = torch.zeros(1, 1, 48, 48, 48)
    ct[..., 20:24, 20:24, 20:24] = 1
    xrays = torch.zeros(1, 2, 48, 48)
    for model, moves in ((MODEL, False), (NO_COORD, True)):
        critic = model.build_discriminator(torch.Generator().manual_seed(0), width=4, levels=2).eval()
        still, moved = critic(xrays, ct), critic(xrays, ct.roll(4, 2))
        assert torch.allclose(moved[:, :, 6:10], still[:, :, 5:9], atol=1e-6) == moves


# what is declared -----------------------------------------------------------------------------------------------


def test_the_first_three_experiments_add_one_loss_each():
    assert [dict(m.recipe.losses) for m in (L2, PROJECTIONS, MODEL)] == [
        {"mse": 10.0},
        {"mse": 10.0, "cone_projection": 0.1},
        {"gan": 1.0, "mse": 10.0, "cone_projection": 0.1},
    ]
    assert [m.discriminator is None for m in (L2, PROJECTIONS, MODEL)] == [True, True, False]
    assert len({str(m.options) for m in (L2, PROJECTIONS, MODEL, NO_COORD)}) == 1


def test_names_sizes_and_profiles():
    assert [m.name for m in MODELS] == ["x-recon", "x-recon-128", "x-recon-l2", "x-recon-proj", "x-recon-no-coord"]
    assert (MODEL.size, MODEL.spacing, MODEL.profile) == (224, 1.6, "chest-224")
    assert (SMALL.size, SMALL.spacing, SMALL.profile) == (128, 2.5, "chest")


def test_a_size_that_does_not_halve_is_refused():
    with pytest.raises(BadInput, match="take a multiple of 32"), torch.device("meta"):
        XRecon(size=200)
