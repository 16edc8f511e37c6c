"""CVAA-GAN: what its attention may weigh, what its switches take away, what its discriminator sees."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from raylift.errors import BadInput
from raylift.models.cvaa import CVAAGAN, FD, MODEL, MODELS, VAA, CVAADiscriminator, CVAALevel
from raylift.types import View

GOLDEN = json.loads((Path(__file__).parent / "golden" / "models.json").read_text())  # test_models.py holds it
SWITCHES = ("vaa", "fd", "plain_sum", "deep")


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def features(width: int = 3, size: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Features of the two views and of the level below, B C D H W."""
    return tuple(rand(2, width, size, size, size, seed=seed) for seed in range(3))


def strong(net: nn.Module, seed: int = 0) -> nn.Module:
    """The net with weights large enough for its gates to open and to shut."""
    torch.manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, nn.modules.conv._ConvNd):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.normal_(layer.bias)
    return net.eval()


def level(**switches: bool) -> CVAALevel:
    return strong(CVAALevel(3, None, vaa_kernel=7, **{**dict.fromkeys(SWITCHES, True), **switches}))


# view attention alignment ---------------------------------------------------------------------------------------


def test_the_views_weights_add_up_to_one():
    weights = strong(VAA(3))(*features())
    assert weights.shape == (2, 2, 6, 6, 6)
    assert (weights > 0).all() and weights.std() > 0.1
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 6, 6, 6))


def test_swapping_the_views_swaps_their_weights():
    """With each view's own convolutions, and what the 7^3 convolution reads and writes of them, swapped along."""
    pa, lat, deep = features()
    one, other = strong(VAA(3)), VAA(3)
    other.pa, other.lat = one.lat, one.pa
    other.mix.weight.data = one.mix.weight.data.unflatten(1, (2, 3)).flip(0, 1).flatten(1, 2)
    other.mix.bias.data = one.mix.bias.data.flip(0)
    torch.testing.assert_close(other(lat, pa, deep), one(pa, lat, deep).flip(1))


def test_the_weights_look_at_the_level_below():
    pa, lat, deep = features()
    align = strong(VAA(3))
    assert not torch.allclose(align(pa, lat, deep), align(pa, lat, 0 * deep))


def test_a_weight_sees_seven_voxels_and_the_convolution_before_it():
    """7^3 behind 3^3: a voxel reaches 4 to each side and no further."""
    pa, lat, deep = features(size=12)
    align = strong(VAA(3))
    marked = deep.clone()
    marked[:, :, 6, 6, 6] += 10
    changed = (align(pa, lat, marked) != align(pa, lat, deep)).any(0).any(0).nonzero()
    assert changed.min(0).values.tolist() == [2, 2, 2]
    assert changed.max(0).values.tolist() == [10, 10, 10]


def test_coarse_features_lie_between_the_views():
    pa, lat, deep = features()
    coarse = level().fuse(pa, lat, deep)[:, :3]
    assert ((coarse >= torch.minimum(pa, lat) - 1e-6) & (coarse <= torch.maximum(pa, lat) + 1e-6)).all()


# fine distillation ----------------------------------------------------------------------------------------------


def test_the_gate_is_open_between_zero_and_one():
    pa, _, deep = features()
    gate = strong(FD(3))(pa, deep)
    assert gate.shape == (2, 1, 6, 6, 6)
    assert ((gate > 0) & (gate < 1)).all() and gate.std() > 0.1


def test_fine_features_are_the_coarse_ones_times_the_gate():
    pa, lat, deep = features()
    one = level()
    coarse, fine, plain, below = one.fuse(pa, lat, deep).split(3, 1)
    torch.testing.assert_close(fine, coarse * one.fd(coarse, deep))
    assert (fine.abs() <= coarse.abs()).all()
    torch.testing.assert_close(plain, pa + lat)
    assert torch.equal(below, deep)


# switches -------------------------------------------------------------------------------------------------------


def test_without_vaa_both_views_weigh_one_half():
    pa, lat, deep = features()
    torch.testing.assert_close(level(vaa=False).fuse(pa, lat, deep)[:, :3], (pa + lat) / 2)


@pytest.mark.parametrize(("switch", "part"), [("fd", 1), ("plain_sum", 2), ("deep", 3)])
def test_a_part_that_is_off_does_not_join_and_the_others_stay(switch, part):
    pa, lat, deep = features()
    whole, without = level(), level(**{switch: False})
    without.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("mix")}, strict=False)
    parts = list(whole.fuse(pa, lat, deep).split(3, 1))
    del parts[part]
    torch.testing.assert_close(without.fuse(pa, lat, deep), torch.cat(parts, 1))


def test_each_variant_switches_one_part_off():
    assert [model.name for model in MODELS] == [
        "cvaa-gan",
        *(f"cvaa-gan-no-{part}" for part in ("vaa", "fd", "sum", "deep")),
    ]
    for model, switch in zip(MODELS[1:], SWITCHES, strict=True):
        assert model.options == {**MODEL.options, switch: False}
        assert model.recipe == MODEL.recipe
    assert MODEL.recipe.losses == {"gan": 0.1, "mse": 10.0, "projection": 10.0}


def test_costs_at_paper_size():
    cost = GOLDEN["cvaa-gan"]["built"]
    found = [round(cost[key] / unit, 1) for key, unit in (("parameters", 1e6), ("true", 1e9), ("thop", 1e9))]
    assert found == [40.5, 247.3, 265.9]
    assert all(GOLDEN[model.name]["built"]["true"] < cost["true"] for model in MODELS[1:])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vaa": False, "fd": False, "deep": False}, "no level reads the one below"),
        ({"vaa_kernel": 6}, "vaa_kernel must be odd, not 6"),
        ({"size": 100}, "a size of 100 cannot be halved 5 times; take a multiple of 32"),
        ({"layers": (1, 1)}, "2 encoder steps need 3 widths, not 6"),
    ],
)
def test_a_net_that_cannot_be_is_refused(options, words):
    with pytest.raises(BadInput, match=words), torch.device("meta"):
        CVAAGAN(**options)


# wiring ---------------------------------------------------------------------------------------------------------


def without_norms(net: nn.Module) -> nn.Module:
    """The net with every norm taken out: what is left sees no further than its convolutions."""
    for parent in net.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.InstanceNorm2d | nn.InstanceNorm3d):
                setattr(parent, name, nn.Identity())
    return net


def test_a_mark_in_both_views_is_drawn_where_their_rays_cross():
    """Depth, back and left are found from two pictures: the volume differs most where both were marked."""
    net = without_norms(strong(CVAAGAN(size=16, layers=(1,), width=4, growth=4, widths=(4, 4))))
    xrays = torch.zeros(1, 2, 16, 16)
    marked = xrays.clone()
    marked[0, 0, 8:10, 3:5] = 1  # PA: D 8, W 3
    marked[0, 1, 8:10, 11:13] = 1  # lateral: D 8, H 11
    lifted = [
        (encoder(marked[:, k : k + 1])[0] - encoder(xrays[:, k : k + 1])[0]).abs().sum((0, 1))
        for k, encoder in enumerate((net.pa, net.lat))
    ]
    both = (lifted[0] * lifted[1])[..., 1:-1, 1:-1, 1:-1]
    d, h, w = (int(i) + 1 for i in torch.unravel_index(both.argmax(), both.shape))
    assert abs(d - 8.5) < 3 and abs(h - 11.5) < 3 and abs(w - 3.5) < 3


# the discriminator ----------------------------------------------------------------------------------------------


def test_the_discriminator_sees_features_of_each_view_along_its_rays():
    critic = strong(CVAADiscriminator((View.PA, View.LAT), width=4, levels=2, lifted=2))
    seen = []
    critic.judge.register_forward_hook(lambda layer, inputs, out: seen.append(inputs[0]))
    xrays, ct = rand(2, 2, 16, 16), rand(2, 1, 16, 16, 16)
    verdict = critic(xrays, ct)
    assert verdict.shape[:2] == (2, 1)
    pa, lat, volume = seen[0].split([2, 2, 1], 1)
    assert torch.equal(volume, ct)
    torch.testing.assert_close(pa[:, :, :, 1:-1], pa[:, :, :, 1:2].expand_as(pa[:, :, :, 1:-1]))  # the same along H
    torch.testing.assert_close(lat[..., 1:-1], lat[..., 1:2].expand_as(lat[..., 1:-1]))  # the same along W
    for k in (0, 1):
        changed = xrays.clone()
        changed[:, k] = rand(2, 16, 16, seed=5)
        assert not torch.allclose(critic(changed, ct), verdict)


def test_the_discriminator_at_paper_size():
    with torch.device("meta"):
        critic = MODEL.build_discriminator()
        verdict = critic(torch.empty(1, 2, 128, 128), torch.empty(1, 1, 128, 128, 128))
    assert verdict.shape == (1, 1, 19, 19, 19)  # X2CT-GAN's map
    lifted = 2 * (27 * 16 + 16)
    assert sum(p.numel() for p in critic.parameters()) == 11_055_169 + 30 * 64 * 4**3 + lifted
