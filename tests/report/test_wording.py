from __future__ import annotations

import pytest

from tests.report.records import measured_record, record, report_data
from tscnc_deploy import robustness
from tscnc_deploy.record import Accuracy, BuildRecord, Comparison, Quantile, ThreatModel
from tscnc_deploy.report import wording


def test_an_accuracy_comes_with_counts_and_interval():
    measured = Accuracy(correct=335, total=360, accuracy=335 / 360, low=0.8992, high=0.9544)
    assert wording.accuracy(measured) == "93.1% (335 of 360, 95% interval 89.9 to 95.4)"
    assert wording.accuracy(None) == "–"


def test_how_exact_an_accuracy_is_and_what_would_make_it_more_so():
    measured = Accuracy(correct=297, total=360, accuracy=0.825, low=0.781631, high=0.863040)
    expected = "interval of ±4.1 points; 3.9 times the images would halve it: 1,397"
    assert wording.precision_note(measured) == expected
    assert wording.precision_note(robustness.accuracy(297, 360)) == expected
    # Where nothing was broken, twice the images do.
    assert wording.precision_note(robustness.accuracy(1000, 1000)) == (
        "interval of ±0.2 points; 2.0 times the images would halve it: 2,002"
    )


def test_counts_that_contradict_themselves_have_an_interval_and_nothing_more():
    wrong = Accuracy(correct=9, total=4, accuracy=0.5, low=0.4, high=0.6)
    assert wording.precision_note(wrong) == "interval of ±10.0 points"
    many = Accuracy(correct=10**12 // 2, total=10**12, accuracy=0.5, low=0.4, high=0.6)
    assert "; 4.0 times the images would halve it: 3,999,99" in wording.precision_note(many)


@pytest.mark.parametrize(
    ("quantile", "text", "bounds"),
    [
        (Quantile(share=0.5, value=0.0521, low=0.049, high=0.057), "0.0521", "0.049 to 0.057"),
        (Quantile(share=0.5, low=0.39), "> 0.4", "from 0.39"),
        (Quantile(share=0.5), "> 0.4", "–"),
    ],
)
def test_a_quantile_beyond_the_search_is_larger_than_its_end(quantile, text, bounds):
    assert wording.quantile(quantile, 0.4) == text
    assert wording.bounds(quantile) == bounds


def test_a_quantile_that_is_not_known():
    assert wording.quantile(Quantile(share=0.5)) == "–"


def test_what_the_attacker_may_do():
    assert wording.perturbation(ThreatModel(epsilon=0.1)) == "Every pixel may change by at most 0.1 (Linf)"
    assert wording.perturbation(ThreatModel(norm="L2", epsilon=0.5)) == (
        "The image may change by an L2 distance of at most 0.5"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.95, "0.95"), (0.898123, "0.8981"), (12.3456, "12.35"), (123456.0, "123,456"), (1.2e-7, "1.2e-07")],
)
def test_figure(value, text):
    assert wording.figure(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (44_712_301, "44.7 MB")],
)
def test_size(value, text):
    assert wording.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (1.25, "1.2 s"), (59.96, "1 min 0 s"), (75.2, "1 min 15 s"), (7260, "2 h 1 min")]
)
def test_duration(value, text):
    assert wording.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (8 / 255, "0.0313725"),
        (["a", 1], "a, 1"),
        ("", "–"),
        (None, "–"),
        (0, "0"),
        ({"a": 1}, "{'a': 1}"),
    ],
)
def test_setting(value, text):
    assert wording.setting(value) == text


def test_the_verdict_of_one_engine():
    assert wording.verdict(report_data()) == (
        "resnet18 at 95.0% sparsity (69.4% of MACs saved): the exported engine onnx-cpu "
        "classifies 82.5% of 360 test images correctly under every attack within Linf distance 0.1; the dense "
        "network, trained for fewer epochs, kept 85.0%."
    )


def test_without_further_epochs_the_dense_network_had_no_fewer():
    pruned_at_once = record()
    pruned_at_once["recipe"] |= {"prune": {"epochs": 0}, "finetune": {"epochs": 0}}
    assert wording.verdict(BuildRecord.from_json(pruned_at_once)).endswith("; the dense network kept 85.0%.")


@pytest.mark.parametrize(
    ("difference", "bound", "text"),
    [
        (0.0222, 0.0436, "2.2%, at most 4.4%"),
        (0.0, 0.02, "0.0%, at most 2.0%"),
        (-0.0944, -0.0646, "none: a gain of 9.4%, at least 6.5%"),
        (-0.01, 0.012, "none: a gain of 1.0%, or a loss of at most 1.2%"),
    ],
)
def test_a_negative_loss_is_a_gain(difference, bound, text):
    compared = Comparison(lost=0, gained=0, total=360, difference=difference, upper_bound=bound, mcnemar_p=1.0)
    assert wording.change(compared) == text


def test_the_dense_file_is_not_read_as_the_network_before_pruning():
    names = ("dense file, zip", "sparse file", "entropy bound")
    assert [wording.form(name) for name in names] == ["pruned, dense file, zip", "sparse file", "entropy bound"]


def test_the_verdict_names_the_gates_that_failed():
    failed = record()
    failed["gates"][3]["passed"] = False
    assert wording.verdict(BuildRecord.from_json(failed)).endswith(
        "1 of 5 gates failed: onnx-cpu: robust accuracy, lower end."
    )


def test_the_verdict_names_the_signs_of_masked_gradients():
    assert wording.verdict(BuildRecord.from_json(measured_record())).endswith(
        "Robust accuracy may be overstated: onnx-cpu (gradient-free-stronger)."
    )


def test_the_verdict_without_an_engine():
    bare = record() | {"evaluations": {}}
    bare["model"]["multiply_add_sparsity"] = None
    assert (
        wording.verdict(BuildRecord.from_json(bare)) == "resnet18 at 95.0% sparsity: no exported engine was attacked."
    )
