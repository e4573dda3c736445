from __future__ import annotations

import json

import pytest

from tests.report.records import measured_record, record, report_data
from tscnc_deploy.record import BuildRecord
from tscnc_deploy.report.card import plain, render_card


def front_matter(card: str) -> list[str]:
    opening, matter, _ = card.split("---\n", 2)
    assert opening == ""
    return matter.splitlines()


def test_the_front_matter_has_what_model_hubs_read():
    lines = front_matter(render_card(report_data()))
    assert lines[:11] == [
        'license: "unknown"',
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
    lines = front_matter(render_card(BuildRecord.from_json(record() | {"evaluations": {}})))
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


def test_the_card_says_how_exact_the_worst_case_is():
    card = render_card(report_data())
    assert "\n\nWorst case: interval of ±4.1 points; 3.9 times the images would halve it: 1,397.\n\n" in card
    assert "Beyond the threat model" not in card
    assert "Warning" not in card


def test_the_card_lists_warnings_and_what_lies_beyond_the_threat_model():
    card = render_card(BuildRecord.from_json(measured_record()))
    assert "\n\n**Warning: gradient-free-stronger.** Robust accuracy may be overstated: on 12 of 351 " in card
    assert "no gradient attack did. The figure is 0.03419; values up to 0.02 are not a sign.\n\n## Beyond" in card
    assert "| twin | mean accuracy under 6 common corruptions | 87.5%, 79.0 to 93.1 |" in card
    assert "| onnx-cpu | median smallest adversarial epsilon | 0.171, 0.16 to 0.18 |" in card
    assert "| onnx-cpu | median local Lipschitz constant | 55, 39 to 72.5 |" in card
    assert "smoothed with σ = 0.12, at L2 radius 0.12 | 67.5%, 62.4 to 72.3 |\n\n## Gates" in card
    assert "Except for the measures above, other norms, larger perturbations" in card
    assert "\n\n\n" not in card
    assert "None" not in card


def test_an_l2_threat_is_not_one_of_every_pixel():
    card = render_card(BuildRecord.from_json(record() | {"threat": {"norm": "L2", "epsilon": 0.5}}))
    assert "The image may change by an L2 distance of at most 0.5, and every pixel stays in [0, 1]." in card


def test_the_card_of_a_failed_build_says_so():
    assert "Gates: **FAILED**" in render_card(BuildRecord.from_json(record() | {"passed": False}))


@pytest.mark.parametrize("missing", ["recipe", "evaluations", "gates", "layers", "history", "sizes"])
def test_each_part_may_be_missing(missing):
    bare = record()
    del bare[missing]
    card = render_card(BuildRecord.from_json(bare))
    assert "None" not in card
    assert "\n\n\n" not in card


def test_names_cannot_break_out_of_the_front_matter_or_become_markup():
    hostile = record() | {"name": 'x"\n---\n# owned <script> [a](http://b) | c'}
    hostile["recipe"]["data"]["dataset"] = "x\nlicense: mit"
    card = render_card(BuildRecord.from_json(hostile))
    lines = front_matter(card)
    assert "- name: " + json.dumps(hostile["name"]) in lines
    assert "license: mit" not in lines
    assert '# x" --- # owned \\<script\\> \\[a\\](http\\://b) \\| c\n' in card


HOSTILE = (
    "[a](javascript:alert(1))", "![a](http://b/c.png)", "<script>alert(1)</script>", "http://evil.example", "`x`",
    "www.evil.example", "@somebody", "a | b | c", "# owned", "</td>", "**x**", "x\n\n# owned\n\n- y", "&lt;b&gt;",
    "$x$", "~~x~~", "- item", "1. item", "+ item", "---", "===", "2) item",
)  # fmt: skip


def tokens(card):
    """The kinds of everything in a card, as a reader of GitHub's Markdown sees it, and its text."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    found = reader.parse(card.partition("---\n")[2].partition("---\n")[2])
    every = [*found, *(child for token in found for child in token.children or ())]
    return [token.type for token in every if token.type != "text"], " ".join(token.content for token in every)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_becomes_markup(name):
    document = record()
    kinds, _ = tokens(render_card(BuildRecord.from_json(document)))
    document["model"]["classes"] = [name, *document["model"].get("classes", ["b"])[1:]]
    document["model"]["arch"] = document["name"] = name
    document["gates"] = [gate | {"name": name} for gate in document["gates"]]
    found, text = tokens(render_card(BuildRecord.from_json(document)))
    assert found == kinds
    assert " ".join(name.split()) in text


@pytest.mark.parametrize("name", ["http://evil.example", "HTTPS://evil.example", "www.evil.example", "a@b.example"])
def test_no_name_becomes_a_link_of_its_own(name):
    assert name not in plain(name)


def test_plain_is_one_line():
    assert plain("a\n b\t*c*") == "a b \\*c\\*"


def on_the_hub(data):
    """The card as the hub's own library reads it, which refuses metadata that it does not understand."""
    from huggingface_hub import ModelCard

    return ModelCard(render_card(data)).data


def test_the_metadata_are_valid_for_the_hub():
    data = on_the_hub(report_data())
    assert (data.license, data.library_name, data.pipeline_tag) == ("unknown", "tscnc-deploy", "image-classification")
    assert data.model_name == "digits-resnet18-s95"
    robust = [result for result in data.eval_results if result.metric_name == "onnx-cpu, robust accuracy, Linf 0.1"]
    assert [(result.metric_type, result.metric_value) for result in robust] == [("accuracy", 0.825)]
    assert {(result.task_type, result.dataset_type, result.dataset_split) for result in data.eval_results} == {
        ("image-classification", "digits", "test")
    }
    # And written again by it, they say the same.
    assert data.to_dict()["model-index"][0]["name"] == "digits-resnet18-s95"


def test_the_hubs_library_refuses_what_is_not_valid():
    from huggingface_hub import ModelCard

    with pytest.raises(ValueError, match="model_index"):
        ModelCard("---\nmodel-index:\n- name: x\n  results:\n  - task: 7\n---\n")


def test_hostile_names_stay_data_in_the_metadata():
    changed = record() | {"name": 'a: [b]\n---\n"c"', "recipe": {"data": {"dataset": "x\n- y: {"}}}
    data = on_the_hub(BuildRecord.from_json(changed))
    assert data.model_name == 'a: [b]\n---\n"c"'
    assert {result.dataset_name for result in data.eval_results} == {"x\n- y: {"}


def test_without_evaluations_the_metadata_are_valid_too():
    assert on_the_hub(BuildRecord.from_json(record() | {"evaluations": {}})).eval_results is None


def test_the_licence_is_the_recipes():
    assert on_the_hub(BuildRecord.from_json(record() | {"recipe": {"card": {"license": "mit"}}})).license == "mit"
    # "no" is no string in YAML, and a number none here.
    assert on_the_hub(BuildRecord.from_json(record() | {"recipe": {"card": {"license": "no"}}})).license == "no"
    assert on_the_hub(BuildRecord.from_json(record() | {"recipe": {"card": {"license": 7}}})).license == "unknown"
    assert on_the_hub(BuildRecord.from_json(record() | {"recipe": {"card": 7}})).license == "unknown"


def test_a_card_of_withheld_images_says_where_they_are():
    card = render_card(BuildRecord.from_json(record() | {"recipe": {"verify": {"ship_images": False}}}))
    assert "bundle.withheld  # indices and digests" in card
    assert "bundle.evidence" not in card
    assert "take them from the data set that `--dataset` and `--data-root` name" in card
    assert "bundle.withheld" not in render_card(report_data())
