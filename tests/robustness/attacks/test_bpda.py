from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.robustness.victims import ModuleEngine
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import APGDCE, EngineVictim, ModelVictim, Threat, evaluate, parse_attack
from tscnc_deploy.robustness.attacks.base import gradient
from tscnc_deploy.robustness.attacks.bpda import BPDA, _SmoothGates
from tscnc_deploy.robustness.losses import cross_entropy

THREAT = Threat(epsilon=0.1)


class Steps(nn.Module):
    """A network behind 16 steps, made of steep pairs of rectifiers, and a little of the images, so that no gradient
    is zero and hardly any is right."""

    def __init__(self, inner, steepness=1000.0, leak=0.05):
        super().__init__()
        self.inner = inner
        self.steepness, self.leak = steepness, leak
        self.eval()

    def forward(self, images):
        steps = torch.zeros_like(images)
        for level in range(16):
            risen = self.steepness * (images - (level + 0.5) / 16)
            steps = steps + (F.relu(risen) - F.relu(risen - 1)) / 16
        return self.inner((1 - self.leak) * steps + self.leak * (1 - images))


class Every(nn.Module):
    """Every form of a rectifier."""

    def __init__(self):
        super().__init__()
        self.forms = [
            nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardtanh(0, 3), nn.GELU(), nn.GELU("tanh"), torch.relu,
            in_place, F.relu6,
        ]  # fmt: skip
        self.eval()

    def forward(self, images):
        return sum(form((number + 1) * (images - 0.5)) for number, form in enumerate(self.forms)).flatten(1)


def in_place(values):
    return values.clone().relu_()


def test_it_finds_what_steps_hide_from_plain_gradients(digits):
    model, images, labels = digits
    hidden = ModelVictim(Steps(model))
    found = evaluate(hidden, images, labels, THREAT, [APGDCE(20), BPDA(20)]).attacks
    open_model = evaluate(ModelVictim(model), images, labels, THREAT, [APGDCE(20)]).attacks
    assert found["apgd-ce-20"].correct > open_model["apgd-ce-20"].correct + 40
    assert found["bpda-20"].correct < found["apgd-ce-20"].correct - 40


def test_a_network_that_hides_nothing_loses_as_many_images_to_it(digits):
    model, images, labels = digits
    victims = [ModelVictim(model), EngineVictim(ModuleEngine(model, (1, 8, 8), 10), model)]
    for victim in victims:
        found = evaluate(victim, images, labels, THREAT, [APGDCE(20), BPDA(20)]).attacks
        assert abs(found["bpda-20"].correct - found["apgd-ce-20"].correct) <= 10


def test_only_the_backward_pass_is_another():
    model, images = Every(), torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = model(images.clone())
    with _SmoothGates(0.1):
        found = model(images.clone().requires_grad_())
    assert torch.allclose(found, expected)
    assert torch.equal(model(images.clone()), expected)


def test_a_gradient_passes_every_form_of_a_rectifier_that_is_off():
    for form in Every().forms:
        points = torch.full((2, 1, 4, 4), -1.0, requires_grad=True)
        with _SmoothGates(1.0):
            form(points * 1.0).sum().backward()
        # sigmoid(-1), as the root mean square is 1.
        assert torch.allclose(points.grad, torch.full_like(points, 0.2689), atol=0.01), form


def test_gradients_do_not_depend_on_the_other_images(digits):
    model, images, labels = digits
    victim = ModelVictim(model)
    with _SmoothGates(0.1):
        together = gradient(victim, images[:8], labels[:8], cross_entropy)[2]
        alone = torch.cat(
            [gradient(victim, images[row : row + 1], labels[row : row + 1], cross_entropy)[2] for row in range(8)]
        )
    assert torch.allclose(together, alone, rtol=1e-3, atol=1e-6)


def test_values_that_overflow_when_squared_have_a_finite_gradient():
    points = torch.linspace(-1e30, 1e30, 32).reshape(2, 1, 4, 4).requires_grad_()
    with _SmoothGates(0.1):
        F.relu(points).sum().backward()
    assert points.grad.isfinite().all()
    zero = torch.zeros(2, 1, 4, 4, requires_grad=True)
    with _SmoothGates(0.1):
        F.relu(zero).sum().backward()
    assert zero.grad.isfinite().all()


def test_names():
    assert (parse_attack("bpda-20x2"), parse_attack("bpda-20").name) == (BPDA(20, 2), "bpda-20")
    assert BPDA(5).settings() == {"steps": 5, "restarts": 1, "widths": [0.1, 0.3], "losses": ["cross-entropy"]}
    with pytest.raises(InputError, match="bpda: steps = 0"):
        BPDA(0)
