from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.robustness.agreement import assert_same_points
from tests.robustness.victims import Constant, Quantised, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import PGD, HopSkipJump, ModelVictim, Noise, Threat, evaluate, parse_attack


class Counted(ModelVictim):
    """Counts the images it is asked about."""

    asked = 0

    def logits(self, images):
        self.asked += len(images)
        return super().logits(images)

    def differentiable(self, images):
        if torch.is_grad_enabled():
            raise AssertionError("asked for a gradient")
        return super().differentiable(images)


class PredictionsOnly(ModelVictim):
    """One-hot logits."""

    def logits(self, images):
        logits = super().logits(images)
        return F.one_hot(logits.argmax(1), logits.shape[1]).float() * 7 - 3


def run(victim, images, labels, threat, queries, indices=None):
    noise = Noise(0, torch.arange(len(images)) if indices is None else indices, "hopskipjump")
    return HopSkipJump(queries).run(victim, images, labels, threat, noise)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_it_breaks_what_can_be_broken_of_a_linear_model_and_nothing_else(norm):
    model, images, labels, distances = linear(2, 40, norm=norm)
    # No image lies so near to this radius that its side of it is a matter of a few more queries.
    order = distances.sort().values
    middle = order[10:30].diff().argmax() + 10
    threat = Threat(norm=norm, epsilon=(order[middle] + order[middle + 1]).item() / 2)
    standing = evaluate(ModelVictim(model), images, labels, threat, [HopSkipJump(4000)]).robust_mask
    assert standing.tolist() == (distances > threat.epsilon).tolist()


def test_it_finds_the_nearest_points_of_several_classes():
    model, images, labels, distances = linear(5, 30)
    threat = Threat(epsilon=distances.median().item())
    standing = evaluate(ModelVictim(model), images, labels, threat, [HopSkipJump(3000)]).robust_mask
    assert standing[distances > threat.epsilon].all()
    assert not standing[distances < 0.7 * threat.epsilon].any()


def test_more_queries_break_more(digits):
    model, images, labels = digits
    attacks = [HopSkipJump(50), HopSkipJump(300), HopSkipJump(2000), PGD(20)]
    result = evaluate(ModelVictim(model), images[:60], labels[:60], Threat(epsilon=0.2), attacks)
    few, some, many, gradients = (result.attacks[attack.name].correct for attack in attacks)
    assert result.clean.correct > few > some > many >= gradients


@pytest.mark.parametrize("queries", [1, 2, 30, 151, 400])
def test_no_image_costs_more_than_its_queries(queries):
    model, images, labels, distances = linear(2, 6)
    threat = Threat(epsilon=0.3 * distances.min().item())
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        victim = Counted(model)
        run(victim, image, label, threat, queries)
        assert 0 < victim.asked <= queries
        assert victim.asked > queries - 150


def test_an_image_that_no_noise_flips_is_given_up():
    victim = Counted(Constant([1.0, 0.0]))
    images = torch.full((3, 1, 4, 4), 0.5)
    found = run(victim, images, torch.zeros(3, dtype=torch.int64), Threat(epsilon=0.1), 1000)
    assert victim.asked == 3 * 50
    assert torch.equal(found, images)


def test_only_predictions_are_used():
    model, images, labels, distances = linear(4, 10)
    threat = Threat(epsilon=distances.median().item())
    known = run(ModelVictim(model), images, labels, threat, 600)
    assert torch.equal(run(PredictionsOnly(model), images, labels, threat, 600), known)


def test_results_do_not_depend_on_batches_or_order():
    model, images, labels, distances = linear(4, 20)
    threat = Threat(epsilon=distances.median().item())
    whole = run(ModelVictim(model), images, labels, threat, 700)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    for batch in order.split(7):
        part = run(ModelVictim(model), images[batch], labels[batch], threat, 700, batch)
        assert_same_points(part, whole[batch], threat.epsilon)


def test_points_stay_in_the_ball_and_nothing_given_is_written_to():
    model, images, labels, distances = linear(3, 12)
    before = images.clone()
    threat = Threat(epsilon=distances.median().item())
    found = run(ModelVictim(model), images, labels, threat, 300)
    assert (found.double() - images.double()).abs().max() <= threat.epsilon
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(images, before)


def test_masked_gradients_do_not_stop_it():
    model, images, labels, distances = linear(2, 30, shape=(1, 8, 8))
    near = distances < distances.median()
    images, labels, distances = images[near], labels[near], distances[near]
    masked = ModelVictim(Quantised(model, levels=1000))
    threat = Threat(epsilon=1.5 * distances.max().item() + 1e-3)
    result = evaluate(masked, images, labels, threat, [PGD(10), HopSkipJump(3000)])
    assert result.attacks["pgd-10"].correct > 5
    assert result.attacks["hopskipjump-3000"].correct == 0


def test_its_name_says_its_queries():
    assert parse_attack("hopskipjump-1500") == HopSkipJump(1500)
    assert HopSkipJump(1500).name == "hopskipjump-1500"
    with pytest.raises(InputError, match="hopskipjump: queries = 0"):
        HopSkipJump(0)
