from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

import matplotlib
import pytest

from tests.report.records import record, report_data
from tscnc_deploy.record import BuildRecord
from tscnc_deploy.report import plots

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</svg><script>alert(1)</script>-->&$\\frac$"


def figures(data: BuildRecord) -> dict[str, str]:
    return {
        "accuracy": plots.accuracy_plot(data),
        "sparsity": plots.sparsity_plot(data.layers),
        "kappa": plots.kappa_plot(data.history),
        "training": plots.training_plot(data.history),
    }


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(SVG + "text")]


def test_every_figure_is_one_svg_element_with_a_title():
    for name, svg in figures(report_data()).items():
        root = ElementTree.fromstring(svg)
        assert root.tag == SVG + "svg"
        assert root.get("role") == "img"
        assert root.get("aria-labelledby") == f"{name}-title {name}-description"
        assert root[0].tag == SVG + "title"
        assert root[0].text
        assert root.get("viewBox")
        assert root.get("width") is None


def test_figures_do_not_share_ids_and_refer_to_their_own():
    seen: set[str] = set()
    for svg in figures(report_data()).values():
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)) <= {(i, "") for i in ids} | {
            ("", i) for i in ids
        }
        seen |= set(ids)


def test_equal_data_gives_equal_figures_without_a_date():
    first, second = figures(report_data()), figures(report_data())
    assert first == second
    assert not any("<metadata" in svg or "dc:date" in svg for svg in first.values())


def test_drawing_leaves_no_global_state():
    settings, modules = dict(matplotlib.rcParams), set(sys.modules)
    figures(report_data())
    assert dict(matplotlib.rcParams) == settings
    assert "matplotlib.pyplot" not in set(sys.modules) - modules


def test_the_accuracy_figure_names_models_and_attacks():
    found = texts(plots.accuracy_plot(report_data()))
    for label in ("clean", "pgd-20", "apgd-ce-50", "square-1000", "replay", "worst case", "dense", "twin", "onnx-cpu"):
        assert label in found


def test_the_sparsity_figure_names_every_layer_in_order():
    data = report_data()
    found = texts(plots.sparsity_plot(data.layers))
    labels = [layer.label for layer in data.layers]
    assert [text for text in found if text in labels] == labels
    assert "56.1%" in found


def test_the_figures_over_time_name_the_stages():
    history = report_data().history
    for svg in (plots.kappa_plot(history), plots.training_plot(history)):
        assert [text for text in texts(svg) if text in ("train", "prune", "finetune")] == ["train", "prune", "finetune"]
    assert "median of the layers" in texts(plots.kappa_plot(history))


def test_nothing_to_draw_is_an_empty_text():
    bare = record() | {"evaluations": {}, "layers": [{"name": "fc"}], "history": [{"stage": "train", "epoch": 1}]}
    assert figures(BuildRecord.from_json(bare)) == {"accuracy": "", "sparsity": "", "kappa": "", "training": ""}


def test_gaps_and_single_points_are_drawn():
    sparse = record()
    sparse["history"] = sparse["history"][:1]
    sparse["history"][0]["kappa"] = {"a": None, "b": 3.0, "c": 0.0, "d": -1.0}
    sparse["history"][0]["robust"] = None
    sparse["layers"] = sparse["layers"][:1]
    assert all(figures(BuildRecord.from_json(sparse)).values())


@pytest.mark.parametrize("name", [HOSTILE, "$x_1$", "_underscore", "名前", "\x1b", "a" * 256])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_are_text_and_nothing_else(name):
    hostile = record()
    hostile["layers"][0]["name"] = name
    hostile["history"][0]["stage"] = name
    hostile["history"][0]["kappa"] = {name: 2.0}
    hostile["evaluations"]["engines"] = {name: hostile["evaluations"]["engines"]["onnx-cpu"]}
    hostile["evaluations"]["twin"]["attacks"] = {name: hostile["evaluations"]["twin"]["clean"]}
    for svg in figures(BuildRecord.from_json(hostile)).values():
        assert "<script" not in svg
        assert svg.count("</svg>") == 1
        assert svg.endswith("</svg>")
