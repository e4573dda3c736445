from __future__ import annotations

import pytest
import torch

from tscnc_deploy.robustness.statistics.guessing import guessing
from tscnc_deploy.robustness.statistics.intervals import accuracy

TWO_TO_ONE = torch.tensor([0] * 60 + [1] * 30)


@pytest.mark.parametrize(("correct", "guessed"), [(60, True), (68, True), (75, False), (90, False), (20, True)])
def test_the_interval_must_lie_above_the_share_of_the_largest_class(correct, guessed):
    # 68 of 90 are 75.6%, with a lower end of 65.4%, below two thirds; that of 75 is 73.8%.
    assert (guessing(accuracy(correct, 90), TWO_TO_ONE) is not None) == guessed


def test_what_it_says():
    warning = guessing(accuracy(60, 90), TWO_TO_ONE)
    assert warning.name == "guessing"
    assert warning.message == (
        "clean accuracy 66.7% [55.9%, 76.3%] cannot be told from guessing: 66.7% of the images are of one class"
    )
    assert (warning.figure, warning.limit) == (None, None)
