from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.robustness.test_masking import Scaled
from tests.robustness.victims import ModuleEngine, Quantised
from tscnc_deploy.robustness import APGDCE, BlackBoxVictim, EngineVictim, ModelVictim, Square, Threat, evaluate
from tscnc_deploy.robustness.attacks.base import gradient
from tscnc_deploy.robustness.losses import cross_entropy
from tscnc_deploy.robustness.precise import precise
from tscnc_deploy.robustness.stronger import stronger_attacks

THREAT = Threat(epsilon=0.1)


class Single(nn.Module):
    """Refuses what is not float32."""

    def forward(self, images):
        assert images.dtype == torch.float32
        return images.flatten(1)[:, :3]


@pytest.mark.parametrize("factor", [2.0**-140, 2.0**-60, 1.0, 1e4])
def test_the_gradient_is_that_of_the_network_whatever_its_scale(digits, factor):
    model, images, labels = digits
    found = precise(ModelVictim(Scaled(model, factor)), images)
    assert found.logits(images).dtype == torch.float32
    best = found.logits(images).topk(2).values
    assert (best[:, 0] - best[:, 1]).median() == pytest.approx(1, rel=0.05)
    slope = gradient(found, images, labels, cross_entropy)[2]
    expected = gradient(precise(ModelVictim(model), images), images, labels, cross_entropy)[2]
    assert torch.allclose(slope, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_an_engine_has_that_of_its_twin(digits):
    model, images, _ = digits
    victim = EngineVictim(ModuleEngine(Quantised(model, levels=16), (1, 8, 8), 10), model)
    own = precise(ModelVictim(model), images)
    assert torch.equal(precise(victim, images).logits(images), own.logits(images))
    assert next(model.parameters()).dtype == torch.float32


def test_where_there_is_none():
    assert precise(BlackBoxVictim(ModuleEngine(Single().eval(), (1, 2, 2), 3)), torch.rand(4, 1, 2, 2)) is None
    assert precise(ModelVictim(Single().eval()), torch.rand(4, 1, 2, 2)) is None


def test_logits_of_one_value_are_not_scaled():
    victim = precise(ModelVictim(Scaled(nn.Flatten(), 0.0)), torch.rand(4, 1, 2, 2))
    assert victim.scale == 1


def test_a_gradient_that_vanishes_in_float32_protects_nothing(digits):
    """The largest margin is about 1e-40: less than float32's smallest normal number."""
    model, images, labels = digits
    hidden = ModelVictim(Scaled(model, 2.0**-136))
    alone = evaluate(hidden, images, labels, THREAT, [APGDCE(20)]).robust.correct
    tried = [Square(2000)]
    found = stronger_attacks(["zero-gradients"], tried, hidden, images, labels, THREAT)
    assert [attack.name for attack in found] == ["float64-apgd", "hopskipjump-500"]
    left = evaluate(hidden, images, labels, THREAT, found[:1]).robust.correct
    honest = evaluate(ModelVictim(model), images, labels, THREAT, [APGDCE(20)]).robust.correct
    assert alone > honest + 15
    assert left <= honest + 5
