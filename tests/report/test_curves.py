from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.report.records import measured_record, report_data
from tscnc_deploy.record import BuildRecord
from tscnc_deploy.report import curves

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(SVG + "text")]


def description(svg):
    return ElementTree.fromstring(svg).find(SVG + "desc").text


def measured(change=None):
    changed = measured_record()
    if change:
        change(changed["evaluations"])
    return BuildRecord.from_json(changed)


def test_the_curve_names_models_axes_and_the_threat():
    svg = curves.curve_plot(measured())
    assert {"twin", "onnx-cpu", "ε (Linf)", "worst-case accuracy", "threat model"} <= set(texts(svg))
    assert description(svg) == (
        "twin: 97.5% at 0 to 2.5% at 0.4; onnx-cpu: 95.0% at 0 to 0.0% at 0.4; bands are 95% intervals."
    )


def test_certificates_are_drawn_over_the_radius():
    svg = curves.certified_plot(measured())
    assert {"twin", "onnx-cpu", "radius (L2)", "certified accuracy"} <= set(texts(svg))
    assert "threat model" not in texts(svg)


def test_nothing_to_draw_is_an_empty_text():
    assert curves.curve_plot(report_data()) == curves.certified_plot(report_data()) == ""
    assert curves.curve_plot(measured(lambda found: found["twin"].update(measures={"curve": {}}))) != ""
    only_empty = measured(
        lambda found: (
            found["twin"].update(measures={"curve": {}, "smoothing": {}}),
            found["engines"]["onnx-cpu"].update(measures=None),
        )
    )
    assert curves.curve_plot(only_empty) == curves.certified_plot(only_empty) == ""


def test_equal_data_gives_equal_figures():
    assert curves.curve_plot(measured()) == curves.curve_plot(measured())


@pytest.mark.parametrize("name", ["</svg><script>alert(1)</script>", "$x_1$", "_underscore", "a" * 256])
def test_names_are_text_and_nothing_else(name):
    svg = curves.curve_plot(measured(lambda found: found.update(engines={name: found["engines"]["onnx-cpu"]})))
    assert "<script" not in svg
    assert svg.count("</svg>") == 1
