from __future__ import annotations

import pytest

from tscnc_deploy import models
from tscnc_deploy.pipeline.stages.budget import weight_costs
from tscnc_deploy.tscnc import Masks, magnitude, prunable_weights, rank_globally


@pytest.fixture
def model():
    return models.build("resnet18", classes=10, input_shape=(3, 32, 32), mean=[0.5] * 3, std=[0.25] * 3, width=0.25)


def test_costs_by_hand(model):
    assert weight_costs(model, "parameters") is None
    macs, latency = weight_costs(model, "macs"), weight_costs(model, "latency")
    assert list(macs) == list(latency) == list(prunable_weights(model))
    assert (macs["network.conv1.weight"], macs["network.fc.weight"]) == (1024, 1)
    assert latency["network.conv1.weight"] / latency["network.fc.weight"] == pytest.approx(65 / 2)


@pytest.mark.parametrize("budget", ["macs", "latency"])
def test_a_budget_saves_its_share_with_as_many_zeros(model, budget):
    costs, scores = weight_costs(model, budget), magnitude(model)

    def saved(masks):
        total = sum(costs[name] * mask.numel() for name, mask in masks.items())
        return 1 - sum(costs[name] * int(mask.sum()) for name, mask in masks.items()) / total

    plain, priced = rank_globally(scores, 0.9, floor=0.01), rank_globally(scores, 0.9, floor=0.01, costs=costs)
    assert Masks(plain).nonzero == Masks(priced).nonzero
    assert saved(plain) < 0.9 <= saved(priced) < 0.901
