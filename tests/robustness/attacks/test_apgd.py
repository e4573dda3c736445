"""What is special to APGD: its losses, its targets, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from tests.robustness.victims import Constant, Linear, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import APGDCE, APGDDLR, APGDT, CW, FABT, ModelVictim, Noise, Threat, evaluate


class Scaled(nn.Module):
    def __init__(self, inner: nn.Module, scale: float):
        super().__init__()
        self.inner = inner
        self.scale = scale
        self.eval()

    def forward(self, images):
        return self.scale * self.inner(images)


def counting(logits):
    """A constant victim, and the sizes of the batches of which it is asked gradients."""
    calls = []

    class Victim(ModelVictim):
        def differentiable(self, images):
            if torch.is_grad_enabled():
                calls.append(len(images))
            return super().differentiable(images)

    return Victim(Constant(logits)), calls


def test_large_logits_blind_the_cross_entropy_and_no_other_loss(digits):
    model, images, labels = digits
    images, labels, threat = images[:60], labels[:60], Threat(epsilon=0.1)
    plain, large = ModelVictim(model), ModelVictim(Scaled(model, 1e4))
    standing = {}
    for attack in (APGDCE(20), APGDDLR(20), APGDT(20, targets=3), CW(20), FABT(20, targets=3)):
        standing[attack.name] = [
            evaluate(victim, images, labels, threat, [attack]).robust.correct for victim in (plain, large)
        ]
    assert standing["apgd-ce-20"][1] >= standing["apgd-ce-20"][0] + 10
    for name in ("apgd-dlr-20", "apgd-t-20x3", "cw-20", "fab-t-20x3"):
        assert abs(standing[name][1] - standing[name][0]) <= 1
        assert standing[name][1] <= standing["apgd-ce-20"][0] + 4


@pytest.mark.parametrize("classes", [2, 3])
def test_dlr_with_too_few_classes_says_what_to_use(classes):
    model, images, labels, _ = linear(classes, 3)
    with pytest.raises(InputError, match=f"at least 4 classes, not {classes}; use apgd-ce or apgd-t"):
        APGDDLR(5).run(ModelVictim(model), images, labels, Threat(epsilon=0.1), Noise(0, torch.arange(3), "s"))


@pytest.mark.parametrize(("classes", "turns"), [(2, 1), (3, 2), (5, 4), (12, 9)])
def test_there_are_as_many_turns_as_wrong_classes_and_at_most_nine(classes, turns):
    victim, calls = counting([1.0, *[0.0] * (classes - 1)])
    images, labels = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 0])
    APGDT(3).run(victim, images, labels, Threat(epsilon=0.1), Noise(0, torch.arange(2), "s"))
    # Each turn: a gradient at the start and after every step but the last.
    assert calls == [2] * 3 * turns


@pytest.mark.parametrize(("targets", "flips"), [(1, False), (2, True)])
@pytest.mark.parametrize("attack", [APGDT, FABT])
def test_the_second_target_is_reached_where_the_first_leads_astray(attack, targets, flips):
    # Class 1 is likeliest after the label's and out of reach upwards; class 2 is near, downwards.
    weight = torch.zeros(4, 1, 2, 2)
    weight[1], weight[2] = 0.1, -10.0
    model = Linear(weight, torch.tensor([0.0, -1.0, 16.0, -100.0]))
    images, labels = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    assert model(images)[0].argsort(descending=True).tolist() == [0, 1, 2, 3]
    noise = Noise(0, torch.tensor([0]), "s")
    found = attack(10, targets).run(ModelVictim(model), images, labels, Threat(epsilon=0.11), noise)
    assert (model(found).argmax(1) == 2).item() is flips


def test_broken_images_climb_on_to_the_review_of_the_step_size():
    victim, calls = counting([2.0, 1.0, 0.0, 0.0])
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    APGDCE(50, restarts=2).run(
        victim, images, torch.tensor([0, 1, 0]), Threat(epsilon=0.1), Noise(0, torch.arange(3), "s")
    )
    # The first of the reviews is after 11 of 50 steps; the second run sees only what stands.
    assert calls == [3] * 12 + [2] * 38 + [2] * 50


def test_binarised_features_are_broken_because_an_example_exists(digits):
    """The binarisation test of Zimmermann et al., arXiv 2206.13991.

    On top of the features a linear classifier is trained to tell points inside the ball from one on its surface: so an
    adversarial example is known to exist, and an attack that finds none is misclassified.
    """
    model, images, _ = digits
    features, threat = model[:-1], Threat(epsilon=0.1)
    generator = torch.Generator().manual_seed(0)
    misclassified = {attack.name: 0 for attack in (APGDCE(30), APGDT(30), CW(30), FABT(30))}
    for image in images[:8].split(1):
        moves = 0.05 * (2 * torch.rand(200, 1, 8, 8, generator=generator) - 1)
        inner = (image + moves).clamp(0, 1)
        outer = (image + 0.1 * torch.randn(1, 1, 8, 8, generator=generator).sign()).clamp(0, 1)
        with torch.no_grad():
            known = features(torch.cat([inner, image, outer])).double()
        classifier = LogisticRegression(C=1e4, max_iter=2000).fit(known.numpy(), [0] * 201 + [1])
        readout = nn.Linear(known.shape[1], 2)
        with torch.no_grad():
            readout.weight.copy_(
                torch.cat([torch.zeros(1, known.shape[1]), torch.from_numpy(classifier.coef_).float()])
            )
            readout.bias.copy_(torch.tensor([0.0, float(classifier.intercept_[0])]))
        victim = ModelVictim(nn.Sequential(features, readout).eval())
        assert victim.logits(outer).argmax(1).item() == 1
        for attack in (APGDCE(30), APGDT(30), CW(30), FABT(30)):
            result = evaluate(victim, image, torch.tensor([0]), threat, [attack])
            assert result.clean.correct == 1
            misclassified[attack.name] += 1 - result.robust.correct
    assert set(misclassified.values()) == {8}
