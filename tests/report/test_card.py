from __future__ import annotations

import json

import pytest

from tests.report.records import record, report_data
from tscnc_deploy.report.card import plain, render_card
from tscnc_deploy.report.data import ReportData


def front_matter(card: str) -> list[str]:
    opening, matter, _ = card.split("---\n", 2)
    assert opening == ""
    return matter.splitlines()


def test_the_front_matter_has_what_model_hubs_read():
    lines = front_matter(render_card(report_data()))
    assert lines[:11] == [
        "license: unknown",
        "library_name: tscnc-deploy",
        "pipeline_tag: image-classification",
        "tags:",
        "- tscnc-deploy",
        "- adversarial-robustness",
        "- sparse",
        "- onnx",
        "metrics:",
        "- accuracy",
        "model-index:",
    ]
    assert '- name: "digits-resnet18-s95"' in lines
    assert '      name: "digits"' in lines
    assert '      name: "onnx-cpu, robust accuracy, Linf 0.1"' in lines
    assert "      value: 0.825" in lines


def test_without_evaluations_there_is_no_model_index():
    lines = front_matter(render_card(ReportData.from_json(record() | {"evaluations": {}})))
    assert lines[-1] == "- accuracy"


def test_the_card_says_what_was_measured_and_how_to_open_it():
    card = render_card(report_data())
    assert "| worst case | 82.5% (297 of 360, 95% interval 78.2 to 86.3) |" in card
    assert "Gates: **passed**" in card
    assert "| onnx-cpu: robust accuracy, lower end | 0.7816 | ≥ 0.75 | passed |" in card
    assert 'logits = bundle.engine("onnx-cpu").logits(images)' in card
    assert "images of 1 × 8 × 8" in card
    assert card.endswith("\n")
    assert "\n\n\n" not in card
    assert render_card(report_data()) == card


def test_the_card_of_a_failed_build_says_so():
    assert "Gates: **FAILED**" in render_card(ReportData.from_json(record() | {"passed": False}))


@pytest.mark.parametrize("missing", ["recipe", "evaluations", "gates", "layers", "history", "sizes"])
def test_each_part_may_be_missing(missing):
    bare = record()
    del bare[missing]
    card = render_card(ReportData.from_json(bare))
    assert "None" not in card
    assert "\n\n\n" not in card


def test_names_cannot_break_out_of_the_front_matter_or_become_markup():
    hostile = record() | {"name": 'x"\n---\n# owned <script> [a](http://b) | c'}
    hostile["recipe"]["data"]["dataset"] = "x\nlicense: mit"
    card = render_card(ReportData.from_json(hostile))
    lines = front_matter(card)
    assert "- name: " + json.dumps(hostile["name"]) in lines
    assert "license: mit" not in lines
    assert '# x" --- # owned \\<script\\> \\[a\\](http://b) \\| c\n' in card


def test_plain_is_one_line():
    assert plain("a\n b\t*c*") == "a b \\*c\\*"
