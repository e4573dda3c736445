from __future__ import annotations

import torch

from tscnc_deploy.tscnc import complete_2_4


def complete(weight, **options):
    weight = torch.tensor(weight)
    masks, (cost,) = complete_2_4({"w": weight != 0}, {"w": weight.abs()}, **options)
    return masks["w"].int().tolist(), cost


def test_the_smallest_excess_weight_of_a_group_goes_and_its_cost_is_counted():
    mask, cost = complete([[0.1, -0.9, 0.3, 0.5, 0.0, 0.2, 0.0, 0.0]])
    assert mask == [[0, 1, 0, 1, 0, 1, 0, 0]]
    assert (cost.completed, cost.groups, cost.excess_groups) == (True, 2, 1)
    assert (cost.nonzero, cost.dropped, cost.regrown) == (5, 2, 0)
    assert abs(cost.saliency_lost - 0.4 / 2.0) < 1e-6


def test_a_mask_that_complies_is_not_touched():
    mask, cost = complete([[0.0, -0.9, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    assert mask == [[0, 1, 0, 1], [0, 0, 0, 0]]
    assert (cost.dropped, cost.excess_groups, cost.saliency_lost) == (0, 0, 0.0)


def test_groups_lie_along_the_input_channels_of_a_convolution():
    weight = torch.zeros(1, 4, 1, 2)
    weight[0, :, 0, 0] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    weight[0, 0, 0, 1] = 1.0
    masks, (cost,) = complete_2_4({"w": weight != 0}, {"w": weight})
    assert masks["w"][0, :, 0, 0].tolist() == [True, True, False, False]
    assert masks["w"][0, :, 0, 1].tolist() == [True, False, False, False]
    assert (cost.groups, cost.dropped) == (2, 2)


def test_regrown_weights_keep_the_count_where_there_is_room_and_never_return_to_a_full_group():
    weight = [[0.1, -0.9, 0.3, 0.5, 0.0, 0.2, 0.0, 0.0]]
    scores = torch.tensor([[9.0, 9, 9, 9, 0.3, 0.1, 0.7, 0.5]])
    mask, cost = complete(weight, regrow={"w": scores})
    assert mask == [[0, 1, 0, 1, 0, 1, 1, 0]]
    assert (cost.dropped, cost.regrown) == (2, 1)


def test_layers_that_cannot_be_grouped_or_are_narrow_are_left_alone():
    mask, cost = complete([[1.0, 1.0, 1.0]])
    assert (mask, cost.completed, cost.groups) == ([[1, 1, 1]], False, 0)
    mask, cost = complete([[1.0, 1.0, 1.0, 0.0]], least_channels=2)
    assert (mask, cost.completed, cost.excess_groups, cost.dropped) == ([[1, 1, 1, 0]], False, 1, 0)


def test_no_filter_dies_of_it():
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(32, 64, 3, 3, generator=generator) < 0.3
    completed, (cost,) = complete_2_4({"w": mask}, {"w": torch.rand(mask.shape, generator=generator)})
    assert (completed["w"].movedim(1, -1).reshape(-1, 4).sum(1) <= 2).all()
    assert (completed["w"] <= mask).all()
    assert completed["w"].flatten(1).any(1).all()
    assert cost.dropped == int(mask.sum() - completed["w"].sum()) > 0
