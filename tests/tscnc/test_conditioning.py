import math

import pytest
import torch
from torch import nn

from tscnc_deploy.tscnc import condition, conditions


def test_figures_of_a_diagonal_layer():
    layer = condition(torch.diag(torch.tensor([4.0, 2.0, 1.0])), "fc.weight")
    assert (layer.kappa, layer.rank, layer.full_rank, layer.spectral_norm) == pytest.approx((4.0, 3, 3, 4.0))
    assert (layer.parameters, layer.nonzero, layer.dead_filters, layer.filters) == (9, 3, 0, 3)


def test_dead_filters_lower_the_rank_but_do_not_make_kappa_infinite():
    weight = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    layer = condition(weight)
    assert layer.kappa == pytest.approx(3.0)
    assert (layer.rank, layer.full_rank, layer.dead_filters) == (2, 3, 1)


def test_kappa_agrees_with_a_singular_value_decomposition():
    weight = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    sigma = torch.linalg.svdvals(weight.reshape(16, -1).double())
    assert condition(weight).kappa == pytest.approx((sigma[0] / sigma[-1]).item(), rel=1e-6)


def test_an_empty_layer_has_no_kappa():
    layer = condition(torch.zeros(2, 3))
    assert math.isnan(layer.kappa)
    assert layer.to_json()["kappa"] is None
    assert (layer.rank, layer.dead_filters) == (0, 2)


def test_conditions_lists_conv_and_linear_layers_in_order():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    assert [layer.name for layer in conditions(model)] == ["0.weight", "3.weight"]
