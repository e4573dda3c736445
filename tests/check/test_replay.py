from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.check import forging
from tests.check.forging import check, outcomes


def test_a_swapped_engine_is_not_its_twins(bundle):
    forging.change_engine(bundle, forging.scramble)
    forging.reseal(bundle)
    failed = outcomes(check(bundle, status=1))
    assert "onnx-cpu: largest difference of a logit from the twin" in failed
    assert "onnx-cpu: clean images have the recorded outcomes" in failed


def test_outcomes_better_than_the_engine_are_noticed(bundle):
    forging.rewrite_evidence(bundle, lambda e: replace(e, outcomes={k: np.ones_like(v) for k, v in e.outcomes.items()}))
    assert "onnx-cpu: replayed examples have the recorded outcomes" in outcomes(check(bundle, status=1))
