"""A network that hides its gradient from attacks does not pass for a robust one."""

from __future__ import annotations

import json

import pytest
import torch

from tests.check import forging
from tests.conftest import invoke
from tscnc_deploy.data import load
from tscnc_deploy.recipe import Data


def checked(bundle, *options):
    """With the attacks that `check` makes by default, without a limit that depends on this machine's speed."""
    result = invoke("check", bundle, "--budget", "none", "--device", "cpu", *options, "--json")
    document = json.loads(result.stdout)
    return document, {finding["name"]: finding for finding in document["results"]}


@pytest.mark.slow
def test_a_twin_that_masks_gradients_does_not_pass(bundle):
    train = load(Data()).train
    model = forging.masking_network(*train.batch(torch.arange(len(train))), zeros=0.52)
    forging.exchange_network(bundle, model)
    document, findings = checked(bundle, "--set", "gates.robust=0.12")
    assert document["status"] == 1
    signs = findings["onnx-cpu: signs of gradient masking"]
    assert signs["outcome"] == "failed"
    assert "zero-gradients: on " in signs["message"]
    assert signs["message"].endswith("the gates do not hold against square-2000")
    attacks = document["engines"]["onnx-cpu"]["attacks"]
    assert list(attacks) == ["replay", "twin-apgd-10", "square-50", "square-2000"]
    # Without the last one it would have passed.
    before = [attacks[name] for name in ("replay", "twin-apgd-10", "square-50")]
    assert min(share["low"] for share in before) >= 0.12
    assert attacks["square-2000"]["low"] < 0.12
    missed = [name for name, finding in findings.items() if finding["outcome"] in ("failed", "inconclusive")]
    # The record is of the honest network still, which other checks find.
    missed = [name for name in missed if name.startswith("onnx-cpu: ")]
    assert missed == ["onnx-cpu: signs of gradient masking", "onnx-cpu: robust accuracy, lower end"]


def test_a_network_without_signs_meets_no_further_attack(bundle):
    document, findings = checked(bundle)
    assert findings["onnx-cpu: signs of gradient masking"]["outcome"] == "passed"
    assert document["engines"]["onnx-cpu"]["warnings"] == []
    assert list(document["engines"]["onnx-cpu"]["attacks"]) == ["replay", "twin-apgd-10", "square-50"]
