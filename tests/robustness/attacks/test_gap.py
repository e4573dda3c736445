from __future__ import annotations

import pytest
import torch

from tests.robustness.victims import Linear, ModuleEngine, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import EngineVictim, Gap, ModelVictim, Threat, evaluate, parse_attack

ROW = (1, 1, 1)


def of_one_pixel(engine_threshold, twin_threshold):
    """Engine and twin that say class 1 above their thresholds; their margins are 10 times the distance to them."""

    def model(threshold):
        return Linear(torch.tensor([-5.0, 5.0]).reshape(2, *ROW), torch.tensor([5.0, -5.0]) * threshold)

    return EngineVictim(ModuleEngine(model(engine_threshold), ROW, 2), model(twin_threshold))


def pixels(*values):
    return torch.tensor(values).reshape(-1, *ROW)


IMAGES = pixels(0.2, 0.35, 0.45, 0.55, 0.65, 0.8)
LABELS = torch.tensor([0, 0, 0, 1, 1, 1])


def test_the_attack_finds_what_only_the_engine_gets_wrong():
    result = evaluate(of_one_pixel(0.44, 0.52), IMAGES, LABELS, Threat(epsilon=0.1), [Gap(20)])
    # 0.45 is wrong as it is; 0.35 reaches the space between the boundaries; 0.55 leaves it only far beyond.
    assert result.correct.tolist() == [True, True, False, True, True, True]
    assert result.robust_mask.tolist() == [True, False, False, True, True, True]
    assert 0.44 < result.adversarial[1].item() <= 0.45


def test_the_attack_counts_points_that_both_get_wrong():
    result = evaluate(of_one_pixel(0.5, 0.5), pixels(0.45), torch.tensor([0]), Threat(epsilon=0.1), [Gap(20)])
    assert result.robust.correct == 0


def test_the_attack_breaks_nothing_that_cannot_be_broken():
    twin, images, labels, distances = linear(5, 40)
    victim = EngineVictim(ModuleEngine(twin, (1, 4, 4), 5), twin)
    threat = Threat(epsilon=distances.median().item())
    assert evaluate(victim, images, labels, threat, [Gap(10)]).robust_mask[distances > threat.epsilon].all()


def test_the_attack_needs_both():
    model, images, labels, _ = linear(2, 2)
    with pytest.raises(InputError, match=r"'gap-5' needs an engine with its twin \(EngineVictim\), not ModelVictim"):
        evaluate(ModelVictim(model), images, labels, Threat(epsilon=0.1), [Gap(5)])


def test_its_name_says_its_steps():
    assert parse_attack("gap-25") == Gap(25)
    assert Gap(25).name == "gap-25"
    with pytest.raises(InputError, match="gap: steps = 0"):
        Gap(0)
