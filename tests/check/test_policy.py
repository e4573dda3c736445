from __future__ import annotations

import json

import pytest

from tests.check import forging
from tests.check.forging import check, outcomes
from tests.forgery.examining import examine


def test_a_gate_edited_everywhere_is_not_the_users(bundle):
    """Recipe and record agree on low bounds, so only the user's own recipe tells."""
    document = check(bundle, "--recipe", "digits", status=1)
    assert document["policy"] == "--recipe"
    assert "gates: as strict as required" in outcomes(document)
    assert "onnx-cpu: robust accuracy, lower end" in outcomes(document, "failed", "inconclusive")


def test_a_weaker_threat_model_is_noticed(bundle):
    document = check(bundle, "--recipe", "digits", status=1)
    assert "threat model: as strong as required" in outcomes(document)


def engines(folder, *targets):
    (found,) = [
        result
        for result in examine(folder, f"export.targets={json.dumps(targets)}", recipe=folder / "recipe.toml")
        if result.name == "engines: those required"
    ]
    return found


def test_the_recipes_engines_and_no_others(bundle):
    assert engines(bundle, "onnx-cpu").outcome == "passed"
    missing = engines(bundle, "onnx-cpu", "onnx-int8")
    assert (missing.outcome, missing.message) == (
        "failed",
        "--recipe requires onnx-int8; if the bundle's engines are right, use --set 'export.targets=[\"onnx-cpu\"]'",
    )
    other = engines(bundle, "onnx-int8")
    assert other.message.startswith("--recipe requires onnx-int8; --recipe does not name onnx-cpu; if")


@pytest.mark.slow
def test_an_engine_that_cannot_run_here_does_not_meet_a_recipe(bundle):
    forging.add_sparse_cpu(bundle)
    target = bundle / "engines" / "sparse-cpu" / "target.json"
    target.write_text(json.dumps(json.loads(target.read_text()) | {"instructions": "neon"}))
    forging.reseal(bundle)
    recipe = ("--recipe", bundle / "recipe.toml", "--set", 'export.targets=["onnx-cpu", "sparse-cpu"]')
    assert "sparse-cpu: runs here" in outcomes(check(bundle, *recipe), "not checked")
    assert "sparse-cpu: runs here" in outcomes(check(bundle), "skipped")
    assert "sparse-cpu: runs here" not in outcomes(check(bundle, *recipe, "--engine", "onnx-cpu"), "not checked")
