from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.check import forging
from tests.check.forging import check, outcomes
from tscnc_deploy.check.attack import check_signs
from tscnc_deploy.engines import can_run
from tscnc_deploy.engines.target import load_target

# Each runs whole checks, which attack.
pytestmark = pytest.mark.slow

NEEDS_CORE = pytest.mark.skipif(
    can_run(load_target("sparse-cpu")) is not None, reason="the engine sparse-cpu was not compiled"
)


def test_a_network_that_is_not_robust_fails_the_fresh_attack_whatever_its_evidence_says(bundle):
    """Everything is consistent, but the evidence shows none of the attacks that break it."""
    check(bundle, status=0)
    forging.replace_network(bundle, forging.scramble)

    def whitewash(evidence):
        from tscnc_deploy import open_bundle

        right = open_bundle(bundle).engine("onnx-cpu").logits(evidence.images).argmax(1) == evidence.labels
        return replace(
            evidence,
            adversarial=dict.fromkeys(evidence.adversarial, evidence.images),
            outcomes=dict.fromkeys(evidence.outcomes, right),
        )

    forging.rewrite_evidence(bundle, whitewash)
    document = check(bundle, status=1)
    assert "onnx-cpu: replayed examples have the recorded outcomes" not in outcomes(document)
    assert "onnx-cpu: robust accuracy, lower end" in outcomes(document)


def test_an_interval_over_the_bound_is_inconclusive(bundle):
    share = check(bundle)["engines"]["onnx-cpu"]["clean"]
    document = check(bundle, "--set", f"gates.clean={(share['low'] + share['accuracy']) / 2}")
    clean = next(f for f in document["results"] if f["name"] == "onnx-cpu: clean accuracy, lower end")
    assert clean["outcome"] == "inconclusive"
    assert "images in all would settle it" in clean["message"]


def test_the_same_bundle_is_no_worse_than_itself(bundle, robust_build):
    document = check(bundle, "--baseline", robust_build, "--margin", "0.2", status=0)
    assert document["policy"] == "the baseline"
    beside = document["results"][-1]
    assert beside["name"] == "onnx-cpu: robust accuracy lost to the baseline, upper bound"
    assert (beside["outcome"], document["baseline"]["onnx-cpu"]["engine"]) == ("passed", "onnx-cpu")
    assert beside["message"].startswith("0 images lost and 0 gained of 80")
    (chosen,) = [result for result in document["results"] if result["name"] == "images: chosen by"]
    assert (chosen["outcome"], chosen["message"]) == ("passed", "the baseline: its 80 evidence images")


def test_few_images_leave_a_small_margin_open(bundle, robust_build):
    document = check(bundle, "--baseline", robust_build, status=4)
    assert "about 160 images in all would settle it" in document["results"][-1]["message"]


def test_a_worse_network_loses_to_the_baseline(bundle, robust_build):
    forging.replace_network(bundle, forging.scramble)
    document = check(bundle, "--baseline", robust_build, status=1)
    assert document["results"][-1]["outcome"] == "failed"
    assert document["results"][-1]["value"] > 0.3


def test_another_task_is_no_baseline(bundle, robust_build, tmp_path):
    other = shutil.copytree(robust_build, tmp_path / "other")
    forging.reseal(other, lambda contents: contents["model"].update(classes=list("abcdefghij")))
    document = check(bundle, "--baseline", other, status=2)
    assert (document["results"][-1]["name"], document["results"][-1]["outcome"]) == ("baseline", "error")


@pytest.mark.parametrize(("warnings", "outcome"), [(None, "skipped"), ([], "passed")])
def test_no_search_for_signs_of_masking_is_not_a_search_that_found_none(warnings, outcome):
    result = SimpleNamespace(measured=SimpleNamespace(warnings=warnings, stronger=()), passed=True)
    assert check_signs("onnx-cpu", result).outcome == outcome


@NEEDS_CORE
def test_an_engine_of_a_file_that_was_attacked_gets_what_was_found_there(bundle):
    forging.add_sparse_cpu(bundle)
    document = check(bundle, status=0)
    # The one that skips zeros goes first, as it is the faster one.
    first, second = (document["engines"][name] for name in ("sparse-cpu", "onnx-cpu"))
    assert list(first["attacks"]) == ["replay", "twin-apgd-2", "square-5"]
    assert list(second["attacks"]) == ["replay", "square-5"]
    # Its replay holds all that the first engine lost.
    assert second["attacks"]["replay"]["correct"] == first["robust"]["correct"]
    signs = next(f for f in document["results"] if f["name"] == "onnx-cpu: signs of gradient masking")
    assert signs["outcome"] == "passed"
    assert signs["message"] == "sparse-cpu opens the same file, and its gradients are the same twin's"


@NEEDS_CORE
def test_an_engine_of_another_file_meets_every_attack(bundle):
    forging.add_sparse_cpu(bundle, change=lambda tensors: tensors["network.conv1.weight"].mul_(1.0001))
    # It does not compute its twin's network, which calls for one more.
    attacks = list(check(bundle)["engines"]["sparse-cpu"]["attacks"])
    assert attacks == ["replay", "twin-apgd-2", "square-5", "gap-20"]
