from __future__ import annotations

import json
import math

import pytest
import torch

from tests.robustness.victims import Constant, ModuleEngine, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import FGSM, PGD, BlackBoxVictim, ModelVictim, Square, smallest_epsilons


def test_of_a_linear_model_they_are_the_distances_from_the_boundary():
    model, images, labels, distances = linear(2, 60)
    labels[:3] = 1 - labels[:3]
    victim = ModelVictim(model)
    result = smallest_epsilons(victim, images, labels, FGSM(), 0.25)
    assert result.epsilons[:3].tolist() == [0.0] * 3
    excess = result.epsilons[3:] - distances[3:]
    assert excess.min() > -1e-6
    # The walk begins at most 0.25 / 2**7 too far out and makes steps of that length's 4096th part.
    assert (excess < (distances[3:] + 0.25 / 128) / 4096 + 1e-6).all()
    moved = (result.adversarial - images).abs().flatten(1).amax(1).double()
    torch.testing.assert_close(moved, result.epsilons, atol=1e-6, rtol=0)
    assert (model(result.adversarial).argmax(1) != labels).all()


def test_in_l2_they_are_the_euclidean_distances():
    model, images, labels, _ = linear(2, 30)
    with torch.no_grad():
        logits = model(images)
        length = (model.weight[0] - model.weight[1]).norm()
    distances = (logits[:, 0] - logits[:, 1]).abs() / length
    result = smallest_epsilons(ModelVictim(model), images, labels, FGSM(), 1.0, norm="L2")
    ratios = result.epsilons / distances
    assert ratios.min() > 1 - 1e-5
    assert ratios.max() < 1.002


def test_images_that_stand_everywhere_have_no_smallest_epsilon():
    model, images, labels, distances = linear(2, 40)
    largest = distances.median().item() * 1.0001
    result = smallest_epsilons(ModelVictim(model), images, labels, FGSM(), largest, halvings=3)
    assert torch.equal(result.epsilons.isinf(), distances > largest)
    assert torch.equal(result.adversarial[distances > largest], images[distances > largest])
    assert result.robust_at(largest).correct == 20
    assert result.robust_at(0.0).correct == 40
    nothing = smallest_epsilons(ModelVictim(Constant([2.0, 0.0])), images, torch.zeros(40).long(), FGSM(), 1.0)
    assert nothing.epsilons.tolist() == [math.inf] * 40


def test_without_halvings_only_the_walk_back_shortens():
    model, images, labels, distances = linear(2, 20)
    result = smallest_epsilons(ModelVictim(model), images, labels, FGSM(), 0.2, halvings=0)
    # A step of the walk is 0.2 / 4096.
    assert (result.epsilons - distances).abs().max() < 0.2 / 4096 + 1e-6


def test_batches_change_nothing():
    model, images, labels, _ = linear(3, 25)
    large, small = (
        smallest_epsilons(ModelVictim(model), images, labels, PGD(3), 0.2, halvings=4, seed=9, batch_size=size)
        for size in (256, 3)
    )
    # A step of the bisection is 0.2 / 16.
    assert (large.epsilons - small.epsilons).abs().max() < 1e-4
    assert (large.adversarial - small.adversarial).abs().max() < 1e-4


def test_an_engine_alone_is_searched_without_gradients():
    model, images, labels, distances = linear(2, 10)
    engine = BlackBoxVictim(ModuleEngine(model, (1, 4, 4), 2))
    result = smallest_epsilons(engine, images, labels, Square(100), 0.25, halvings=3)
    assert (result.epsilons >= distances * (1 - 1e-5)).all()
    assert (result.epsilons < 1.5 * distances).float().mean() > 0.7
    with pytest.raises(InputError, match="needs gradients"):
        smallest_epsilons(engine, images, labels, FGSM(), 0.25)


def test_json_has_counts_and_quantiles_with_intervals():
    model, images, labels, distances = linear(2, 40)
    steps = []
    result = smallest_epsilons(
        ModelVictim(model), images, labels, FGSM(), distances.median().item() * 1.0001, halvings=1, seed=2,
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    document = json.loads(json.dumps(result.record.to_json()))
    assert list(document) == ["norm", "largest", "total", "misclassified", "robust", "quantiles", "settings"]
    assert (document["total"], document["misclassified"], document["robust"]["correct"]) == (40, 0, 20)
    assert [quantile["share"] for quantile in document["quantiles"]] == [0.05, 0.25, 0.5, 0.75, 0.95]
    assert document["quantiles"][1]["value"] == pytest.approx(distances.sort().values[9].item(), rel=0.01)
    assert document["quantiles"][4]["value"] is None
    assert document["settings"] == {"attack": "fgsm", "loss": "cross-entropy", "halvings": 1, "seed": 2}
    assert steps[0] == ("fgsm", 40, 80)


def test_a_negative_number_of_halvings_is_refused():
    model, images, labels, _ = linear(2, 4)
    with pytest.raises(InputError, match="halvings = -1"):
        smallest_epsilons(ModelVictim(model), images, labels, FGSM(), 0.1, halvings=-1)


def test_an_attack_that_stops_at_the_first_example_is_nearly_as_good():
    model, images, labels, distances = linear(2, 40)
    ratios = smallest_epsilons(ModelVictim(model), images, labels, PGD(10), 0.25).epsilons / distances
    assert ratios.min() > 1 - 1e-5
    assert ratios.max() < 1.02
