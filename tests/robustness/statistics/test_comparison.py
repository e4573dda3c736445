from __future__ import annotations

import json

import pytest
import torch

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import compare


def test_losses_and_gains_are_counted_image_by_image():
    first = torch.tensor([True] * 6 + [False] * 4)
    second = torch.tensor([True] * 3 + [False] * 6 + [True])
    comparison = compare(first, second)
    assert (comparison.lost, comparison.gained, comparison.total, comparison.difference) == (3, 1, 10, 0.2)
    assert comparison.mcnemar_p == pytest.approx(10 / 16)
    assert 0.2 < comparison.upper_bound < 0.6
    assert list(json.loads(json.dumps(comparison.to_json()))) == [
        "lost",
        "gained",
        "total",
        "difference",
        "upper_bound",
        "mcnemar_p",
    ]


def test_a_classifier_against_itself_loses_nothing():
    outcomes = torch.arange(1000) % 3 == 0
    comparison = compare(outcomes, outcomes)
    assert (comparison.lost, comparison.gained, comparison.difference, comparison.mcnemar_p) == (0, 0, 0.0, 1.0)
    assert comparison.upper_bound == pytest.approx(0.0027, abs=1e-4)


def test_the_bound_is_tangos_at_the_confidence_asked_for():
    # Cavo et al. 2012, see test_statistics.py: 16 lost and 6 gained of 161; the 95% interval ends at 0.1240.
    first = torch.arange(161) < 59 + 16
    second = (torch.arange(161) < 59) | (torch.arange(161) >= 155)
    comparison = compare(first, second, confidence=0.975)
    assert (comparison.lost, comparison.gained) == (16, 6)
    assert comparison.difference == pytest.approx(0.0621, abs=5e-5)
    assert comparison.upper_bound == pytest.approx(0.1240, abs=5e-5)
    assert comparison.mcnemar_p == pytest.approx(0.052479, abs=1e-6)
    assert compare(first, second).upper_bound < comparison.upper_bound


def test_outcomes_of_different_images_are_refused():
    with pytest.raises(InputError, match="2 and of 3 images"):
        compare(torch.ones(2, dtype=torch.bool), torch.ones(3, dtype=torch.bool))
    with pytest.raises(InputError, match=r"bool \[N\]"):
        compare(torch.ones(2), torch.ones(2))
    with pytest.raises(InputError, match="at least one image"):
        compare(torch.ones(0, dtype=torch.bool), torch.ones(0, dtype=torch.bool))
