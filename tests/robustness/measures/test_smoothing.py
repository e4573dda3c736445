from __future__ import annotations

import json
import math

import pytest
import torch
from scipy.stats import binom, norm

from tests.robustness.victims import Constant, Linear, ModuleEngine
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import BlackBoxVictim, certify, clopper_pearson

SIGMA = 0.05


def halfspace(distances):
    """Two classes with a plane between them, and images at signed L2 distances from it; no noise is clipped there."""
    direction = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    direction = direction / direction.norm()
    model = Linear(torch.stack([direction, -direction]), torch.stack([-direction.sum() / 2, direction.sum() / 2]))
    return model, 0.5 + distances[:, None, None, None] * direction


def test_a_constant_classifier_is_certified_as_far_as_the_copies_allow():
    images = torch.rand(3, 1, 4, 4)
    result = certify(Constant([0.0, 1.0, -1.0]), images, torch.tensor([1, 1, 0]), 0.5, n0=5, n=200, alpha=0.01)
    # All of n agree: the lower bound of the probability is alpha ** (1 / n).
    largest = 0.5 * norm.ppf(0.01 ** (1 / 200))
    assert result.radii.tolist() == pytest.approx([largest] * 3)
    assert result.largest_radius == pytest.approx(largest)
    assert result.predictions.tolist() == [1, 1, 1]
    assert result.base.correct == 2
    assert result.certified_accuracy(largest * 0.999).correct == 2
    assert result.certified_accuracy(largest * 1.001).correct == 0


def test_a_linear_classifier_is_certified_for_nearly_its_distance_from_the_boundary():
    distances = torch.linspace(0.005, 0.1, 40)
    model, images = halfspace(distances)
    result = certify(model, images, torch.zeros(40).long(), SIGMA, n0=20, n=4000, batch_size=5000)
    certified = result.predictions == 0
    assert certified[distances > 0.01].all()
    assert (result.radii <= distances + 1e-9).all()
    # The bound of a probability p from 4,000 copies lies about 3.1 standard deviations below it, 5 at most here.
    p = norm.cdf(distances.numpy() / SIGMA)
    least = SIGMA * norm.ppf(p - 6.1 * (p * (1 - p) / 4000) ** 0.5)
    assert (result.radii.numpy() >= least)[distances > 0.01].all()


def test_the_other_side_is_certified_for_the_other_class():
    model, images = halfspace(torch.tensor([-0.06, 0.06]))
    result = certify(model, images, torch.zeros(2).long(), SIGMA, n0=20, n=500)
    assert result.predictions.tolist() == [1, 0]
    assert result.certified_accuracy(0.0).correct == 1
    assert result.base.correct == 1


def test_on_the_boundary_nothing_is_certified():
    model, images = halfspace(torch.zeros(50))
    result = certify(model, images, torch.zeros(50).long(), SIGMA, n0=20, n=500)
    assert result.predictions.tolist() == [-1] * 50
    assert result.radii.tolist() == [0.0] * 50
    assert result.certified_accuracy(0.0).correct == 0
    assert result.record.to_json()["abstained"] == 50


def test_certificates_are_wrong_as_seldom_as_alpha_says():
    distance, alpha, n = 0.03, 0.2, 20
    model, images = halfspace(torch.full((3000,), distance))
    result = certify(model, images, torch.zeros(3000).long(), SIGMA, n0=30, n=n, alpha=alpha, batch_size=30_000)
    # The radius is too large from the count on whose lower bound exceeds the true probability.
    p = norm.cdf(distance / SIGMA)
    excessive = min(k for k in range(n + 1) if clopper_pearson(k, n, 1 - 2 * alpha)[0] > p)
    expected = binom.sf(excessive - 1, n, p)
    assert 0.05 < expected < alpha
    wrong = (result.radii > distance).double().mean().item()
    assert wrong == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 3000))


def test_noise_belongs_to_the_copy_of_the_image():
    model, images = halfspace(torch.linspace(-0.05, 0.05, 12))
    labels = torch.zeros(12).long()
    first = certify(model, images, labels, SIGMA, n0=10, n=90, seed=5)
    others = certify(model, images, labels, SIGMA, n0=10, n=90, seed=5, batch_size=7).radii
    fewer = certify(model, images[:4], labels[:4], SIGMA, n0=10, n=90, seed=5).radii
    torch.testing.assert_close(others, first.radii)
    torch.testing.assert_close(fewer, first.radii[:4])
    assert not torch.equal(first.radii, certify(model, images, labels, SIGMA, n0=10, n=90, seed=6).radii)


def test_engines_get_noisy_images_that_they_accept():
    model, images = halfspace(torch.tensor([-0.2, 0.2]))
    engine = BlackBoxVictim(ModuleEngine(model, (1, 4, 4), 2))
    labels = torch.tensor([1, 0])
    from_engine = certify(engine.logits, images, labels, 1.0, n0=10, n=100)
    assert from_engine.record.to_json() == certify(model, images, labels, 1.0, n0=10, n=100).record.to_json()


def test_json_has_the_curve_with_counts_and_intervals():
    images = torch.rand(4, 1, 2, 2)
    result = certify(Constant([1.0, -1.0]), images, torch.zeros(4).long(), 0.5, n0=5, n=100, seed=2)
    document = json.loads(json.dumps(result.record.to_json()))
    assert list(document) == [
        "sigma",
        "n0",
        "n",
        "alpha",
        "seed",
        "norm",
        "base",
        "abstained",
        "largest_radius",
        "curve",
    ]
    assert [point["radius"] for point in document["curve"]] == [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75]
    assert document["curve"][6] == {
        "radius": 0.75, "correct": 4, "total": 4, "accuracy": 1.0, "low": pytest.approx(0.397635), "high": 1.0,
    }  # fmt: skip
    assert document["largest_radius"] == pytest.approx(0.5 * norm.ppf(0.001**0.01))


def test_progress_counts_noisy_images():
    steps = []
    images, labels = torch.rand(2, 1, 2, 2), torch.zeros(2).long()
    certify(
        Constant([2.0, 0.0]), images, labels, 0.5, n0=5, n=10, batch_size=20, progress=lambda *step: steps.append(step)
    )
    assert steps == [("certify", 20, 30), ("certify", 30, 30)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0.0}, "sigma = 0"),
        ({"sigma": float("nan")}, "sigma = nan"),
        ({"alpha": 0.5}, "alpha = 0.5"),
        ({"n": 0}, "n = 0"),
        ({"n0": -1}, "n0 = -1"),
        ({"batch_size": 0}, "batch_size = 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        certify(Constant([2.0, 0.0]), torch.rand(1, 1, 2, 2), torch.zeros(1).long(), **{"sigma": 0.5, **settings})
