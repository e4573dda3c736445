from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from tests.report.records import measured_record, record, report_data
from tscnc_deploy.record import BuildRecord
from tscnc_deploy.report.html import render_report

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Text, tags and attributes of a page; fails on tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.words.append(" ")

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def text_of(data):
    """Without the figures, which take most of the time."""
    return Page(render_report(data, drawings=False)).text


def test_the_text_is_the_same_without_figures():
    words = re.sub(r"<svg.*?</svg>", "<svg></svg>", render_report(report_data()), flags=re.DOTALL)
    assert Page(words).text == text_of(report_data())


def test_the_page_says_what_was_measured():
    page = Page(render_report(report_data()))
    assert "✓ Passed resnet18 at 95.0% sparsity (69.4% of MACs saved): the exp" in page.text
    assert "82.5% (297 of 360, 95% interval 78.2 to 86.3)" in page.text
    assert "onnx-cpu: robust accuracy, lower end 0.7816 ≥ 0.75 ✓ passed" in page.text
    for heading in ("Gates", "Accuracy", "Attacks", "Engines against the twin", "Sparsity", "Conditioning", "Size"):
        assert heading in page.text
    assert "What is not claimed" in page.text
    assert "3.3e-06, allowed 0.001; the smallest tolerance that passes is 3.4e-06 ✓ passed" in page.text
    assert "1 lost, 0 gained, of 360" in page.text
    assert "14 lost, 6 gained, of 360" in page.text
    assert "Loss of robust accuracy 2.2%, at most 4.4%" in page.text
    assert "The pruned network was trained for more epochs than the dense one" in page.text
    assert "onnxruntime · fp32 · CPUExecutionProvider · 6.7 MB" in page.text
    assert "44.7 MB" in page.text
    assert "3 min 21 s" in page.text
    assert "adversarial-taylor" in page.text
    assert page.tags.count("svg") == 4


def test_the_page_needs_nothing_from_outside_and_runs_nothing():
    html = render_report(report_data())
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    outside = [
        value for name, value in page.attributes if value and re.match(r"\s*(https?:|//|data:|javascript:)", value)
    ]
    assert set(outside) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "default-src 'none'" in html
    assert len(html) < 500_000


def test_equal_data_gives_the_same_page_also_after_a_way_through_json():
    html = render_report(report_data())
    assert render_report(BuildRecord.from_json(report_data().to_json())) == html


def test_a_failed_build_says_so_first():
    failed = record() | {"passed": False}
    failed["gates"][3] |= {"limit": 0.8, "passed": False}
    text = text_of(BuildRecord.from_json(failed))
    assert "✗ Failed" in text
    assert "1 of 5 gates failed: onnx-cpu: robust accuracy, lower end." in text
    assert "4 of 5 passed" in text
    assert "✓ Passed" not in text


def test_an_engine_that_could_not_run_says_why():
    changed = record()
    changed["evaluations"]["engines"]["onnx-cuda"] = {"kind": "onnxruntime", "unavailable": "there is no GPU"}
    text = text_of(BuildRecord.from_json(changed))
    assert "Not measured: onnx-cuda." in text
    assert "Exported, but not measured: there is no GPU" in text


def test_layers_and_what_2_4_cost_them_are_listed():
    changed = record()
    changed["evaluations"]["engines"]["onnx-cpu"] |= {
        "kind": "tensorrt",
        "layers": [
            {"name": "a", "precision": "fp16", "fits_2_4": True, "sparse_kernel": True},
            {"name": "b", "precision": "fp32", "fits_2_4": False, "sparse_kernel": None},
        ],
        "completion": [
            {"name": "a", "completed": True, "groups": 9, "excess_groups": 4, "nonzero": 20, "dropped": 5, "regrown": 1,
             "saliency_lost": 0.25},
            {"name": "b", "completed": False, "groups": 0, "excess_groups": 0, "nonzero": 30, "dropped": 0,
             "regrown": 0, "saliency_lost": 0.0},
        ],
    }  # fmt: skip
    text = text_of(BuildRecord.from_json(changed))
    assert "this engine lost 5 of 50 weights and regrew 1" in text
    assert "a 4 of 9 20 5 1 25.0%" in text
    assert "b 0 of 0 30 unchanged 0 0.0%" in text
    assert "Layers as tensorrt computes them: 1 of 2 fit sparse tensor cores" in text
    assert "a fp16 yes yes b fp32 no not reported" in text


def test_attacks_with_other_settings_have_their_own_row():
    changed = record()
    changed["evaluations"]["engines"]["onnx-cpu"]["settings"]["pgd-20"]["steps"] = 5
    text = text_of(BuildRecord.from_json(changed))
    assert "pgd-20 dense, twin loss cross-entropy · restarts 1 · seed 0 · step_size 0.0125 · steps 20" in text
    assert "pgd-20 onnx-cpu loss cross-entropy · restarts 1 · seed 0 · step_size 0.0125 · steps 5" in text


def test_the_worst_case_says_what_would_make_it_more_exact():
    text = text_of(report_data())
    assert "interval of ±4.1 points; 3.9 times the images would halve it: 1,397" in text
    assert text.count("would halve it") == 3


def test_warnings_are_named_with_their_figures_for_every_model():
    changed = measured_record()
    changed["evaluations"]["twin"]["warnings"] = [
        {"name": "random-logits", "figure": 0.25, "limit": 0.001, "message": "logits differ between two calls"}
    ]
    text = text_of(BuildRecord.from_json(changed))
    assert "Warning for onnx-cpu: gradient-free-stronger. On 12 of 351 correctly classified images a search" in text
    assert "no gradient attack did. The figure is 0.03419; values up to 0.02 are not a sign." in text
    assert (
        "Warning for twin: random-logits. Logits differ between two calls. The figure is 0.25; values up to 0.001"
        in text
    )
    assert "No signs of masked" not in text
    assert "No signs of masked gradients were found on dense, twin, onnx-cpu." in (
        Page(render_report(report_data())).text
    )


def test_what_lies_beyond_the_threat_model_is_shown_for_every_model():
    page = Page(render_report(BuildRecord.from_json(measured_record())))
    assert page.tags.count("svg") == 6
    assert "Severity clean 1 2 3 4 5 mean twin 97.5% 94.2% 90.8% 87.5% 84.2% 80.8% 87.5% (79.0 to 93.1)" in page.text
    assert "Each corruption: onnx-cpu Severity 1 2 3 4 5 mean gaussian_noise 91.7% 88.3% 85.0% 81.7% 78.3% 85.0%" in (
        page.text
    )
    assert "ε twin onnx-cpu 0 97.5% (351 of 360, 95% interval 95.3 to 98.9) 95.0% (342 of 360," in page.text
    assert "0.4 2.5% (9 of 360, 95% interval 1.1 to 4.7) 0.0% (0 of 360, 95% interval 0.0 to 1.0)" in page.text
    assert "Share of images 5% 25% 50% 75% 95% Still robust twin 0.021 (0 to 0.034) 0.118" in page.text
    assert "0.244 (0.232 to 0.26) > 0.4 (from 0.39) 5.8% (21 of 360," in page.text
    assert "the median condition number κ of the layers is 106.3." in page.text
    assert "68.5 (39 to 72.5) 61.4 standard error 0.82 118.2" in page.text
    assert "0.12 70.0% (252 of 360, 95% interval 65.0 to 74.7) 67.5%" in page.text
    assert "abstentions 5 5 without noise 97.5%" in page.text
    assert "Beyond what the report shows, other norms" in page.text
    assert "None" not in page.text


@pytest.mark.parametrize(
    ("name", "heading"),
    [
        ("corruptions", "Common corruptions"),
        ("curve", "Accuracy over epsilon"),
        ("smallest-epsilon", "Smallest adversarial epsilon"),
        ("lipschitz", "Local Lipschitz constants"),
        ("smoothing", "Certified accuracy of the smoothed network"),
    ],
)
def test_what_was_not_measured_leaves_no_heading(name, heading):
    changed = measured_record()
    engines, twin = changed["evaluations"]["engines"], changed["evaluations"]["twin"]
    engines["onnx-cpu"]["measures"] = None
    whole = twin["measures"]
    twin["measures"] = {name: whole[name]}
    text = text_of(BuildRecord.from_json(changed))
    assert "Beyond the threat model" in text
    assert heading in text
    twin["measures"] = {other: figures for other, figures in whole.items() if other != name}
    text = text_of(BuildRecord.from_json(changed))
    assert heading not in text


@pytest.mark.parametrize("measures", [None, {}, {"later": 1}])
def test_without_measures_there_is_no_section(measures):
    changed = record()
    changed["evaluations"]["twin"]["measures"] = measures
    assert "Beyond the threat model" not in text_of(BuildRecord.from_json(changed))


def test_a_record_of_an_earlier_version_is_shown():
    earlier = record()
    for evaluation in (earlier["evaluations"]["twin"], earlier["evaluations"]["engines"]["onnx-cpu"]):
        for key in ("warnings", "measures", "queries"):
            del evaluation[key]
    text = Page(render_report(BuildRecord.from_json(earlier))).text
    assert "No signs of masked gradients were found on dense." in text
    assert "Beyond the threat model" not in text


def test_every_figure_of_a_measure_may_be_missing():
    bare = record()
    bare["evaluations"]["twin"]["measures"] = {
        "corruptions": {"corruptions": {"fog": []}},
        "curve": {"curve": []},
        "smallest-epsilon": {"quantiles": [{"share": 0.5}]},
        "lipschitz": {},
        "smoothing": {},
    }
    page = Page(render_report(BuildRecord.from_json(bare)))
    assert "None" not in page.text
    assert "Local Lipschitz constants" in page.text


@pytest.fixture(scope="module")
def complete():
    return Page(render_report(report_data())).text


@pytest.mark.parametrize(
    ("missing", "shown"),
    [
        ("recipe", "Recipe, seed 0"),
        ("evaluations", "Engines against the twin"),
        ("gates", "robust accuracy lost to the twin, upper bound"),
        ("layers", "Dead filters"),
        ("history", "after each epoch"),
        ("sizes", "Bytes in storage"),
        ("environment", "x86_64, 2 cores"),
        ("seconds", "3 min 21 s"),
        ("latency", "Milliseconds for a call"),
    ],
)
def test_each_part_may_be_missing(complete, missing, shown):
    bare = record()
    del bare[missing]
    # Figures are drawn of these only.
    drawings = missing in ("evaluations", "layers", "history")
    text = Page(render_report(BuildRecord.from_json(bare), drawings=drawings)).text
    assert shown in complete
    assert shown not in text
    assert "What is not claimed" in text
    assert "None" not in text


def test_every_figure_may_be_missing():
    holes = record()
    holes["gates"] = [{"name": "x", "passed": False}]
    holes["layers"] = [{"name": "x"}]
    holes["history"] = [{"stage": "train", "epoch": 1}]
    holes["sizes"] = [{"name": "x"}]
    holes["seconds"] = {"train": None}
    holes["latency"] = {"engines": {"a": {}, "b": {"median_ms": 0.0}}}
    for key in ("multiply_adds", "multiply_adds_left", "multiply_add_sparsity"):
        holes["model"][key] = None
    holes["evaluations"] = {"dense": {}, "engines": {"a": {}, "b": {"parity": {"passed": False}, "comparison": None}}}
    page = Page(render_report(BuildRecord.from_json(holes)))
    assert "None" not in page.text
    assert "nan" not in page.text.split()


def test_latencies_are_shown_beside_the_dense_network():
    text = text_of(BuildRecord.from_json(record()))
    assert "1 image, 1 thread, on A processor: 30 calls of each engine" in text
    assert "sparse-cpu avx512 0.5 0.375 3" in text


def hostile(value: object, text: str) -> object:
    """The record with every string replaced that is free."""
    if isinstance(value, dict):
        return {
            key if key in KEYS else key + text: item if key in ("norm", "schema") else hostile(item, text)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [hostile(item, text) for item in value]
    return value + text if isinstance(value, str) else value


def keys_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


KEYS = keys_of(measured_record()) - {"onnx-cpu", "pgd-20", "torch", "python", "lr", "beta", "fog", "apgd-ce-20"}


@pytest.fixture(scope="module")
def measured():
    return Page(render_report(BuildRecord.from_json(measured_record())))


@pytest.mark.slow
@pytest.mark.parametrize("text", ['"><script>alert(1)</script>', "' onload='x", "{{ 7*7 }}", "</style><b>", "-->]]>"])
def test_nothing_of_a_record_becomes_markup(measured, text):
    page = Page(render_report(BuildRecord.from_json(hostile(measured_record(), text))))
    assert set(page.tags) == set(measured.tags)
    assert {name for name, _ in page.attributes} == {name for name, _ in measured.attributes}
    assert text in "".join(page.words)
