"""Twins with operators that pass on no gradient: engine and twin agree, and so does all that the bundle says."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests.check import forging
from tests.check.forging import check
from tests.forgery import graphs

# Each runs whole checks, which attack.
pytestmark = pytest.mark.slow

SIGNS = "onnx-cpu: signs of gradient masking"


def round_images(model):
    """Pixels are multiples of 1/16, so that rounding changes no image; the images go by another name before."""
    nodes = [
        helper.make_node("Identity", ["images"], ["same"], "same"),
        helper.make_node("Mul", ["same", "steps"], ["many"], "many"),
        helper.make_node("Round", ["many"], ["whole"], "whole"),
        helper.make_node("Div", ["whole", "steps"], ["rounded"], "rounded"),
    ]
    for node in model.graph.node:
        node.input[:] = ["rounded" if name == "images" else name for name in node.input]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    model.graph.initializer.append(numpy_helper.from_array(np.array(16, np.float32), "steps"))


def exchange(bundle, change):
    graphs.edit(bundle / "twin.onnx", change)
    forging.exchange_network(bundle)


def signs_of(document):
    (found,) = [each for each in document["results"] if each["name"] == SIGNS]
    return found


def test_a_choice_by_a_pixel(bundle):
    exchange(bundle, graphs.add_backdoor)
    document = check(bundle)
    found = signs_of(document)
    assert found["outcome"] == "note"
    assert found["message"] == (
        "flat-operators: between images and logits, twin.onnx has Greater 'triggered', Where 'backdoor', whose "
        "gradient is zero or does not exist; the gates hold against float64-apgd and square-2000 and hopskipjump-500"
    )
    (sign,) = document["engines"]["onnx-cpu"]["warnings"]
    assert (sign["name"], sign["figure"], sign["limit"]) == ("flat-operators", 2, 0)
    attacks = list(document["engines"]["onnx-cpu"]["attacks"])
    assert attacks[-3:] == ["float64-apgd", "square-2000", "hopskipjump-500"]


def test_rounded_images(bundle):
    exchange(bundle, round_images)
    document = check(bundle, "--set", "gates.robust=0.95")
    found = signs_of(document)
    assert found["outcome"] == "failed"
    assert "twin.onnx has Round 'whole', whose gradient" in found["message"]
    assert "the gates do not hold against float64-apgd" in found["message"]


def test_an_ordinary_twin_has_no_such_sign(bundle):
    found = signs_of(check(bundle, status=0))
    assert (found["outcome"], found["message"]) == ("passed", "")
