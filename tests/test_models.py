"""Every model keeps the same promises: these tests run over the table, and a new row is tested without new code."""

import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from raylift import losses, models
from raylift.errors import RayliftError, UnknownName
from raylift.geometry import preset_beam
from raylift.losses import LOSSES, lsgan_discriminator
from raylift.models import MODELS, catalogue
from raylift.models.catalogue import page, rows
from raylift.models.counts import counts, summary
from raylift.models.spec import Model
from raylift.models.weights import describe, rebuild

GOLDEN, BY_HEART = (
    json.loads((Path(__file__).parent / "golden" / name).read_text()) for name in ("models.json", "overfit.json")
)


def built_alike(model: Model) -> str:
    """The same for two rows whose nets are the same and only their training differs."""
    return repr((model.net, model.views, model.size, model.options, model.tiny))


def nets(*, told: bool = True) -> list[str]:
    """One name for each different net that has something to learn."""
    first = {
        built_alike(m): n for n, m in reversed(MODELS.items()) if m.recipe is not None and (told or not m.told_geometry)
    }
    return sorted(first.values())


COUNTED: dict[str, dict] = {}  # so that two rows with the same net are counted once
every_model = pytest.mark.parametrize("name", MODELS)
every_recipe = pytest.mark.parametrize("name", [n for n, m in MODELS.items() if m.recipe is not None])
every_net = pytest.mark.parametrize("name", nets())
one_of_a_kind = {MODELS[name].net: name for name in nets(told=False)}.values()
every_export = pytest.mark.parametrize(  # a second or more each: variants of a net wait for `make slow`
    "name", [n if n in one_of_a_kind else pytest.param(n, marks=pytest.mark.slow) for n in nets(told=False)]
)


def tiny(name: str, seed: int = 0):
    """The model, a tiny net of that seed."""
    model = MODELS[name]
    return model, model.build_tiny(torch.Generator().manual_seed(seed))


def shots(model: Model, batch: int) -> tuple:
    """The same beams for each sample: the chest geometry."""
    return (tuple(preset_beam(view, pixels=model.tiny_size) for view in model.views),) * batch


@cache
def shapes(size: int, views: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Balls of random place in cubes (B 1 D H W, in [0, 1]), and their projections (B V H W)."""
    random = torch.Generator().manual_seed(3)
    axes = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, size)] * 3, indexing="ij"))
    centres = torch.rand(batch, 4, 3, generator=random) * 1.2 - 0.6
    apart = (axes[None, None] - centres[..., None, None, None]).norm(dim=2)  # B 4 D H W
    ct = torch.sigmoid((0.4 - apart) * size / 4).sum(1, keepdim=True).clamp(0, 1)
    xrays = torch.cat([ct.mean(3), ct.mean(4)], 1)[:, :views]  # PA along H, lateral along W
    return xrays.contiguous(), ct


def example(model: Model, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """X-rays (B V H W) and what the net should answer, on its target's scale."""
    xrays, ct = shapes(model.tiny_size, len(model.views), batch)
    return xrays, torch.as_tensor(model.target.encode(ct * 1000 - 700), dtype=torch.float32)


def answers(model: Model, net: torch.nn.Module, xrays: torch.Tensor) -> dict[str, torch.Tensor]:
    """The net's outputs; dropout and jittered poses stay the same from call to call."""
    torch.manual_seed(0)
    return model.run(net, xrays, shots(model, len(xrays)))


def answer(model: Model, net: torch.nn.Module, xrays: torch.Tensor) -> torch.Tensor:
    """The cube alone."""
    return answers(model, net, xrays)["ct"]


@every_model
def test_a_tiny_net_answers_with_a_finite_cube(name):
    model, net = tiny(name)
    xrays, truth = example(model)
    ct = answer(model, net.eval(), xrays)
    assert ct.shape == truth.shape
    assert torch.isfinite(ct).all()


@every_net
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name):
    model, net = tiny(name, seed=1)
    xrays, _ = example(model)
    same, other = tiny(name, seed=1)[1], tiny(name, seed=2)[1]
    for a, b in zip(net.state_dict().values(), same.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    if [*net.parameters()]:
        assert not torch.equal(answer(model, net.train(), xrays), answer(model, other.train(), xrays))


@every_net
def test_a_gradient_reaches_every_parameter(name):
    """In one of four drawings of the weights at least: with few channels a ReLU may happen to be shut."""
    unreached = None
    for seed in range(4):
        model, net = tiny(name, seed)
        xrays, truth = example(model)
        torch.manual_seed(seed)
        (answer(model, net.train(), xrays) * torch.randn(truth.shape)).sum().backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())
        # a bias in front of a norm has a gradient of 0 by right
        dry = {k for k, p in net.named_parameters() if p.grad is None or (p.ndim > 1 and not p.grad.any())}
        unreached = dry if unreached is None else unreached & dry
        if not unreached:
            return
    assert not unreached


def supervised(model: Model, outputs: dict, truth: torch.Tensor) -> torch.Tensor:
    """The recipe's own losses without the adversary; "mse@head" is the one of the output "head"."""
    terms = []
    for key, weight in model.recipe.losses.items():
        name, _, output = key.partition("@")
        if name != "gan":
            options = model.recipe.loss_options.get(key, {})
            terms.append(weight * losses.get(name)(outputs[output or "ct"], truth, **options))
    return torch.stack(terms).sum()


@every_recipe
def test_ten_steps_lower_the_loss(name):
    model, net = tiny(name)
    xrays, truth = example(model)
    adam = torch.optim.Adam(net.train().parameters(), lr=1e-3)
    curve = []
    for _ in range(11):
        adam.zero_grad()
        loss = supervised(model, answers(model, net, xrays), truth)
        loss.backward()
        adam.step()
        curve.append(loss.item())
    assert min(curve[-3:]) < curve[0], curve


@every_net
def test_a_saved_state_is_the_same_net(name):
    model, net = tiny(name, seed=1)
    xrays, _ = example(model)
    answer(model, net.train(), xrays)  # running statistics move
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = tiny(name, seed=2)[1]
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(answer(model, net.eval(), xrays), answer(model, other.eval(), xrays))


@every_net
def test_one_alone_is_the_same_as_one_among_four(name):
    model, net = tiny(name)
    xrays, _ = example(model, batch=4)
    together = answer(model, net.eval(), xrays)
    torch.testing.assert_close(answer(model, net, xrays[2:3]), together[2:3], atol=2e-5, rtol=1e-4)


@every_net
def test_swapped_views_are_another_answer(name):
    model, net = tiny(name)
    if len(model.views) < 2:
        pytest.skip("one view")
    xrays, _ = example(model)
    assert not torch.allclose(answer(model, net.train(), xrays), answer(model, net, xrays.flip(1)), atol=1e-6)


@every_net
def test_half_precision_gives_nearly_the_same(name):
    model, net = tiny(name)
    xrays, _ = example(model)
    exact = answer(model, net.eval(), xrays)
    with torch.autocast("cpu", torch.bfloat16):
        rough = answer(model, net, xrays).float()
    assert torch.isfinite(rough).all()
    assert (rough - exact).norm() < 0.35 * exact.norm() + 1e-3


@every_export
def test_the_net_can_be_exported(name):
    model, net = tiny(name)
    xrays = model.inputs(example(model, batch=1)[0])
    net.eval()
    exported = torch.export.export(net, (xrays,), strict=False).module()
    torch.testing.assert_close(exported(xrays)["ct"], net(xrays)["ct"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(set(nets()) - set(nets(told=False))))
def test_what_a_net_that_is_told_the_geometry_learned_can_be_exported(name):
    """Its beams and its algebra cannot: they are no tensors."""
    part, shape = tiny(name)[1].eval().learned_part()
    given = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    exported = torch.export.export(part, (given,), strict=False).module()
    torch.testing.assert_close(exported(given), part(given), atol=1e-5, rtol=1e-4)


@every_model
def test_counts_at_paper_size_are_golden(name):
    assert name in GOLDEN, "run `make golden`"
    model = MODELS[name]
    key = repr((built_alike(model), model.stated_counts, model.discriminator, model.discriminator_options))
    row = COUNTED[key] = COUNTED.get(key) or summary(model)
    assert json.loads(json.dumps(row)) == GOLDEN[name]
    if "shape" in row["built"]:
        assert row["built"]["shape"] == [1, 1, *[model.size] * 3]


@every_model
def test_parameters_are_those_that_paper_or_code_state(name):
    row = GOLDEN[name]
    meant = row.get("as_stated", row["built"])
    for key in ("parameters", "discriminator", "true", "thop"):
        if key in row.get("stated", {}):
            assert meant[key] == row["stated"][key], key


def test_no_golden_row_is_left_over():
    assert set(GOLDEN) == set(MODELS)


def test_the_page_of_all_systems_is_current():
    assert page(GOLDEN, BY_HEART) == (Path(__file__).parents[1] / "docs" / "models.md").read_text(), "run `make golden`"


def test_the_record_that_a_listing_reads_is_current_and_is_of_nets_as_declared(monkeypatch):
    kept = json.loads(catalogue.COUNTED.read_text())
    assert kept == catalogue.record(GOLDEN), "run `make golden`"
    monkeypatch.setattr(catalogue, "counts", lambda model: {"parameters": 7})
    psr = MODELS["psr"]
    changed = psr.with_settings({"width": "0.5"})
    assert [row["parameters"] for row in rows([psr, changed])] == [kept["psr"]["parameters"], 7]


def test_a_listing_says_what_a_model_takes_and_costs():
    (row,) = rows([MODELS["x2ct-gan"]])
    assert row["views"] == ["PA", "LAT"] and row["size"] == 128 and row["gmac"] == pytest.approx(202.802, abs=1e-3)
    assert set(row) >= {"name", "paper", "views", "size", "parameters", "gmac", "gmac_thop", "weights"}


@pytest.mark.parametrize("name", [n for n, m in MODELS.items() if m.discriminator is not None])
def test_a_discriminator_learns_to_tell(name):
    model = MODELS[name]
    critic = model.build_discriminator(torch.Generator().manual_seed(0), **model.tiny_discriminator)
    xrays, real = example(model)
    fake = real.flip(2) * 0.5
    adam = torch.optim.Adam(critic.parameters(), lr=1e-3)
    curve = []
    for _ in range(6):
        adam.zero_grad()
        loss = lsgan_discriminator(critic(xrays, real), critic(xrays, fake))
        loss.backward()
        adam.step()
        curve.append(loss.item())
    assert curve[-1] < curve[0]
    for where, p in critic.named_parameters():
        assert p.grad is not None and (p.ndim == 1 or p.grad.abs().max() > 0), where


def test_every_variant_is_another_system():
    """Two rows with the same net differ in their recipe; two nets of one class differ in size or in the answer."""
    rows = [m for m in MODELS.values() if m.recipe is not None]
    trained = [repr((built_alike(m), m.recipe, m.discriminator_options)) for m in rows]
    assert len(set(trained)) == len(rows)
    seen: dict[tuple, list[tuple[str, torch.Tensor]]] = {}
    for name in nets():
        model, net = tiny(name)
        learned = sum(p.numel() for p in net.parameters())
        ct = answer(model, net.train(), example(model)[0]).detach()
        alike = seen.setdefault((model.net, model.views, model.size, learned), [])
        for other, theirs in alike:
            assert not torch.equal(ct, theirs), (name, other)
        alike.append((name, ct))


@every_model
def test_a_declaration_is_whole(name):
    model = MODELS[name]
    assert model.name == name and model.paper and model.options
    assert set(model.tiny) <= set(model.options), "a tiny copy differs in options that the model has"
    if model.recipe is not None:
        unknown = {key.partition("@")[0] for key in model.recipe.losses} - {*LOSSES, "gan"}
        assert not unknown, f"{name}'s recipe names losses that do not exist: {unknown}"
        assert set(model.recipe.loss_options) <= set(model.recipe.losses)
        assert ("gan" in model.recipe.losses) == (model.discriminator is not None)


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'x2ct-gan'"):
        models.get("x2ctgan")


def test_the_multiply_accumulates_that_papers_state():
    x2ct = GOLDEN["x2ct-gan"]["as_stated"]
    assert x2ct["true"] == pytest.approx(254.811e9, rel=1e-5)
    assert x2ct["x2"] == pytest.approx(623.345e9, rel=1e-3)  # 3DSRNet Table I
    assert GOLDEN["xctnet"]["built"]["thop"] < 1.08 * GOLDEN["xctnet-resxct"]["built"]["thop"]  # "a little" more


def test_x2ct_without_its_auxiliary_heads_answers_the_same():
    model = MODELS["x2ct-gan"]
    whole = model.build(torch.Generator().manual_seed(0), **model.tiny, auxiliary_heads=True).eval()
    pruned = model.build_tiny().eval()
    missing, unexpected = pruned.load_state_dict(whole.state_dict(), strict=False)
    assert not missing
    assert {key.split(".")[0] for key in unexpected} <= {"heads", "pa", "lat"}
    xrays, _ = example(model)
    out = whole(xrays)
    assert torch.equal(pruned(xrays)["ct"], out["ct"])
    assert out["ct_pa"].shape == out["ct_lat"].shape == out["ct"].shape


def test_resxct_is_a_part_of_xctnet():
    small, large = tiny("xctnet-resxct")[1].state_dict(), tiny("xctnet")[1].state_dict()
    assert set(small) < set(large)
    assert all(small[key].shape == large[key].shape for key in small)


def test_xctnet_can_put_depth_along_the_slices():
    model, net = tiny("xctnet")
    xrays, _ = example(model)
    net.eval()
    along_rays = net(xrays)["ct"]
    net.depth_axis = "slice"
    torch.testing.assert_close(net(xrays)["ct"].transpose(2, 3), along_rays)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("x2ct-gan", {"size": 100}, "a size of 100 cannot be halved 5 times; take a multiple of 32"),
        ("x2ct-gan", {"layers": (1, 1)}, "2 encoder steps need 3 widths of volumes, not 6"),
        ("xctnet", {"size": 48}, "xctnet: a size of 48 cannot be halved 5 times; take a multiple of 32"),
        ("xctnet", {"attention": "ecacbam"}, "no attention of xctnet 'ecacbam'; did you mean 'cbam'"),
        ("xctnet", {"width": 24}, "a width of 24"),
    ],
)
def test_options_that_fit_no_net_are_refused_in_words(name, options, words):
    with pytest.raises(RayliftError, match=words), torch.device("meta"):
        MODELS[name].build(**options)


def test_xctnet_options_build_and_answer():
    model = MODELS["xctnet"]
    xrays, _ = example(model)
    for options in ({"deep": "transform"}, {"stem": "imagenet3"}, {"eca": "add"}, {"exchange": False}):
        net = model.build(torch.Generator().manual_seed(0), **{**model.tiny, **options}).eval()
        assert torch.isfinite(net(xrays)["ct"]).all(), options
    assert counts(model, deep="transform")["parameters"] == 36_607_630


def test_a_models_description_brings_back_what_it_was_trained_on():
    model = replace(models.get("x2ct-gan"), profile="chest-224", spacing=5.6, size=64)
    again = rebuild(json.loads(json.dumps(describe(model))), models.get("x2ct-gan"))
    assert (again.profile, again.spacing, again.size) == ("chest-224", 5.6, 64)
    assert "profile" not in describe(models.get("x2ct-gan"))
