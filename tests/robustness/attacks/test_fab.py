"""FAB finds the exact minimal perturbation where it is known."""

from __future__ import annotations

import pytest
import torch

from tests.robustness.victims import Constant, linear
from tscnc_deploy.robustness import FAB, FABT, ModelVictim, Noise, Threat
from tscnc_deploy.robustness.attacks.base import Ball, likeliest_wrong
from tscnc_deploy.robustness.attacks.fab import approach


def nearest(model, images, labels, norm, steps, targets):
    """The shortest perturbation that targeted FAB finds when no ball stops it."""
    victim, ball = ModelVictim(model), Ball.around(images, Threat(norm=norm, epsilon=1e-9))
    classes = likeliest_wrong(victim, images, labels, targets)
    runs = [approach(victim, steps, ball, images, labels, aims) for aims in classes.T]
    for run in runs:
        met = run.distance < torch.inf
        assert (model(run.nearest[met]).argmax(1) != labels[met]).all()
        torch.testing.assert_close(ball.threat.length(run.nearest[met].double() - images[met]), run.distance[met])
    return torch.stack([run.distance for run in runs]).amin(0)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("classes", [2, 3, 6])
def test_the_perturbation_is_within_one_percent_of_the_exact_minimum(classes, norm):
    model, images, labels, distances = linear(classes, 40, norm=norm)
    found = nearest(model, images, labels, norm, steps=20, targets=9)
    assert (found >= 0.99999 * distances).all()
    assert (found <= 1.01 * distances).all()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_walls_of_the_box_are_respected_and_used(norm):
    model, _, _, _ = linear(2, 1)
    # All pixels that would have to move down stand at 0 already.
    normal = (model.weight[1] - model.weight[0]).detach()
    images = torch.where(normal > 0, 0.5, 0.0)[None]
    with torch.no_grad():
        model.bias.copy_(torch.tensor([1.0, -(normal * images[0]).sum()]))
    positive = normal[normal > 0]
    exact = 1 / positive.sum() if norm == "Linf" else 1 / positive.norm()
    found = nearest(model, images, torch.tensor([0]), norm, steps=30, targets=1)
    assert exact <= found.item() * 1.0001
    assert found.item() <= exact * 1.01


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_without_targets_the_nearest_boundary_is_found_in_one_run(norm):
    model, images, labels, distances = linear(6, 40, norm=norm)
    ball = Ball.around(images, Threat(norm=norm, epsilon=1e-9))
    found = approach(ModelVictim(model), 20, ball, images, labels).distance
    assert (found <= 1.01 * distances).all()


def test_where_nothing_can_be_met_the_distance_is_infinite():
    images, labels = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 0])
    assert nearest(Constant([1.0, 0.0, 0.5]), images, labels, "Linf", steps=5, targets=2).tolist() == [torch.inf] * 2


@pytest.mark.parametrize("attack", [FAB(15), FABT(15)], ids=lambda attack: attack.name)
def test_what_lies_beyond_the_ball_raises_the_loss_in_it(attack):
    model, images, labels, distances = linear(2, 30)
    threat = Threat(epsilon=0.5 * distances.min().item())
    found = attack.run(ModelVictim(model), images, labels, threat, Noise(0, torch.arange(30), "s"))
    before, after = (model(points).detach().diff(dim=1).squeeze(1).abs() for points in (images, found))
    # Half of the way to the nearest boundary is gone, or less for the images that are further away.
    share = (threat.epsilon / distances).float()
    torch.testing.assert_close(after / before, 1 - share, rtol=0.02, atol=0.02)


def test_broken_images_are_left_alone():
    calls = []

    class Victim(ModelVictim):
        def differentiable(self, images):
            calls.append(len(images))
            return super().differentiable(images)

    images, labels = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0])
    victim = Victim(Constant([2.0, 1.0, 0.0]))
    FABT(15).run(victim, images, labels, Threat(epsilon=0.1), Noise(0, torch.arange(3), "fab"))
    # The targets' ranking, ten steps, five steps on what stands, two last looks; then all on the second target.
    assert calls == [3, *[3] * 10, *[2] * 5, 2, 2, *[2] * 15, 2, 2]
