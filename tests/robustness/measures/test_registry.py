from __future__ import annotations

import json
from typing import get_args

import pytest
import torch
from torch import nn

from tests.robustness.agreement import assert_same_figures
from tests.robustness.victims import ModuleEngine, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.recipe.values import Measure
from tscnc_deploy.robustness import MEASURES, BlackBoxVictim, EngineVictim, ModelVictim, Threat, measure

LINF = Threat(epsilon=0.04)


def known():
    """Forty images of a linear model, the distances at which they fall, and three ways to ask it."""
    model, images, labels, distances = linear(2, 40)
    engine = ModuleEngine(model, (1, 4, 4), 2)
    victims = {"model": ModelVictim(model), "engine": EngineVictim(engine, model), "alone": BlackBoxVictim(engine)}
    return victims, images, labels, distances


def test_recipes_know_the_same_names():
    assert get_args(Measure) == MEASURES


@pytest.mark.parametrize("name", MEASURES)
def test_a_model_and_its_engine_get_the_same_figures(name):
    victims, images, labels, _ = known()
    images, labels = images[:6], labels[:6]
    figures = measure(name, victims["model"], images, labels, LINF, seed=3, batch_size=4)
    other = measure(name, victims["engine"], images, labels, LINF, seed=3, batch_size=100)
    assert_same_figures(other.to_json(), figures.to_json())
    text = json.dumps(figures.to_json(), allow_nan=False)
    assert '"seed": 3' in text
    assert '"low"' in text


def test_the_curve_of_a_linear_model_is_exact_around_the_threat():
    victims, images, labels, distances = known()
    figures = measure("curve", victims["model"], images, labels, LINF)
    assert [point.epsilon for point in figures.curve] == pytest.approx([0.01, 0.02, 0.04, 0.06, 0.08, 0.16])
    assert [point.correct for point in figures.curve] == [
        int((distances > point.epsilon).sum()) for point in figures.curve
    ]
    assert figures.settings["apgd-ce-20"]["steps"] == 20


@pytest.mark.slow
def test_an_engine_alone_is_searched_without_gradients():
    victims, images, labels, distances = known()
    figures = measure("curve", victims["alone"], images, labels, LINF)
    assert list(figures.settings) == ["square-500"]
    assert figures.curve[2].correct >= int((distances > 0.04).sum())
    assert figures.curve[5].correct == 0
    figures = measure("smallest-epsilon", victims["alone"], images[:5], labels[:5], LINF)
    assert (figures.largest, figures.settings["attack"]) == (0.16, "square-500")
    with pytest.raises(InputError, match="needs gradients"):
        measure("lipschitz", victims["alone"], images, labels, LINF)


def test_corruptions_and_certificates_need_nothing_but_logits():
    victims, images, labels, _ = known()
    for name in ("corruptions", "smoothing"):
        alone = measure(name, victims["alone"], images[:3], labels[:3], LINF)
        assert alone == measure(name, victims["model"], images[:3], labels[:3], LINF)


def test_no_radius_goes_beyond_what_separates_any_two_images():
    victims, images, labels, _ = known()
    figures = measure("curve", victims["model"], images, labels, Threat(epsilon=0.8))
    assert [point.epsilon for point in figures.curve] == pytest.approx([0.2, 0.4, 0.8, 1.0])
    figures = measure("smallest-epsilon", victims["model"], images, labels, Threat(norm="L2", epsilon=3.0))
    assert figures.largest == 4.0


def test_an_l2_threat_gives_l2_radii_and_a_certifiable_epsilon():
    victims, images, labels, _ = known()
    threat = Threat(norm="L2", epsilon=0.2)
    figures = measure("smoothing", victims["alone"], images, labels, threat)
    assert figures.sigma == 0.1
    assert figures.largest_radius > 0.2
    assert measure("curve", victims["model"], images, labels, threat).norm == "L2"
    # The largest Linf ball in an L2 ball of 16 pixels has a quarter of its radius.
    assert measure("lipschitz", victims["model"], images[:2], labels[:2], threat).epsilon == pytest.approx(0.05)


class Dice(nn.Module):
    """Other logits at every call."""

    def forward(self, images):
        return torch.randn(len(images), 2)


@pytest.mark.parametrize("name", MEASURES)
def test_what_would_give_a_wrong_number_is_refused(name):
    victims, images, labels, _ = known()
    with pytest.raises(InputError, match="must lie in"):
        measure(name, victims["model"], images * 255, labels, LINF)
    with pytest.raises(InputError, match="differ between two calls"):
        measure(name, ModelVictim(Dice().eval()), images, labels, LINF)
    with pytest.raises(InputError, match="batch_size = 0"):
        measure(name, victims["model"], images, labels, LINF, batch_size=0)


def test_an_unknown_name_is_refused_with_the_closest():
    victims, images, labels, _ = known()
    with pytest.raises(InputError) as caught:
        measure("lipshitz", victims["model"], images, labels, LINF)
    assert str(caught.value) == (
        "measure 'lipshitz' is not corruptions, curve, smallest-epsilon, lipschitz or smoothing; "
        "did you mean lipschitz?"
    )


def test_progress_is_passed_on():
    victims, images, labels, _ = known()
    steps = []
    measure("lipschitz", victims["model"], images, labels, LINF, progress=lambda *step: steps.append(step))
    assert steps == [("lipschitz", 40, 40)]
