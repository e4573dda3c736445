"""Gates of a recipe that a bundle does not meet, or that cannot be checked on it: neither passes."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest

from tests.check import forging
from tests.check.forging import check, outcomes
from tests.forgery.examining import examine
from tscnc_deploy import open_bundle
from tscnc_deploy.check import exit_status
from tscnc_deploy.tscnc import n_of_m_mask

ENGINE_LOSS = "onnx-cpu: gates.engine_loss, robust accuracy lost to the twin, upper bound"
PRUNING_LOSS = "gates.pruning_loss: robust accuracy lost by pruning, upper bound"
KAPPA = "gates.median_kappa: median condition number of the twin's layers"
FILE = "engines/onnx-cpu/model.onnx"


def gate(folder, name, *overrides):
    (result,) = [each for each in examine(folder, *overrides) if each.name == name]
    return result


@pytest.mark.slow
def test_an_engine_that_loses_more_than_the_recipe_allows_fails(bundle):
    forging.change_engine(bundle, forging.scramble)
    forging.reseal(bundle)
    document = check(bundle, status=1)
    assert ENGINE_LOSS in outcomes(document)


def test_the_twins_export_loses_nothing(bundle):
    document = check(bundle, status=0)
    (result,) = [each for each in document["results"] if each["name"] == ENGINE_LOSS]
    assert (result["outcome"], result["message"]) == ("passed", "0 images lost and 0 gained of 80")


def test_a_small_limit_is_inconclusive_on_few_images(bundle):
    document = check(bundle, "--set", "gates.engine_loss=0.01", status=4)
    assert outcomes(document, "inconclusive") == [ENGINE_LOSS]


def test_an_engine_loss_without_examples_is_not_checked(bundle):
    forging.rewrite_evidence(bundle, lambda e: replace(e, adversarial={"twin": e.adversarial["twin"]}))
    document = check(bundle, status=1)
    assert outcomes(document, "not checked") == [ENGINE_LOSS]


def test_pruning_loss_is_computed_from_outcomes_and_its_worth_is_said(bundle):
    passed = gate(bundle, PRUNING_LOSS, "gates.pruning_loss=0.9")
    assert (passed.outcome, passed.limit) == ("passed", 0.9)
    assert passed.value == pytest.approx(open_bundle(bundle).record.pruning.upper_bound)
    note = gate(bundle, "gates.pruning_loss: the dense network", "gates.pruning_loss=0.9")
    assert note.outcome == "note"
    assert note.message.startswith(
        "as its maker says: the dense network is not in the bundle; of its outcomes, those of 80"
    )


def test_pruning_that_lost_more_than_allowed_fails(bundle):
    """All that the dense network got right under attack, the twin is said to have lost."""

    def changed(evidence):
        outcomes = {
            key: mask | True if key.startswith("dense.") else mask & False if key.startswith("twin.") else mask
            for key, mask in evidence.outcomes.items()
        }
        return replace(evidence, outcomes=outcomes)

    forging.rewrite_evidence(bundle, changed)
    found = gate(bundle, PRUNING_LOSS, "gates.pruning_loss=0.1")
    assert found.outcome == "failed"
    assert found.value > 0.6


def test_pruning_loss_without_outcomes_of_the_dense_network_is_not_checked_and_does_not_pass(bundle):
    forging.rewrite_evidence(
        bundle, lambda e: replace(e, outcomes={k: v for k, v in e.outcomes.items() if not k.startswith("dense.")})
    )
    document = check(bundle, "--set", "gates.pruning_loss=0.9", status=5)
    assert outcomes(document, "not checked") == [PRUNING_LOSS]
    assert document["passed"] is False
    assert outcomes(check(bundle, status=0), "not checked") == []


def test_median_kappa_is_that_of_the_twin(bundle):
    kappas = [layer.kappa for layer in open_bundle(bundle).record.layers if layer.kappa is not None]
    passed = gate(bundle, KAPPA, "gates.median_kappa=1e6")
    assert passed.outcome == "passed"
    assert passed.value == pytest.approx(statistics.median(kappas), rel=1e-3)
    failed = gate(bundle, KAPPA, "gates.median_kappa=1.01")
    assert (failed.outcome, failed.limit) == ("failed", 1.01)


def test_a_kappa_that_only_the_record_says_does_not_pass(bundle):
    """Without the recount, a record of good condition numbers would do."""
    forging.rewrite_record(bundle, lambda record: [layer.update(kappa=1.0) for layer in record["layers"]])
    results = examine(bundle, "gates.median_kappa=1.01")
    assert exit_status(results) == 1
    assert {KAPPA, "record: layers are the twin's"} <= {each.name for each in results if each.outcome == "failed"}


def test_zeros_anywhere_are_not_two_of_four(bundle):
    found = gate(bundle, f"{FILE}: prune.pattern 2:4", "prune.pattern=2:4")
    assert found.outcome == "failed"
    assert found.message == f"{found.value:.0f} groups of 4 input channels keep more than 2 weights"


def two_of_four(tensors):
    for weight in forging.weights_in(tensors):
        if weight.shape[1] % 4 == 0:
            weight.mul_(n_of_m_mask(weight.abs()))


def whole_filters(tensors):
    for weight in forging.weights_in(tensors):
        if weight.ndim == 4:
            weight[weight == 0] = 0.01
            weight[1::2] = 0


@pytest.mark.parametrize(
    ("make", "pattern"),
    [(two_of_four, ("prune.pattern=2:4",)), (whole_filters, ("prune.pattern=filters", "prune.regrow=false"))],
)
def test_a_pattern_is_counted_in_the_files(bundle, make, pattern):
    name = f"{FILE}: prune.pattern {pattern[0].partition('=')[2]}"
    assert gate(bundle, name, *pattern).outcome == "failed"
    forging.replace_network(bundle, make)
    assert gate(bundle, name, *pattern).outcome == "passed"
