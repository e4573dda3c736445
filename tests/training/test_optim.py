import pytest
from torch import nn

from tscnc_deploy.recipe import Train
from tscnc_deploy.training.optim import build_optimizer, learning_rate


@pytest.mark.parametrize(
    ("step", "schedule", "expected"),
    [(0, "constant", 1.0), (0, "cosine", 1.0), (50, "cosine", 0.5), (0, "one-cycle", 0.04), (20, "one-cycle", 1.0)],
)
def test_learning_rate(step, schedule, expected):
    assert learning_rate(step, 100, peak=1.0, schedule=schedule, warmup=0.2) == pytest.approx(expected)


def test_norms_and_biases_are_not_decayed():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    decayed, plain = build_optimizer(model, Train(weight_decay=0.1), 0.1).param_groups
    assert (len(decayed["params"]), decayed["weight_decay"]) == (1, 0.1)
    assert (len(plain["params"]), plain["weight_decay"]) == (3, 0.0)
