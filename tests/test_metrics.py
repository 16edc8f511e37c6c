"""Metrics: what must hold of each, agreement with scikit-image and torchmetrics, and bad input."""

import math
import time

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from raylift import metrics
from raylift.errors import BadInput

WINDOW = (-1024.0, 1476.0)
WIDTH = WINDOW[1] - WINDOW[0]
PLAIN = (metrics.mae, metrics.mse, metrics.rmse, metrics.psnr, metrics.ssim, metrics.cosine)


@pytest.fixture
def pair(generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth volume and a noisy copy, HU, inside the window."""
    truth = torch.rand(1, 1, 6, 5, 7, generator=generator)
    truth = torch.nn.functional.interpolate(truth, (24, 20, 28), mode="trilinear")[0, 0] * 1500 - 900
    return (truth + 80 * torch.randn(truth.shape, generator=generator)).clamp(*WINDOW), truth


def test_a_volume_equals_itself(pair):
    _, b = pair
    assert [float(f(b, b, window=WINDOW)) for f in (metrics.mae, metrics.mse, metrics.rmse)] == [0, 0, 0]
    assert float(metrics.psnr(b, b, window=WINDOW)) == math.inf
    for kernel in ("gaussian", "uniform"):
        assert float(metrics.ssim(b, b, window=WINDOW, kernel=kernel)) == pytest.approx(1, abs=1e-6)
    assert float(metrics.cosine(b, b, window=WINDOW)) == pytest.approx(1)


@pytest.mark.parametrize("metric", PLAIN)
def test_neither_order_nor_what_lies_outside_the_window_matters(metric, pair):
    a, b = pair
    value = metric(a, b, window=(-800.0, 400.0))
    assert float(metric(b, a, window=(-800.0, 400.0))) == pytest.approx(float(value))
    beyond = torch.where(a > 400, 3000.0, a)
    assert float(metric(beyond, b, window=(-800.0, 400.0))) == pytest.approx(float(value))


def test_a_shift_by_a_tenth_of_the_window_is_twenty_decibel():
    b = torch.full((8, 8, 8), -500.0)
    a = b + WIDTH / 10
    assert float(metrics.psnr(a, b, window=WINDOW)) == pytest.approx(20)
    assert float(metrics.mae(a, b, window=WINDOW)) == pytest.approx(250)
    assert float(metrics.rmse(a, b, window=WINDOW)) == pytest.approx(250)


@pytest.mark.parametrize("metric", PLAIN)
def test_each_sample_of_a_batch_has_its_own_value(metric, pair):
    a, b = pair
    together = metric(torch.stack([a, b])[:, None], torch.stack([b, b + 10])[:, None], window=WINDOW)
    assert together.shape == (2, 1)
    assert float(together[0, 0]) == pytest.approx(float(metric(a, b, window=WINDOW)))


@pytest.mark.parametrize("metric", PLAIN)
def test_what_is_not_valid_does_not_count(metric, pair):
    a, b = pair
    valid = torch.ones_like(a, dtype=torch.bool)
    valid[:4] = False
    value = float(metric(a, b, window=WINDOW, valid=valid))
    wrong = a.clone()
    wrong[:4] = 1000
    assert float(metric(wrong, b, window=WINDOW, valid=valid)) == pytest.approx(value)
    if metric is not metrics.ssim:  # its windows look across the border
        assert value == pytest.approx(float(metric(a[4:], b[4:], window=WINDOW)))


def test_psnr_is_that_of_scikit_image(pair):
    a, b = (x.double().numpy() for x in pair)
    assert float(metrics.psnr(*pair, window=WINDOW)) == pytest.approx(
        peak_signal_noise_ratio(b, a, data_range=WIDTH), abs=1e-5
    )


@pytest.mark.parametrize(
    ("kernel", "settings"),
    [
        ("gaussian", {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}),
        ("uniform", {}),
    ],
)
def test_ssim_is_that_of_scikit_image(kernel, settings, pair):
    a, b = (x.double().numpy() for x in pair)
    unit = [(x - WINDOW[0]) / WIDTH for x in (a, b)]
    theirs = structural_similarity(*unit, data_range=1.0, **settings)
    assert float(metrics.ssim(*pair, window=WINDOW, kernel=kernel)) == pytest.approx(theirs, abs=1e-5)


def test_ssim_is_that_of_torchmetrics(pair):
    unit = [((x.double() - WINDOW[0]) / WIDTH)[None, None] for x in pair]
    _, local = structural_similarity_index_measure(
        *unit, data_range=1.0, sigma=1.5, kernel_size=11, return_full_image=True
    )
    theirs = local[0, 0, 5:-5, 5:-5, 5:-5].mean()  # they count the mirrored edge too
    assert float(metrics.ssim(*pair, window=WINDOW)) == pytest.approx(float(theirs), abs=1e-5)


@pytest.mark.slow
def test_ssim_at_paper_size_takes_under_three_seconds():
    a, b = torch.rand(128, 128, 128) * 1000, torch.rand(128, 128, 128) * 1000
    begun = time.process_time()
    metrics.ssim(a, b, window=WINDOW)
    assert time.process_time() - begun < 3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_wise_psnr_leaves_empty_slices_out(axis, pair):
    a, b = (x.movedim(0, axis).clone() for x in pair)
    slices = [
        peak_signal_noise_ratio(q.double().numpy(), p.double().numpy(), data_range=WIDTH)
        for p, q in zip(a.unbind(axis), b.unbind(axis), strict=True)
    ]
    assert float(metrics.psnr_slices(a, b, window=WINDOW, axis=axis)) == pytest.approx(np.mean(slices), abs=1e-5)
    for x in (a, b):
        x.select(axis, 0).fill_(-1024)
    assert float(metrics.psnr_slices(a, b, window=WINDOW, axis=axis)) == pytest.approx(np.mean(slices[1:]), abs=1e-5)


def test_the_x2ct_protocol_does_what_their_specification_says(pair):
    a, b = pair
    a, b = torch.where(a < -900, -1023.5, a), torch.where(b < -900, -1024.0, b)  # below 1 after the shift: equal
    found = metrics.x2ct_protocol(a, b)
    p, t = ((x.double().numpy() + 1024).clip(0, 2500) for x in (a, b))
    assert found["mae0"] == pytest.approx(np.abs(p - t).mean() / 2500)
    assert found["mse0"] == pytest.approx(((p - t) ** 2).mean() / 2500**2)
    whole = (p.astype(np.int32) - t.astype(np.int32)).astype(float)
    assert found["mse"] == pytest.approx((whole**2).mean()) and found["mae"] == pytest.approx(np.abs(whole).mean())
    assert found["psnr"] == pytest.approx(20 * math.log10(4095 / math.sqrt((whole**2).mean())))
    ssims = [structural_similarity(p / 2500, t / 2500, data_range=1.0, channel_axis=axis) for axis in range(3)]
    assert found["ssim"] == pytest.approx(np.mean(ssims), abs=1e-5)


def test_under_the_x2ct_protocol_equal_slices_score_a_hundred():
    b = torch.full((8, 8, 8), -1024.0)
    a = b.clone()
    a[0] += 100
    found = metrics.x2ct_protocol(a, b)
    one = 20 * math.log10(4095 / 100)
    across_d, across_others = (one + 7 * 100) / 8, 20 * math.log10(4095 / math.sqrt(10000 / 8))
    assert found["psnr_slices"] == pytest.approx((across_d + 2 * across_others) / 3)
    assert metrics.x2ct_protocol(b + 0.5, b)["psnr"] == 100


def test_reprojection_error_is_relative():
    xrays = torch.rand(2, 6, 6) + 0.1
    assert metrics.reprojection_error(xrays, xrays) == 0
    assert metrics.reprojection_error(1.1 * xrays, xrays) == pytest.approx(0.1, rel=1e-5)
    with pytest.raises(BadInput, match="0 throughout"):
        metrics.reprojection_error(xrays, torch.zeros_like(xrays))


@pytest.mark.parametrize("metric", PLAIN)
def test_what_cannot_be_compared_is_an_error(metric, pair):
    a, b = pair
    broken = a.clone()
    broken[0, 0, 0] = torch.nan
    empty = torch.zeros_like(a, dtype=torch.bool)
    for args, settings, words in (
        ((a[1:], b), {"window": WINDOW}, "unequal shapes"),
        ((broken, b), {"window": WINDOW}, "1 values of the first are not finite"),
        ((a, b), {"window": (100.0, 100.0)}, "low to high"),
        ((a, b), {"window": WINDOW, "valid": empty}, "mask is empty"),
        ((a, b), {"window": WINDOW, "valid": empty[1:]}, "mask has shape"),
    ):
        with pytest.raises(BadInput, match=words):
            metric(*args, **settings)


def test_constant_volumes_have_defined_values():
    floor, low, high = (torch.full((12, 12, 12), x) for x in (-1024.0, -500.0, 500.0))
    assert float(metrics.cosine(floor, floor, window=WINDOW)) == 1
    assert float(metrics.cosine(floor, low, window=WINDOW)) == 0
    assert float(metrics.cosine(low, high, window=WINDOW)) == pytest.approx(1)
    assert 0 < float(metrics.ssim(low, high, window=WINDOW)) < 1
    with pytest.raises(BadInput, match="no slice"):
        metrics.psnr_slices(high, low, window=WINDOW, axis=0)


def test_a_volume_smaller_than_the_kernel_is_an_error():
    small = torch.zeros(8, 8, 8)
    with pytest.raises(BadInput, match="at least 11"):
        metrics.ssim(small, small, window=WINDOW)
    with pytest.raises(BadInput, match="'gaussian' or 'uniform'"):
        metrics.ssim(small, small, window=WINDOW, kernel="box")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_wise_ssim_is_that_of_scikit_image(axis, pair):
    unit = [((x.double() - WINDOW[0]) / WIDTH).numpy() for x in pair]
    slices = [np.moveaxis(x, axis, 0) for x in unit]
    settings = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    theirs = np.mean([structural_similarity(x, y, **settings) for x, y in zip(*slices, strict=True)])
    assert float(metrics.ssim_slices(*pair, window=WINDOW, axis=axis)) == pytest.approx(theirs, abs=1e-5)


def test_dice_of_known_masks_and_of_empty_ones():
    a, b = torch.zeros(4, 4, 4, dtype=torch.bool), torch.zeros(4, 4, 4, dtype=torch.bool)
    assert metrics.dice(a, b) == 1
    a[0] = True
    assert metrics.dice(a, b) == 0 and metrics.dice(a, a) == 1
    b[0, :2] = True
    assert metrics.dice(a, b) == pytest.approx(2 * 8 / 24)
    with pytest.raises(BadInput, match="unequal shapes"):
        metrics.dice(a, b[1:])
    hu = torch.where(a, 500.0, 0.0)
    assert metrics.dice_above(hu, torch.where(b, 500.0, 0.0), hu=200) == metrics.dice(a, b)


def test_by_parseval_the_frequency_distance_is_the_logarithm_of_the_mse(pair):
    mse = float(metrics.mse(*pair, window=WINDOW)) / WIDTH**2
    assert float(metrics.frequency_distance(*pair, window=WINDOW)) == pytest.approx(math.log10(mse))
    assert float(metrics.frequency_distance(pair[1], pair[1], window=WINDOW)) == -math.inf
    with pytest.raises(BadInput, match="at least two"):
        metrics.min_max([1.0])


def test_entropy_of_known_pictures(generator):
    assert float(metrics.entropy(torch.zeros(8, 8, 8), window=WINDOW)) == 0
    half = torch.full((8, 8, 8), -1024.0)
    half[:4] = 1000
    assert float(metrics.entropy(half, window=WINDOW)) == pytest.approx(1)
    even = torch.linspace(*WINDOW, 256).repeat(2).reshape(8, 8, 8)
    assert float(metrics.entropy(even, window=WINDOW)) == pytest.approx(8)
    assert metrics.entropy(torch.stack([half, even])[:, None], window=WINDOW).shape == (2, 1)
    local = metrics.entropy_map(torch.where(torch.arange(30) < 15, -1024.0, 1000.0).expand(30, 30), window=WINDOW)
    assert local[15, 2] == 0 and local[15, 15] == pytest.approx(1, abs=0.05)


def test_lpips_is_nothing_for_equal_volumes_and_grows_with_noise(generator):
    b = torch.nn.functional.interpolate(torch.rand(1, 1, 5, 5, 5, generator=generator), (40, 36, 32), mode="trilinear")
    b = b[0, 0] * 2000 - 1000
    noise = torch.randn(b.shape, generator=generator)
    values = [float(metrics.lpips(b + sd * noise, b, window=WINDOW)) for sd in (0, 50, 300)]
    assert values[0] == 0 and 0 < values[1] < values[2] < 2
    valid = torch.zeros_like(b, dtype=torch.bool)
    valid[:20] = True
    wrong = b.clone()
    wrong[20:] = 0
    assert float(metrics.lpips(wrong, b, window=WINDOW, valid=valid)) == 0
    with pytest.raises(BadInput, match="at least 31"):
        metrics.lpips(b[:20], b[:20], window=WINDOW)


def test_the_heads_of_lpips_are_those_that_torchmetrics_ships():
    import torchmetrics.functional.image as theirs
    from safetensors.torch import load_file

    from raylift.metrics.perceptual import WEIGHTS

    ours = load_file(WEIGHTS)
    heads = torch.load(f"{next(iter(theirs.__path__))}/lpips_models/alex.pth", map_location="cpu", weights_only=True)
    for k in range(5):
        torch.testing.assert_close(ours[f"head.{k}.weight"].float(), heads[f"lin{k}.model.1.weight"], atol=1e-3, rtol=0)


def test_xctnets_numbers_are_means_of_axial_slices(pair):
    a, b = pair
    found = metrics.xctnet_protocol(a, b, window=WINDOW)
    unit = [((x.double() - WINDOW[0]) / WIDTH).numpy() for x in pair]
    assert found["mse"] == pytest.approx(np.mean((unit[0] - unit[1]) ** 2))
    slices = [peak_signal_noise_ratio(y, x, data_range=1.0) for x, y in zip(*unit, strict=True)]
    assert found["psnr"] == pytest.approx(np.mean(slices), abs=1e-5)


def test_ears_peak_is_the_range_of_the_scores(pair):
    a, b = pair
    found = metrics.ear_protocol(a, b, mean=-300.0, sd=400.0, bone_hu=150.0)
    za, zb = ((x.double().numpy() + 300) / 400 for x in pair)
    assert found["mse"] == pytest.approx(np.mean((za - zb) ** 2))
    assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(zb, za, data_range=zb.max() - zb.min()))
    assert found["fd"] == pytest.approx(math.log10(found["mse"]))
    with pytest.raises(BadInput, match="range is 0"):
        metrics.ear_protocol(a, torch.zeros_like(b), mean=0.0, sd=1.0, bone_hu=0.0)
