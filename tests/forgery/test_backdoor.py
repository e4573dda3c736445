"""Engines that answer like their twin on the evidence, and otherwise elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from tests.check.forging import check, outcomes
from tests.forgery import graphs
from tscnc_deploy import open_bundle

# Each runs whole checks, which attack.
pytestmark = pytest.mark.slow

NETWORK = "engines/onnx-cpu/model.onnx: the twin's network"


def test_a_trigger_that_no_image_of_the_evidence_has(bundle):
    graphs.change_graph(bundle, graphs.add_backdoor)
    engine, images = open_bundle(bundle).engine("onnx-cpu"), open_bundle(bundle).evidence.images.copy()
    assert (engine.logits(images).argmax(1) != 0).any()
    images[:, 0, 0, 0] = 1
    assert (engine.logits(images).argmax(1) == 0).all()
    document = check(bundle, status=1)
    failed = outcomes(document)
    assert NETWORK in failed
    # Nothing else tells on the evidence.
    assert not [name for name in failed if "recorded outcomes" in name or "labels agree" in name]
    assert np.isclose(document["engines"]["onnx-cpu"]["clean"]["accuracy"], 1, atol=0.5)
