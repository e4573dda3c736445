"""Engines that answer like their twin on the evidence, and otherwise elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from tests.check.forging import check, outcomes
from tests.forgery import graphs
from tscnc_deploy import open_bundle

# Each runs whole checks, which attack.
pytestmark = pytest.mark.slow

EXPORTS = [f"engines/onnx-cpu/{file}: the twin's export" for file in ("model.dense.onnx", "model.onnx")]


@pytest.mark.parametrize("other", [{}, {"torch": "2.11.0"}])
def test_a_trigger_that_no_image_of_the_evidence_has(bundle, other):
    """Whatever the maker says about the versions of the build."""
    graphs.change_graphs(bundle, graphs.add_backdoor)
    graphs.say_built_with(bundle, **other)
    engine, images = open_bundle(bundle).engine("onnx-cpu"), open_bundle(bundle).evidence.images.copy()
    assert (engine.logits(images).argmax(1) != 0).any()
    images[:, 0, 0, 0] = 1
    assert (engine.logits(images).argmax(1) == 0).all()
    document = check(bundle, status=1)
    failed = outcomes(document)
    assert set(EXPORTS) <= set(failed)
    # Nothing else tells on the evidence.
    assert not [name for name in failed if "recorded outcomes" in name or "labels agree" in name]
    assert np.isclose(document["engines"]["onnx-cpu"]["clean"]["accuracy"], 1, atol=0.5)
