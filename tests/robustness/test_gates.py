from __future__ import annotations

import torch

from tscnc_deploy.record import Accuracy
from tscnc_deploy.robustness import at_least, at_most, compare, loses_at_most

NAN = float("nan")


def test_accuracy_is_gated_on_its_lower_end():
    share = Accuracy.counted(90, 100, low=0.82, high=0.95)
    expected = {"name": "clean", "value": 0.82, "limit": 0.82, "passed": True, "inconclusive": False}
    assert at_least("clean", share, 0.82).to_json() == expected
    assert not at_least("clean", share, 0.85).passed
    assert at_least("clean", share, share.high).inconclusive
    assert not at_least("clean", share, share.high + 0.001).inconclusive


def test_an_upper_bound_is_gated_from_above():
    assert at_most("loss", 0.02, 0.02).passed
    assert not at_most("loss", 0.021, 0.02).passed


def test_nan_never_passes():
    assert not at_most("loss", NAN, 0.02).passed
    assert not at_most("loss", 0.01, NAN).passed


def test_json_has_null_for_what_is_not_a_number():
    assert at_most("kappa", float("inf"), 10.0).to_json()["value"] is None


def test_a_loss_that_few_images_cannot_exclude_is_inconclusive():
    outcomes = torch.ones(30, dtype=torch.bool)
    gate = loses_at_most("loss", compare(outcomes, outcomes), 0.02)
    assert (gate.passed, gate.inconclusive) == (False, True)
    assert loses_at_most("loss", compare(outcomes.repeat(10), outcomes.repeat(10)), 0.02).passed
    assert not loses_at_most("loss", compare(outcomes, ~outcomes), 0.02).inconclusive
