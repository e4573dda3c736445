from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from tscnc_deploy.tscnc import Masks, conditions, exclude_layers, layer_weights, prunable_weights, unprunable_parameters


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


def shapes(model: nn.Module) -> dict[str, list[int]]:
    return {name: list(weight.shape) for name, weight in prunable_weights(model).items()}


def test_convolutions_of_all_dimensions_and_transposed_ones_are_prunable():
    model = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.Conv2d(4, 6, 3, groups=2), nn.Conv3d(6, 2, 1), nn.ConvTranspose1d(2, 8, 5),
        nn.ConvTranspose2d(8, 3, 2), nn.ConvTranspose3d(3, 4, 2), nn.Linear(4, 5),
    )  # fmt: skip
    assert shapes(model) == {
        "0.weight": [4, 2, 3],
        "1.weight": [6, 2, 3, 3],
        "2.weight": [2, 6, 1, 1, 1],
        "3.weight": [2, 8, 5],
        "4.weight": [8, 3, 2, 2],
        "5.weight": [3, 4, 2, 2, 2],
        "6.weight": [5, 4],
    }


def test_a_transposed_convolution_has_the_singular_values_of_its_adjoint():
    layer = nn.ConvTranspose2d(3, 5, 1, bias=False)
    sigma = torch.linalg.svdvals(layer.weight[:, :, 0, 0])
    (found,) = conditions(layer)
    assert abs(found.spectral_norm / float(sigma[0].detach()) - 1) < 1e-6


def test_projections_of_attention_are_prunable():
    packed = nn.MultiheadAttention(8, 2)
    assert shapes(packed) == {"in_proj_weight": [24, 8], "out_proj.weight": [8, 8]}
    assert sorted(unprunable_parameters(packed)) == ["in_proj_bias", "out_proj.bias"]
    apart = nn.MultiheadAttention(8, 2, kdim=4, vdim=6)
    assert shapes(apart) == {
        "q_proj_weight": [8, 8],
        "k_proj_weight": [8, 4],
        "v_proj_weight": [8, 6],
        "out_proj.weight": [8, 8],
    }


def test_a_shared_weight_is_counted_once():
    assert shapes(Tied()) == {"first.weight": [6, 6]}


def test_what_is_not_prunable_is_listed():
    model = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 2), nn.PReLU())
    assert list(prunable_weights(model)) == ["2.weight"]
    assert list(unprunable_parameters(model)) == ["0.weight", "1.weight", "1.bias", "2.bias", "3.weight"]


def test_masks_reach_weights_under_parametrisations_that_keep_zeros():
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(2, 3, 3)), parametrizations.spectral_norm(nn.Linear(7, 4))
    )
    assert shapes(model) == {"0.weight": [3, 2, 3, 3], "1.weight": [4, 7]}
    masks = {name: torch.rand_like(weight) < 0.5 for name, weight in prunable_weights(model).items()}
    for mask in masks.values():
        mask.view(len(mask), -1)[:, 0] = True
    Masks(masks).apply_(model)
    model.eval()
    for name, weight in layer_weights(model).items():
        assert ((weight != 0) == masks[name]).all(), name
    assert [layer.sparsity for layer in conditions(model)] == [
        1 - int(mask.sum()) / mask.numel() for mask in masks.values()
    ]


def test_a_weight_whose_parametrisation_fills_zeros_is_not_prunable():
    class Centred(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight - weight.mean(1, keepdim=True)

    layer = nn.Linear(6, 3)
    parametrize.register_parametrization(layer, "weight", Centred())
    assert prunable_weights(layer) == {}
    assert prunable_weights(parametrizations.orthogonal(nn.Linear(6, 6))) == {}


def test_asking_does_not_change_the_state_of_spectral_norm():
    layer = parametrizations.spectral_norm(nn.Linear(7, 4)).train()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    prunable_weights(nn.ModuleList([layer]))
    changed = [name for name, value in layer.state_dict().items() if not value.equal(before[name])]
    # The shape of the weight is known only after it was computed once, which is a step of its power iteration.
    assert [name for name in changed if "original" in name] == []


def test_excluded_layers_stay_excluded_in_copies():
    model = nn.Sequential(nn.Linear(3, 4), nn.MultiheadAttention(4, 2))
    exclude_layers(model, ["0.weight", "1.in_proj_weight"])
    assert list(prunable_weights(copy.deepcopy(model))) == ["1.out_proj.weight"]
    assert "0.weight" in unprunable_parameters(model)
