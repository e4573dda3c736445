from __future__ import annotations

import pytest

from tests.report.records import record, report_data
from tscnc_deploy.report import wording
from tscnc_deploy.report.data import Accuracy, ReportData


def test_an_accuracy_comes_with_counts_and_interval():
    measured = Accuracy(correct=335, total=360, accuracy=335 / 360, low=0.8992, high=0.9544)
    assert wording.accuracy(measured) == "93.1% (335 of 360, 95% interval 89.9 to 95.4)"
    assert wording.accuracy(None) == "–"


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
        "resnet18 with 95.0% zeros: the exported engine onnx-cpu classifies 82.5% of 360 test images correctly under "
        "every attack within Linf distance 0.1; the dense network kept 85.0%."
    )


def test_the_verdict_names_the_gates_that_failed():
    failed = record()
    failed["gates"][3]["passed"] = False
    assert wording.verdict(ReportData.from_json(failed)).endswith(
        "1 of 5 gates failed: onnx-cpu: robust accuracy, lower end."
    )


def test_the_verdict_without_an_engine():
    bare = record() | {"evaluations": {}}
    assert wording.verdict(ReportData.from_json(bare)) == "resnet18 with 95.0% zeros: no exported engine was attacked."
