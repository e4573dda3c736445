from __future__ import annotations

import pytest

from tscnc_deploy.check.policy import Policy
from tscnc_deploy.check.targets import allowed_flips, checkers_target
from tscnc_deploy.engines.target import Target, load_target
from tscnc_deploy.recipe.file import load_recipe


def policy(source, *overrides):
    return Policy(load_recipe("digits", overrides), source)


@pytest.mark.parametrize("source", ["bundle", "baseline", "recipe"])
def test_a_shipped_name_has_the_shipped_tolerance(source):
    theirs = load_target("onnx-cpu").model_copy(update={"tolerance": 1e6})
    assert checkers_target(policy(source), theirs).tolerance == 1e-3


def test_an_unknown_name_has_the_largest_of_its_kind_and_precision():
    for engine, precision, tolerance in (
        ("onnxruntime", "fp32", 2e-3),
        ("onnxruntime", "int8", 0.5),
        ("sparse-cpu", "fp32", 1e-3),
        ("tensorrt", "fp16", 5e-2),
        ("tensorrt-rtx", "fp16", 5e-2),
    ):
        theirs = Target(name="mine", engine=engine, precision=precision, tolerance=1e6)
        assert checkers_target(policy("bundle"), theirs).tolerance == tolerance


def test_a_shipped_name_of_another_precision_is_not_that_target():
    theirs = Target(name="onnx-int8", tolerance=1e6)
    assert checkers_target(policy("bundle"), theirs).tolerance == 2e-3


def test_the_users_recipe_names_the_users_target(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("tolerance = 0.25\n")
    theirs = Target(name="mine", tolerance=1e6)
    names = f'export.targets=["{path}"]'
    assert checkers_target(policy("recipe", names), theirs).tolerance == 0.25
    # That of the bundle was written by its maker.
    assert checkers_target(policy("bundle", names), theirs).tolerance == 2e-3


def test_the_fewer_bits_the_more_labels_may_differ():
    shares = [allowed_flips(load_target(name)) for name in ("onnx-cpu", "tensorrt-fp16", "onnx-int8")]
    assert shares == [0.01, 0.05, 0.15]
