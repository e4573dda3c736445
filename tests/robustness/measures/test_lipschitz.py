from __future__ import annotations

import itertools
import json

import pytest
import torch
from torch import nn

from tests.robustness.victims import Constant, Linear, ModuleEngine, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import BlackBoxVictim, EngineVictim, ModelVictim, local_lipschitz


def exact(weight):
    """Largest ||W d||_1 / ||d||_inf: the largest 1-norm of a signed sum of the rows of W."""
    rows = weight.detach().flatten(1).double()
    signs = itertools.product((1.0, -1.0), repeat=len(rows))
    return max((torch.tensor(sign, dtype=torch.float64) @ rows).abs().sum().item() for sign in signs)


class Ramp(nn.Module):
    """A logit that rises by 10 per unit of the first pixel, but only within 0.01 of one half."""

    def forward(self, images):
        rise = 10 * (images[:, 0, 0, 0] - 0.5).clamp(-0.01, 0.01)
        return torch.stack([rise, 2 - rise * 0], 1)


@pytest.mark.parametrize("classes", [2, 4, 6])
def test_of_a_linear_model_it_is_the_norm_of_its_weight(classes):
    model, images, _, _ = linear(classes, 20)
    result = local_lipschitz(ModelVictim(model), images, 0.1, steps=10, restarts=6)
    assert result.constants.tolist() == pytest.approx([exact(model.weight)] * 20, rel=1e-4)


def test_it_scales_with_the_model():
    model, images, _, _ = linear(3, 5)
    larger = Linear(3 * model.weight.detach(), model.bias.detach())
    first, second = (local_lipschitz(ModelVictim(m), images, 0.1).constants for m in (model, larger))
    torch.testing.assert_close(second, 3 * first, rtol=1e-4, atol=0)


def test_of_a_constant_it_is_zero():
    result = local_lipschitz(ModelVictim(Constant([2.0, 0.0])), torch.rand(4, 1, 3, 3), 0.1)
    assert result.constants.tolist() == [0.0] * 4


def test_steep_places_smaller_than_the_ball_are_found():
    images = torch.full((3, 1, 2, 2), 0.5)
    result = local_lipschitz(ModelVictim(Ramp().eval()), images, 0.08)
    # In the ball of radius 0.01 the ramp goes on to the edge; at 0.08 the quotient would be 10 / 8.
    assert result.constants.tolist() == pytest.approx([10.0] * 3, rel=1e-3)


def test_images_at_the_edge_of_the_pixels_range_are_handled():
    model, images, _, _ = linear(2, 6)
    result = local_lipschitz(ModelVictim(model), images.round(), 0.1, restarts=4)
    assert (result.constants <= exact(model.weight) * (1 + 1e-4)).all()
    assert (result.constants > 0.3 * exact(model.weight)).all()


def test_batches_change_nothing_and_seeds_do():
    model, images, _, _ = linear(6, 12)
    options = {"steps": 3, "restarts": 1}
    first = local_lipschitz(ModelVictim(model), images, 0.1, **options)
    parts = local_lipschitz(ModelVictim(model), images, 0.1, batch_size=5, **options)
    torch.testing.assert_close(parts.constants, first.constants, rtol=1e-4, atol=0)
    other = local_lipschitz(ModelVictim(model), images, 0.1, seed=1, **options)
    assert not torch.allclose(other.constants, first.constants, rtol=1e-2)


def test_an_engine_is_measured_with_the_gradient_of_its_twin():
    model, images, _, _ = linear(3, 5)
    engine = ModuleEngine(model, (1, 4, 4), 3)
    result = local_lipschitz(EngineVictim(engine, model), images, 0.1, restarts=6)
    assert result.constants.tolist() == pytest.approx([exact(model.weight)] * 5, rel=1e-4)
    with pytest.raises(InputError, match="add its twin"):
        local_lipschitz(BlackBoxVictim(engine), images, 0.1)


def test_json_has_mean_and_quantiles():
    model, images, _, _ = linear(2, 8)
    steps = []
    result = local_lipschitz(
        ModelVictim(model), images, 0.1, seed=3, batch_size=5, progress=lambda *step: steps.append(step)
    )
    document = json.loads(json.dumps(result.record.to_json()))
    assert list(document) == [
        "norm",
        "epsilon",
        "total",
        "mean",
        "standard_error",
        "largest",
        "quantiles",
        "steps",
        "restarts",
        "seed",
    ]
    assert document["mean"] == pytest.approx(exact(model.weight), rel=1e-3)
    assert [quantile["share"] for quantile in document["quantiles"]] == [0.05, 0.25, 0.5, 0.75, 0.95]
    assert steps == [("lipschitz", 5, 8), ("lipschitz", 8, 8)]
    assert local_lipschitz(ModelVictim(model), images[:1], 0.1).record.to_json()["standard_error"] is None


def test_what_would_give_a_wrong_number_is_refused():
    model, images, _, _ = linear(2, 3)
    with pytest.raises(InputError, match="8/255"):
        local_lipschitz(ModelVictim(model), images, 8)
    with pytest.raises(InputError, match="must lie in"):
        local_lipschitz(ModelVictim(model), images * 255, 0.1)
    with pytest.raises(InputError, match="steps = 0"):
        local_lipschitz(ModelVictim(model), images, 0.1, steps=0)
    with pytest.raises(InputError, match="finite"):
        local_lipschitz(ModelVictim(Constant([float("inf"), 0.0])), images, 0.1)
