from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch

from tests.robustness.victims import linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import FGSM, PGD, ModelVictim, Replay, accuracy_curve


@dataclass(frozen=True)
class NearOnly:
    """FGSM that gives up beyond an epsilon, as no attack should."""

    reach: float

    name = "near-only"
    needs_gradient = True

    def settings(self):
        return {"reach": self.reach}

    def run(self, victim, images, labels, threat, noise):
        return FGSM().run(victim, images, labels, threat, noise) if threat.epsilon <= self.reach else images.clone()


def test_the_curve_of_a_linear_model_is_known_exactly():
    model, images, labels, distances = linear(2, 60)
    epsilons = [distances.quantile(share).item() * 1.0001 for share in (0.1, 0.5, 0.9)]
    curve = accuracy_curve(ModelVictim(model), images, labels, epsilons, [PGD(3)])
    assert curve.clean.correct == 60
    assert list(curve.robust) == epsilons
    for epsilon in epsilons:
        assert torch.equal(curve.masks[epsilon], distances > epsilon)
        assert curve.robust[epsilon].correct == int((distances > epsilon).sum())


def test_what_fell_at_a_small_epsilon_stays_fallen():
    model, images, labels, distances = linear(2, 60)
    near, far = distances.median().item() * 1.0001, distances.max().item() * 1.1
    curve = accuracy_curve(ModelVictim(model), images, labels, [near, far], [NearOnly(near)])
    assert torch.equal(curve.masks[far], distances > near)
    alone = accuracy_curve(ModelVictim(model), images, labels, [far], [NearOnly(near)])
    assert alone.robust[far].correct == 60


def test_replayed_examples_may_be_among_the_attacks():
    model, images, labels, distances = linear(2, 20)
    curve = accuracy_curve(ModelVictim(model), images, labels, [0.01, 0.02], [Replay(images), FGSM()])
    assert curve.robust[0.02].correct == int((distances > 0.02).sum())


def test_json_holds_one_point_per_epsilon():
    model, images, labels, _ = linear(2, 6)
    steps = []
    curve = accuracy_curve(
        ModelVictim(model), images, labels, [0.01, 0.5], [FGSM()], seed=4, progress=lambda *step: steps.append(step)
    )
    document = json.loads(json.dumps(curve.record.to_json()))
    assert list(document) == ["norm", "clean", "curve", "settings"]
    assert [list(point) for point in document["curve"]] == [
        ["correct", "total", "accuracy", "low", "high", "epsilon"]
    ] * 2
    assert document["curve"][1]["correct"] == 0
    assert document["settings"] == {"fgsm": {"loss": "cross-entropy", "seed": 4}}
    assert steps[0] == ("epsilon 0.01, clean", 6, 6)


@pytest.mark.parametrize("epsilons", [[], [0.1, 0.1], [0.2, 0.1]])
def test_epsilons_must_rise(epsilons):
    model, images, labels, _ = linear(2, 4)
    with pytest.raises(InputError, match="are not one or more increasing radii"):
        accuracy_curve(ModelVictim(model), images, labels, epsilons, [FGSM()])


def test_an_epsilon_out_of_range_is_refused_before_anything_is_attacked():
    model, images, labels, _ = linear(2, 4)
    with pytest.raises(InputError, match="8/255"):
        accuracy_curve(
            ModelVictim(model), images, labels, [0.01, 8], [FGSM()], progress=lambda *_: pytest.fail("it was attacked")
        )
