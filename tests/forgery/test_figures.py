"""Records whose figures are invented, wholly or by one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.check import forging
from tests.check.forging import check, outcomes
from tests.conftest import invoke
from tests.forgery.examining import examine, failed
from tscnc_deploy.robustness import accuracy

INTERVALS = "record: intervals follow from the counts"
COUNTS = "record: counts agree with the evidence"
LOSSES = "record: losses follow from the counts"
ATTACKS = "record: attacked as the recipe says"
ENGINES = "record: engines are those of the manifest"
NETWORK = "manifest: network as in the record and the files"
LAYERS = "record: layers are the twin's"
SIZES = "record: sizes are those of the files"
GATES = "record: gates follow from the figures"
RENDERED = "report.html and README.md: say what the record says"
RECIPE = "recipe: matches the record"


def perfect(record):
    """Every share is 100%, with the right interval."""
    found = record["evaluations"]
    for evaluation in (found["dense"], found["twin"], *found["engines"].values()):
        total = evaluation["clean"]["total"]
        best = accuracy(total, total).to_json()
        evaluation |= {"clean": best, "robust": best, "attacks": dict.fromkeys(evaluation["attacks"], best)}


def test_shares_of_100_percent_fail_whatever_their_intervals(bundle):
    forging.rewrite_record(bundle, perfect)
    document = check(bundle, status=1)
    assert COUNTS in outcomes(document)
    (result,) = [each for each in document["results"] if each["name"] == COUNTS]
    assert "120 of 120 images are said to be correct, but" in result["message"]
    assert "of the 80 evidence images are, so it is" in result["message"]


def test_inspect_says_which_figures_are_false_and_whose_all_of_them_are(bundle):
    honest = invoke("inspect", bundle).stdout
    assert "The values are as the bundle's maker says; `tscnc-deploy check` measures them again." in honest
    assert "Only as its maker says, after a check too: outcomes of the 40 of 120 evaluated images" in honest
    assert "FALSE" not in honest
    forging.rewrite_record(bundle, perfect)
    shown = invoke("inspect", bundle)
    assert shown.exit_code == 0
    assert "FALSE: twin, clean: 120 of 120 images are said to be correct" in shown.stdout
    document = json.loads(invoke("inspect", bundle, "--json").stdout)
    assert document["contradictions"][0].startswith("dense, clean: 120 of 120 images")
    assert document["as_its_maker_says"].startswith("outcomes of the 40 of 120 evaluated images")


def engine(record):
    return record["evaluations"]["engines"]["onnx-cpu"]


def one_more(record):
    """One count is larger than the evidence allows, and its interval is right."""
    share = engine(record)["robust"]
    share |= accuracy(share["total"], share["total"]).to_json()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda record: engine(record)["robust"].update(low=0.999), INTERVALS),
        (lambda record: record["evaluations"]["dense"]["attacks"]["fgsm"].update(accuracy=0.999), INTERVALS),
        (lambda record: record["evaluations"]["twin"]["clean"].update(correct=121), INTERVALS),
        (lambda record: record["evaluations"]["twin"]["measures"]["corruptions"]["clean"].update(high=1.0), INTERVALS),
        (one_more, COUNTS),
        (lambda record: engine(record)["attacks"].pop("pgd-5"), COUNTS),
        (lambda record: engine(record)["attacks"].pop("pgd-5"), ATTACKS),
        (lambda record: engine(record).update(cascade=True), ATTACKS),
        (lambda record: engine(record)["comparison"].update(upper_bound=0.0), LOSSES),
        (lambda record: record["pruning"].update(lost=0, gained=0), LOSSES),
        (lambda record: record["pruning"].update(mcnemar_p=0.5), LOSSES),
        (lambda record: engine(record).update(flips=7), ENGINES),
        (lambda record: engine(record)["parity"].update(tolerance=1e6), ENGINES),
        (lambda record: engine(record).update(precision="int8"), ENGINES),
        (lambda record: engine(record).update(bytes=1), ENGINES),
        (lambda record: record["model"].update(parameters=1), NETWORK),
        (lambda record: record.update(name="another"), NETWORK),
        (lambda record: record["layers"][1].update(kappa=1.0), LAYERS),
        (lambda record: record["layers"][1].update(nonzero=1), LAYERS),
        (lambda record: record["layers"].pop(), LAYERS),
        (lambda record: record["sizes"][0].update(bytes=1), SIZES),
        (lambda record: record["sizes"][1].update(ratio=99.0), SIZES),
        (lambda record: record["gates"][0].update(value=1e9), GATES),
        (lambda record: record["gates"].pop(), GATES),
        (lambda record: record["gates"].append(record["gates"][0] | {"name": "another"}), GATES),
        (lambda record: record["recipe"]["train"].update(epochs=99), RECIPE),
        (lambda record: record["recipe"].update(more={"a": 1}), RECIPE),
    ],
)
def test_one_false_figure_fails_by_its_name(bundle, change, name):
    forging.rewrite_record(bundle, change)
    assert name in failed(bundle)


def test_a_count_that_the_evidence_makes_next_to_impossible_fails(bundle):
    """The 40 other images would all have to be misclassified, though nearly all of the evidence is not."""

    def worst(record):
        share = record["evaluations"]["dense"]["clean"]
        share |= accuracy(share["correct"] - 40, share["total"]).to_json()

    forging.rewrite_record(bundle, worst)
    found = failed(bundle)[COUNTS]
    assert "dense" in found


@pytest.mark.parametrize(
    ("key", "value"), [("sparsity", 0.99), ("multiply_adds_left", 1), ("classes", list("abcdefghij"))]
)
def test_a_manifest_with_other_facts_than_the_record_fails(bundle, key, value):
    forging.reseal(bundle, lambda contents: contents["model"].update({key: value}))
    assert NETWORK in failed(bundle)


def test_a_fact_that_is_false_in_both_fails(bundle):
    forging.rewrite_record(bundle, lambda record: record["model"].update(multiply_add_sparsity=0.99))
    forging.reseal(bundle, lambda contents: contents["model"].update(multiply_add_sparsity=0.99))
    assert "MACs are said to remain" in failed(bundle)[NETWORK]


def of_version(monkeypatch, version):
    for module in ("bundle.writer", "report.html", "check.rendered"):
        monkeypatch.setattr(f"tscnc_deploy.{module}.own_version", lambda: version)


def rendered(folder):
    (result,) = [each for each in examine(folder) if each.name == RENDERED]
    return result.outcome, result.message


@pytest.mark.parametrize(
    ("path", "old", "new"), [("report.html", "Robustness report", "Perfect"), ("README.md", "# ", "# x")]
)
def test_a_report_or_card_that_says_something_else_fails(bundle, monkeypatch, path, old, new):
    of_version(monkeypatch, "1.2.3")
    forging.rewrite_record(bundle, lambda record: None)
    assert rendered(bundle) == ("passed", "")
    text = (bundle / path).read_text()
    assert old in text
    (bundle / path).write_text(text.replace(old, new))
    forging.reseal(bundle)
    assert rendered(bundle) == ("failed", f"the same version renders another {path} from the record")


def test_templates_of_a_version_under_development_may_have_changed(bundle, monkeypatch):
    of_version(monkeypatch, "1.2.dev3+g48ed01d")
    for path in ("report.html", "README.md"):
        (bundle / path).write_text("# Perfect")
    forging.reseal(bundle)
    outcome, message = rendered(bundle)
    assert outcome == "note"
    assert message.startswith("as their maker says: the same version renders another report.html and another README.md")


def test_a_report_of_another_version_is_said_not_to_be_compared(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text()) | {"tscnc_deploy": "0.0.1"}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    outcome, message = rendered(bundle)
    assert outcome == "note"
    assert message.startswith("as their maker says: version 0.0.1 wrote them, and this is ")


def test_what_nothing_proves_is_said(bundle):
    (result,) = [each for each in examine(bundle) if each.name == "not proved: as its maker says"]
    assert result.outcome == "note"
    assert result.message.startswith("outcomes of the 40 of 120 evaluated images that are not in the evidence, ")


def test_evidence_of_all_images_fixes_every_count(bundle):
    """Nothing is left to the maker when the record is of the evidence images alone; one image more is false."""
    from tscnc_deploy.check.figures import _allowed

    mask = np.array([True, True, False])
    assert list(_allowed("x", accuracy(2, 3), mask)) == []
    assert list(_allowed("x", accuracy(3, 3), mask)) == [
        "x: 3 of 3 images are said to be correct, but 2 of the 3 evidence images are, so it is 2 to 2"
    ]


def test_outcomes_without_the_dense_network_are_no_false_figures(bundle):
    forging.rewrite_evidence(
        bundle, lambda e: replace(e, outcomes={k: v for k, v in e.outcomes.items() if not k.startswith("dense.")})
    )
    assert failed(bundle) == {}
