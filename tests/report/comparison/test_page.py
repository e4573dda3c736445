import json
from html.parser import HTMLParser

import pytest

from tests.report.comparison.results import result
from tscnc_deploy.report.comparison import compare_runs
from tscnc_deploy.report.comparison.page import render_comparison


class Text(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.text, self.open = "", []
        self.feed(page)

    def handle_data(self, data):
        self.text += data


def page(*runs):
    return render_comparison(compare_runs(runs), "Which <constraint>")


def test_the_page_shows_every_row_with_its_loss():
    text = Text(page(result("a", 0), result("a", 1), result("b", 0, robust=282), result("b", 1, robust=282))).text
    assert "Which <constraint>" in text
    assert "Comparison of 4 runs" in text
    assert "83.3%" in text  # 300 of 360
    assert "78.3% (78.3 to 78.3)" in text
    assert "5.0% (5.0 to 5.0)" in text
    assert "Over sparsity" not in text


def test_sparsities_and_sizes_are_drawn_where_they_differ():
    runs = [result("a", 0, sparsity=s, size=int(1e7 * (1 - s)), robust=int(360 * (1.8 - s))) for s in (0.9, 0.95, 0.99)]
    text = Text(page(*runs)).text
    assert "Robust accuracy over sparsity" in text
    assert "Robust accuracy against size of the smallest form, MB" in text


def test_latencies_are_drawn_where_they_differ():
    runs = [result("a", 0, milliseconds=1.0), result("b", 0, milliseconds=0.5, constraint="none")]
    assert "Robust accuracy against milliseconds of the fastest engine, one image" in Text(page(*runs)).text


def test_what_comes_from_a_bundle_is_escaped():
    assert "<script>alert" not in page(result("<script>alert(1)</script>", 0))


def test_equal_runs_give_an_equal_page():
    assert page(result("a", 0)) == page(result("a", 0))


def test_the_json_holds_every_run():
    document = compare_runs([result("a", 0), result("b", 0, constraint="none", robust=290)]).to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["rows"][1]["runs"][0]["robust"]["correct"] == 290
    assert document["rows"][1]["robust_lost_to_first_row"]["value"] == pytest.approx(10 / 360)
