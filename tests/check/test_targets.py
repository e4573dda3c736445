from __future__ import annotations

import pytest

from tscnc_deploy.check.policy import Policy
from tscnc_deploy.check.targets import checkers_target
from tscnc_deploy.engines.target import Target, load_target
from tscnc_deploy.recipe.file import load_recipe


@pytest.fixture
def policy():
    return Policy(load_recipe("digits", ['export.targets=["onnx-int8", "onnx-cpu"]']), "recipe")


def test_the_recipes_target_of_that_name_counts(policy):
    theirs = load_target("onnx-int8").model_copy(update={"tolerance": 1e6})
    assert checkers_target(policy, theirs) == load_target("onnx-int8")


def test_a_name_lends_no_tolerance_to_another_precision(policy):
    theirs = Target(name="onnx-int8", tolerance=1e6)
    found = checkers_target(policy, theirs)
    assert (found.precision, found.engine) == ("fp32", "onnxruntime")
    assert found.tolerance < load_target("onnx-int8").tolerance
