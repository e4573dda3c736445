from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.robustness.victims import Constant, Linear, ModuleEngine, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import PGD, BlackBoxVictim, EngineVictim, ModelVictim, Noise, Threat


def test_a_model_with_a_part_in_train_mode_is_refused_by_name():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16)).eval()
    model[1].train()
    with pytest.raises(InputError, match="1 is in train mode"):
        ModelVictim(model)


def test_a_model_set_to_train_mode_later_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16)).eval()
    victim = ModelVictim(model)
    model.train()
    with pytest.raises(InputError, match="train mode"):
        victim.logits(torch.rand(2, 1, 4, 4))


def test_a_model_is_not_changed():
    model, images, _, _ = linear(2, 3)
    victim = ModelVictim(model)
    assert not victim.logits(images).requires_grad
    assert victim.differentiable(images).requires_grad
    assert model.weight.requires_grad
    assert model.weight.grad is None


def test_an_engine_beside_its_twin_has_the_engines_logits_to_the_bit_and_the_twins_gradient():
    twin, images, _, _ = linear(3, 4, shape=(1, 2, 2))
    other, _, _, _ = linear(3, 4, seed=1, shape=(1, 2, 2))
    # Logits of very different sizes, where twin + (engine - twin) would round.
    engine = ModuleEngine(Linear(other.weight.detach() * 1e-4, other.bias.detach() * 1e-4), (1, 2, 2), 3)
    victim = EngineVictim(engine, twin)
    points = images.clone().requires_grad_()
    logits = victim.differentiable(points)
    assert logits.detach().numpy().tobytes() == engine.logits(images.numpy()).tobytes()
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), points)
    torch.testing.assert_close(gradient, twin.weight[1].detach().expand(4, 1, 2, 2))


def test_an_engine_alone_answers_but_gives_no_gradient():
    model, images, labels, _ = linear(2, 3)
    victim = BlackBoxVictim(ModuleEngine(model, (1, 4, 4), 2))
    torch.testing.assert_close(victim.logits(images), model(images).detach())
    with pytest.raises(InputError, match="has no gradient"):
        PGD(3).run(victim, images, labels, Threat(epsilon=0.1), Noise(0, torch.arange(3), "pgd"))


def test_an_engine_that_answers_in_another_shape_is_refused():
    victim = BlackBoxVictim(ModuleEngine(Constant([0.0, 1.0]), (1, 4, 4), 3))
    with pytest.raises(InputError, match=r"\[5, 2\] instead of \[5, 3\]"):
        victim.logits(torch.rand(5, 1, 4, 4))
