from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.robustness.victims import ModuleEngine, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import PGD, BlackBoxVictim, EOTVictim, ModelVictim, Square, Threat, evaluate
from tscnc_deploy.robustness.eot import randomness


class Noisy(nn.Module):
    """A model whose input is shaken at every call."""

    def __init__(self, inner: nn.Module, size: float):
        super().__init__()
        self.inner = inner
        self.generator = torch.Generator().manual_seed(0)
        self.size = size
        self.eval()

    def forward(self, images):
        return self.inner(images + self.size * torch.randn(images.shape, generator=self.generator))


def test_a_randomised_victim_is_refused():
    model, images, labels, _ = linear(2, 10)
    with pytest.raises(InputError, match=r"differ between two calls on the same images, by 0\.[0-9]+ of .* EOTVictim"):
        evaluate(ModelVictim(Noisy(model, 0.1)), images, labels, Threat(epsilon=0.1), [PGD(5)])
    engine = BlackBoxVictim(ModuleEngine(Noisy(model, 0.1), (1, 4, 4), 2))
    with pytest.raises(InputError, match="EOTVictim"):
        evaluate(engine, images, labels, Threat(epsilon=0.1), [Square(5)])


def test_what_rounding_changes_is_no_randomness():
    model, images, labels, _ = linear(2, 10)
    assert randomness(ModelVictim(model), images) == 0
    assert 0 < randomness(ModelVictim(Noisy(model, 1e-7)), images) < 1e-5
    evaluate(ModelVictim(Noisy(model, 1e-7)), images, labels, Threat(epsilon=0.1), [PGD(2)])


def test_the_expectation_is_the_mean_of_logits_and_of_gradients():
    model, images, _, _ = linear(3, 4)
    victim = EOTVictim(ModelVictim(Noisy(model, 0.1)), samples=2000)
    exact = model(images).detach()
    # The logits of one call vary by 0.1 * |weight|, about 0.4.
    torch.testing.assert_close(victim.logits(images), exact, rtol=0, atol=0.05)
    points = images.clone().requires_grad_()
    logits = victim.differentiable(points)
    torch.testing.assert_close(logits.detach(), exact, rtol=0, atol=0.05)
    (slope,) = torch.autograd.grad(logits[:, 2].sum(), points)
    torch.testing.assert_close(slope, model.weight[2].detach().expand(4, 1, 4, 4), rtol=1e-4, atol=1e-4)


def test_the_expectation_of_a_random_model_is_evaluated_on_request():
    model, images, labels, distances = linear(2, 30)
    threat = Threat(epsilon=distances.median().item())
    result = evaluate(EOTVictim(ModelVictim(Noisy(model, 0.05)), 64), images, labels, threat, [PGD(10)])
    assert not result.robust_mask[distances < 0.8 * threat.epsilon].any()
    assert result.robust_mask[distances > 1.2 * threat.epsilon].all()


def test_it_has_what_its_victim_has():
    model, images, labels, _ = linear(2, 3)
    engine = EOTVictim(BlackBoxVictim(ModuleEngine(model, (1, 4, 4), 2)), 3)
    assert not engine.has_gradient
    torch.testing.assert_close(engine.logits(images), model(images).detach())
    with pytest.raises(InputError, match="needs gradients"):
        evaluate(engine, images, labels, Threat(epsilon=0.1), [PGD(5)])
    with pytest.raises(InputError, match="EOTVictim: samples = 0"):
        EOTVictim(ModelVictim(model), 0)
