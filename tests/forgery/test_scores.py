"""Engines whose answers hide how close an image is to another class."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests.check import forging
from tests.check.forging import check, outcomes
from tests.forgery import graphs
from tscnc_deploy import open_bundle
from tscnc_deploy.check.images import Shown, evidence_images
from tscnc_deploy.check.policy import choose_policy
from tscnc_deploy.check.replay import Replay


def saturate(model):
    graphs.append(
        model,
        helper.make_node("Mul", ["inner", "steep"], ["steeper"], name="steeper"),
        helper.make_node("Sigmoid", ["steeper"], ["logits"], name="saturated"),
        constants={"steep": np.array(1e6, np.float32)},
    )


def round_to_halves(model):
    graphs.append(
        model,
        helper.make_node("Mul", ["inner", "two"], ["double"], name="double"),
        helper.make_node("Round", ["double"], ["rounded"], name="rounded"),
        helper.make_node("Div", ["rounded", "two"], ["logits"], name="halves"),
        constants={"two": np.array(2, np.float32)},
    )


def add_noise_to_labels(model):
    """One-hot answers with a little of the logits: all values differ, and none is close to another class."""
    graphs.answer_labels_only(model)
    model.graph.node[-1].output[0] = "onehot"
    model.graph.node.extend(
        [
            helper.make_node("Mul", ["inner", "little"], ["noise"], name="noise"),
            helper.make_node("Add", ["onehot", "noise"], ["logits"], name="sum"),
        ]
    )
    model.graph.initializer.append(helper.make_tensor("little", 1, [], [1e-6]))


@pytest.mark.slow
def test_hard_labels_are_a_finding_and_attacked_by_a_search_that_needs_no_more(bundle):
    graphs.change_graph(bundle, graphs.answer_labels_only)
    document = check(bundle, status=1)
    assert "onnx-cpu: answers give a score" in outcomes(document)
    # The attack on labels is beside those that were asked for; square-2000 follows signs of masking.
    attacks = list(document["engines"]["onnx-cpu"]["attacks"])
    assert attacks == [
        *("replay", "twin-apgd-2", "square-5", "gap-20", "hopskipjump-500", "float64-apgd", "square-2000"),
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (graphs.answer_labels_only, "take only 2 different values"),
        (saturate, "different values"),
        (round_to_halves, "different values"),
        (add_noise_to_labels, "no answer is close to another class"),
    ],
)
def test_answers_without_a_score_are_a_finding(bundle, change, said):
    graphs.change_graph(bundle, change)
    opened = open_bundle(bundle)
    replay = Replay(opened, choose_policy(opened), evidence_images(opened))
    findings = {result.name: result for result in replay.check("onnx-cpu")}
    found = findings["onnx-cpu: answers give a score"]
    assert found.outcome == "failed"
    assert said in found.message
    assert replay.scoreless == {"onnx-cpu"}


def test_logits_give_a_score(bundle):
    opened = open_bundle(bundle)
    replay = Replay(opened, choose_policy(opened), evidence_images(opened))
    assert {result.outcome for result in replay.check("onnx-cpu")} == {"passed"}
    assert replay.scoreless == set()


def test_a_small_evidence_hides_nothing(bundle):
    """The bundle's recipe says how much there is; images that no bundle contains tell then."""
    forging.rewrite_evidence(bundle, lambda evidence: graphs.first_of(evidence, 10))
    for change, outcome in ((None, "passed"), (graphs.answer_labels_only, "failed")):
        if change:
            graphs.change_graph(bundle, change)
        opened = open_bundle(bundle)
        replay = Replay(opened, choose_policy(opened), evidence_images(opened))
        (found,) = [each for each in replay.check("onnx-cpu") if each.name == "onnx-cpu: answers give a score"]
        assert found.outcome == outcome


def test_drawn_images_tell(bundle):
    whole = evidence_images(open_bundle(bundle))
    forging.rewrite_evidence(bundle, lambda evidence: graphs.first_of(evidence, 10))
    opened = open_bundle(bundle)
    for drawn, outcome in ((whole.images, "passed"), ((whole.images > 0.5).float(), "passed")):
        replay = Replay(opened, choose_policy(opened), Shown(drawn, whole.labels, drawn=True))
        (found,) = [each for each in replay.check("onnx-cpu") if each.name == "onnx-cpu: answers give a score"]
        assert found.outcome == outcome
    graphs.change_graph(bundle, graphs.answer_labels_only)
    opened = open_bundle(bundle)
    replay = Replay(opened, choose_policy(opened), Shown(whole.images, whole.labels, drawn=True))
    (found,) = [each for each in replay.check("onnx-cpu") if each.name == "onnx-cpu: answers give a score"]
    assert found.outcome == "failed"


def test_drawn_images_are_compared_with_the_twins_answers(bundle):
    """An engine that differs on images of another kind than the evidence only."""
    graphs.change_graph(bundle, graphs.add_backdoor)
    opened = open_bundle(bundle)
    whole = evidence_images(opened)
    drawn = whole.images.clone()
    drawn[:, :, 0, 0] = 1
    replay = Replay(opened, choose_policy(opened), Shown(drawn, whole.labels, drawn=True))
    (found,) = [each for each in replay.check("onnx-cpu") if "other images" in each.name]
    assert found.outcome == "failed"
    assert " on drawn" in found.message
