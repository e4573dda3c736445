"""A network that hides its gradient from attacks does not pass for a robust one."""

from __future__ import annotations

import json

import pytest
import torch

from tests.check import forging
from tests.conftest import invoke
from tscnc_deploy.data import load
from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.recipe import Data

DEFAULT = ("twin-apgd-10", "bpda-20", "square-50")


def checked(bundle, *options):
    """With the attacks that `check` makes by default, without a limit that depends on this machine's speed."""
    result = invoke("check", bundle, "--budget", "none", "--device", "cpu", *options, "--json")
    document = json.loads(result.stdout)
    return document, {finding["name"]: finding for finding in document["results"]}


@pytest.mark.slow
def test_a_twin_that_masks_gradients_does_not_pass(bundle):
    train = load(Data()).train
    model = forging.masking_network(*train.batch(torch.arange(len(train))), zeros=0.52)
    export_onnx(model, bundle / "twin.onnx", input_shape=model.config.input_shape)
    forging.exchange_network(bundle)
    document, findings = checked(bundle, "--set", "gates.robust=0.12")
    assert document["status"] == 1
    signs = findings["onnx-cpu: signs of gradient masking"]
    assert signs["outcome"] == "failed"
    assert "zero-gradients: on " in signs["message"]
    assert "no-gradients: on " in signs["message"]
    assert signs["message"].endswith("square-2000 and hopskipjump-500")
    attacks = document["engines"]["onnx-cpu"]["attacks"]
    assert list(attacks) == ["replay", *DEFAULT, "float64-apgd", "square-2000", "hopskipjump-500"]
    # The gradient is zero, and its smooth form is not.
    assert attacks["bpda-20"]["correct"] < attacks["twin-apgd-10"]["correct"] - 10
    missed = [name for name, finding in findings.items() if finding["outcome"] in ("failed", "inconclusive")]
    # The record is of the honest network still, which other checks find.
    assert {"onnx-cpu: signs of gradient masking", "onnx-cpu: robust accuracy, lower end"} <= set(missed)


@pytest.mark.slow
def test_a_record_that_is_better_than_a_fresh_attack_is_refused(bundle):
    """As of a build whose attacks did nothing."""
    everything = {"accuracy": 1.0, "correct": 120, "total": 120}

    def tell(record):
        record["evaluations"]["engines"]["onnx-cpu"]["robust"] |= everything | {"low": 0.97, "high": 1.0}

    forging.rewrite_record(bundle, tell)
    _, findings = checked(bundle)
    found = findings["onnx-cpu: robust accuracy is not less than recorded"]
    assert found["outcome"] == "failed"
    assert found["message"].endswith("the record says 100.0%, at least 97.0%: the build's attacks were weaker")


@pytest.mark.slow
def test_a_network_without_signs_meets_no_further_attack(bundle):
    document, findings = checked(bundle)
    assert findings["onnx-cpu: signs of gradient masking"]["outcome"] == "passed"
    assert document["engines"]["onnx-cpu"]["warnings"] == []
    assert list(document["engines"]["onnx-cpu"]["attacks"]) == ["replay", *DEFAULT]
