"""What may be expected of results that were computed in other batches.

Random numbers belong to the image and are equal. Logits, losses and lengths are equal up to rounding: torch and the
engines may add up in another order, or use other instructions, where a tensor has another shape.
"""

from __future__ import annotations

import pytest
from torch import Tensor

from tscnc_deploy.robustness import Evaluation

# As a share of epsilon. Rounding moved points by 1e-5 in 30 steps; another image's random numbers by 2e-3 and more.
SHARE = 5e-4


def assert_same_points(found: Tensor, expected: Tensor, epsilon: float) -> None:
    """Points that differ by rounding only: no other random number, step or order was used."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max().item() <= SHARE * epsilon


def assert_same_evaluation(found: Evaluation, expected: Evaluation) -> None:
    """The same outcome for every image and attack, the same counts, and the same points up to rounding."""
    assert found.correct.tolist() == expected.correct.tolist()
    assert found.robust_mask.tolist() == expected.robust_mask.tolist()
    assert list(found.robust_by_attack) == list(expected.robust_by_attack)
    for name, mask in expected.robust_by_attack.items():
        assert found.robust_by_attack[name].tolist() == mask.tolist(), name
    assert found.record == expected.record
    assert_same_points(found.adversarial, expected.adversarial, expected.threat.epsilon)


def assert_same_figures(found: object, expected: object) -> None:
    """JSON documents that differ in the last digits of their floating-point numbers only."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same_figures(found[key], value)
    elif isinstance(expected, list):
        assert isinstance(found, list)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same_figures(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)
    else:
        assert found == expected
