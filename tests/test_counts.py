"""The counter against what one can count by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raylift.models.counts import flops, parameters


class Call(nn.Module):
    """A function as a net."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.fixture(autouse=True)
def meta():
    with torch.device("meta"):
        yield


def test_a_convolution_costs_its_taps_at_each_output_voxel():
    cost = flops(nn.Conv3d(2, 6, 3, stride=2, padding=1, groups=2), torch.empty(1, 2, 8, 8, 8))
    assert cost.true == cost.thop == 6 * 4**3 * 27
    assert cost.x2 == 2 * (cost.thop + 6 * 4**3)  # and its bias


def test_a_transposed_convolution_costs_its_taps_at_each_input_voxel_and_thop_charges_each_output_voxel():
    cost = flops(nn.ConvTranspose3d(4, 6, 4, stride=2, padding=1, groups=2, bias=False), torch.empty(1, 4, 8, 8, 8))
    assert cost.true == 4 * 8**3 * 3 * 64
    assert cost.thop == 6 * 16**3 * 2 * 64
    assert cost.x2 == 2 * cost.thop


def test_products_of_matrices_are_counted():
    assert flops(nn.Linear(5, 7), torch.empty(2, 3, 5)).true == 2 * 3 * 5 * 7
    assert flops(Call(torch.matmul), torch.empty(2, 3, 4), torch.empty(2, 4, 5)).true == 2 * 3 * 4 * 5
    assert flops(Call(F.scaled_dot_product_attention), *torch.empty(3, 1, 2, 10, 4)).true == 2 * 2 * 10 * 10 * 4
    assert flops(Call(lambda a, b: torch.einsum("bij,bkj->bik", a, b)), *torch.empty(2, 2, 3, 4)).true == 2 * 3 * 3 * 4


def test_a_relu_counts_once_a_voxel_under_x2_alone():
    cost = flops(nn.Sequential(nn.ReLU(), nn.LeakyReLU()), torch.empty(1, 3, 4, 4))
    assert cost.true == cost.thop == 0 and cost.x2 == 2 * 2 * 48


def test_norms_are_not_counted_and_the_nets_mode_stays():
    net = nn.Sequential(nn.InstanceNorm3d(3), nn.BatchNorm3d(3)).train()
    assert flops(net, torch.empty(2, 3, 4, 4, 4)).x2 == 0
    assert net.training and parameters(net) == 6
