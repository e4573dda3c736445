import pytest
import torch

from tscnc_deploy.pipeline.cost import estimate, probe_rate
from tscnc_deploy.recipe import Recipe


def recipe(**sections):
    return Recipe.model_validate({"name": "r", **sections})


def test_passes_are_counted_from_the_recipe():
    settings = recipe(
        train={"epochs": 2, "inner_steps": 3, "validation_steps": 1},
        prune={"epochs": 1, "criterion": "magnitude"},
        finetune={"epochs": 0},
        verify={
            "attacks": ["fgsm", "pgd-10x2", "square-100"],
            "engine_attacks": ["pgd-5"],
            "measures": ["corruptions"],
        },
    )
    cost = estimate(settings, per_image=10, parameters=100, images=(1000, 100, 50), pixels=64)
    # A TRADES step: the clean target, 3 inner steps there and back, then clean and adversarial forward and backward.
    assert cost.multiply_adds["train"] == 10 * 2 * (1000 * (1 + 3 * 2 + 2 * 3) + 100 * (2 + 2))
    assert cost.multiply_adds["finetune"] == 0
    assert cost.multiply_adds["verify"] == 10 * 50 * (2 * (2 + 40 + 100) + 71)
    assert cost.multiply_adds["reverify"] == 10 * 50 * (10 + 71)


def test_seconds_follow_the_rate():
    cost = estimate(recipe(), per_image=1, parameters=1, images=(10, 10, 10), pixels=1)
    assert cost.seconds(2.0)["train"] == pytest.approx(cost.multiply_adds["train"] / 2)


def test_the_probe_measures_this_machine():
    assert 1e7 < probe_rate(torch.device("cpu")) < 1e14
