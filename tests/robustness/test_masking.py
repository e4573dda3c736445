from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.robustness.victims import ModuleEngine, Quantised, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.record import MaskingWarning
from tscnc_deploy.robustness import (
    FGSM,
    PGD,
    BlackBoxVictim,
    EngineVictim,
    EOTVictim,
    ModelVictim,
    Replay,
    Square,
    Threat,
    check_masking,
    evaluate,
)

THREAT = Threat(epsilon=0.1)


class Scaled(nn.Module):
    def __init__(self, inner, factor):
        super().__init__()
        self.inner = inner
        self.factor = factor
        self.eval()

    def forward(self, images):
        return self.inner(images) * self.factor


class Dropout(nn.Module):
    """Drops pixels in eval mode too."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.eval()

    def forward(self, images):
        return self.inner(F.dropout(images, 0.2, training=True))


class Broken(nn.Module):
    """Logits that are right and a gradient that is NaN, as of a square root at 0."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.eval()

    def forward(self, images):
        return self.inner(images) + torch.sqrt((images - images.detach()).sum((1, 2, 3)))[:, None]


def names(warnings):
    return [warning.name for warning in warnings]


def test_a_small_network_raises_no_warnings(digits):
    model, images, labels = digits
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    victims = [ModelVictim(model), EngineVictim(ModuleEngine(model, (1, 8, 8), 10), model)]
    for victim in victims:
        assert check_masking(victim, images, labels, THREAT, surrogate=ModelVictim(other)) == []


def test_no_warnings_in_l2(digits):
    model, images, labels = digits
    assert check_masking(ModelVictim(model), images[:50], labels[:50], Threat(norm="L2", epsilon=0.5)) == []


def test_masked_gradients_raise_every_sign_of_it(digits):
    model, images, labels = digits
    masked = ModelVictim(Quantised(model, levels=16))
    warnings = check_masking(masked, images, labels, THREAT, surrogate=ModelVictim(model))
    assert names(warnings) == [
        "zero-gradients",
        "no-gradients",
        "gradient-free-stronger",
        "epsilon-doubled",
        "epsilon-whole",
        "transfer-stronger",
    ]
    zero, _, free, *_ = warnings
    assert zero.figure == 1.0
    assert zero.limit == 0.01
    correct = evaluate(masked, images, labels, THREAT, [FGSM()]).clean.correct
    assert zero.message.startswith(f"on {correct} of {correct} correctly classified images the gradient of the loss is")
    assert 0.02 == free.limit < 0.1 < free.figure < 1
    assert json.loads(json.dumps(free.to_json())) == {
        "name": "gradient-free-stronger",
        "figure": free.figure,
        "limit": 0.02,
        "message": free.message,
    }


def test_without_a_surrogate_nothing_is_said_about_transfer(digits):
    model, images, labels = digits
    warnings = check_masking(ModelVictim(Quantised(model, levels=16)), images, labels, THREAT, steps=5, queries=50)
    assert "transfer-stronger" not in names(warnings)


def test_logits_so_large_that_cross_entropy_has_no_gradient_raise_it(digits):
    model, images, labels = digits
    warnings = check_masking(ModelVictim(Scaled(model, 1e4)), images, labels, THREAT)
    assert "zero-gradients" in names(warnings)
    # In float64 there is one.
    assert "no-gradients" not in names(warnings)
    assert "epsilon-doubled" in names(warnings)
    # The difference of logits ratio does not see the scale.
    assert "gradient-free-stronger" not in names(warnings)


def test_gradients_that_are_not_finite_raise_it():
    model, images, labels, _ = linear(2, 20)
    (zero, *_) = check_masking(ModelVictim(Broken(model)), images, labels, Threat(epsilon=0.01))
    assert (zero.name, zero.figure) == ("zero-gradients", 1.0)


def test_the_attacks_of_the_evaluation_are_held_against_each_other():
    model, images, labels, distances = linear(2, 40, shape=(1, 8, 8))
    masked = ModelVictim(Quantised(model, levels=1000))
    threat = Threat(epsilon=1.3 * distances.max().item() + 1e-3)
    for cascade in (False, True):
        evaluation = evaluate(masked, images, labels, threat, [PGD(5), Square(300)], cascade=cascade)
        own = int((evaluation.robust_by_attack["pgd-5"] & ~evaluation.robust_by_attack["square-300"]).sum())
        assert own > 10
        (warning,) = (
            warning
            for warning in check_masking(masked, images, labels, threat, evaluation)
            if warning.name == "gradient-free-stronger"
        )
        assert warning.figure == own / 40
        assert warning.message.startswith(f"on {own} of 40 correctly classified images a search without gradients")


def test_what_a_cascade_kept_from_the_gradient_attacks_says_nothing():
    model, images, labels, distances = linear(2, 40)
    threat = Threat(epsilon=distances.median().item() * 1.2)
    evaluation = evaluate(ModelVictim(model), images, labels, threat, [Square(300), PGD(10)], cascade=True)
    assert evaluation.attacks["square-300"].correct < 30
    assert check_masking(ModelVictim(model), images, labels, threat, evaluation) == []


def test_what_a_replay_kept_from_the_gradient_attacks_says_nothing():
    model, images, labels, distances = linear(2, 40)
    threat = Threat(epsilon=distances.median().item() * 1.2)
    victim = ModelVictim(model)
    found = Replay(evaluate(victim, images, labels, threat, [PGD(10)]).adversarial)
    evaluation = evaluate(victim, images, labels, threat, [found, PGD(10)], cascade=True)
    assert evaluation.robust_mask.sum() < 20
    assert check_masking(victim, images, labels, threat, evaluation) == []


def test_replays_are_no_search_without_gradients():
    model, images, labels, distances = linear(2, 40)
    threat = Threat(epsilon=distances.median().item() * 1.2)
    attacks = [PGD(10), Replay(1 - images)]
    evaluation = evaluate(ModelVictim(model), images, labels, threat, attacks)
    assert check_masking(ModelVictim(model), images, labels, threat, evaluation) == []


def test_random_logits_are_all_that_is_said_of_a_random_model(digits):
    model, images, labels = digits
    (warning,) = check_masking(ModelVictim(Dropout(model)), images, labels, THREAT)
    assert warning.name == "random-logits"
    assert warning.figure > 0.05 > warning.limit == 1e-3
    assert f"by {warning.figure:.3g} of the largest one" in warning.message


def test_the_expectation_of_a_random_model_is_checked_for_masking(digits):
    model, images, labels = digits
    victim = EOTVictim(ModelVictim(Dropout(model)), 4)
    assert "random-logits" not in names(check_masking(victim, images[:40], labels[:40], THREAT, steps=5, queries=20))


def test_an_engine_alone_is_only_checked_for_being_random(digits):
    model, images, labels = digits
    engine, random = (BlackBoxVictim(ModuleEngine(part, (1, 8, 8), 10)) for part in (model, Dropout(model)))
    assert check_masking(engine, images, labels, THREAT) == []
    assert names(check_masking(random, images, labels, THREAT)) == ["random-logits"]


def test_it_works_inside_inference_mode():
    model, images, labels, _ = linear(2, 10)
    with torch.inference_mode():
        assert check_masking(ModelVictim(model), images.clone(), labels.clone(), THREAT) == []


def test_an_evaluation_of_other_images_is_refused():
    model, images, labels, _ = linear(2, 6)
    evaluation = evaluate(ModelVictim(model), images[:4], labels[:4], THREAT, [FGSM()])
    with pytest.raises(InputError, match="the evaluation is of 4 images, but 6 images are given"):
        check_masking(ModelVictim(model), images, labels, THREAT, evaluation)


def test_a_warning_is_its_figure_its_limit_and_what_it_means():
    assert MaskingWarning(name="n", figure=0.5, limit=0.1, message="m").to_json() == {
        "name": "n",
        "figure": 0.5,
        "limit": 0.1,
        "message": "m",
    }
