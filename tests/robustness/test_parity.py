from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import compare_logits

TWIN = np.array([[1.0, 2.0], [3.0, 1.0], [0.0, 0.5]], np.float32)


def test_equal_logits_pass_any_tolerance():
    parity = compare_logits(TWIN, TWIN, TWIN, TWIN, 0.0)
    assert parity.passed
    assert (parity.max_abs_diff, parity.smallest_tolerance) == (0.0, 0.0)


def test_the_largest_difference_of_both_sets_decides_and_flips_are_listed():
    clean = TWIN + np.float32(0.25)
    adversarial = TWIN.copy()
    adversarial[2] = [0.5, 0.25]
    parity = compare_logits(torch.from_numpy(clean), torch.from_numpy(TWIN), adversarial, TWIN, 0.3)
    assert parity.to_json() == {
        "max_abs_diff": 0.5,
        "flips_clean": [],
        "flips_adversarial": [2],
        "tolerance": 0.3,
        "smallest_tolerance": 0.5,
        "passed": False,
    }
    assert compare_logits(clean, TWIN, adversarial, TWIN, parity.smallest_tolerance).passed


@pytest.mark.parametrize(
    ("difference", "smallest"), [(0.1234, 0.13), (1.21e-7, 1.3e-7), (99.1, 100.0), (1234.0, 1300.0)]
)
def test_the_smallest_tolerance_is_rounded_up_to_two_digits(difference, smallest):
    engine = np.array([[difference, 0.0]], np.float64)
    parity = compare_logits(engine, np.zeros((1, 2)), engine, np.zeros((1, 2)), 0.0)
    assert parity.smallest_tolerance == pytest.approx(smallest)
    assert compare_logits(engine, np.zeros((1, 2)), engine, np.zeros((1, 2)), parity.smallest_tolerance).passed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_fail_whatever_the_tolerance(bad):
    engine = TWIN.copy()
    engine[0, 0] = bad
    parity = compare_logits(TWIN, TWIN, engine, TWIN, np.inf)
    assert not parity.passed
    assert json.loads(json.dumps(parity.to_json()))["max_abs_diff"] is None


def test_logits_of_other_shapes_are_refused():
    with pytest.raises(InputError, match="adversarial images must be two arrays"):
        compare_logits(TWIN, TWIN, TWIN[:2], TWIN, 0.1)
