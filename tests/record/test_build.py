from __future__ import annotations

import json

import numpy as np
import pytest

from tests.report.records import record, report_data
from tests.robustness.victims import linear
from tscnc_deploy.errors import BundleError
from tscnc_deploy.record import BuildRecord, Evaluation, Gate
from tscnc_deploy.robustness import (
    FGSM,
    ModelVictim,
    Replay,
    Square,
    Threat,
    accuracy,
    at_most,
    compare_logits,
    evaluate,
)
from tscnc_deploy.tscnc.conditioning import LayerCondition


def test_json_and_back_gives_the_same_data():
    data = report_data()
    text = json.dumps(data.to_json(), allow_nan=False)
    assert BuildRecord.from_json(json.loads(text)) == data


def test_what_is_not_finite_becomes_null():
    wrong = record()
    wrong["layers"][0]["kappa"] = float("inf")
    wrong["history"][0]["kappa"]["conv1.weight"] = float("nan")
    wrong["gates"][0]["value"] = float("nan")
    data = BuildRecord.from_json(wrong).to_json()
    assert data["layers"][0]["kappa"] is None
    assert data["history"][0]["kappa"]["conv1.weight"] is None
    assert data["gates"][0]["value"] is None


def test_a_record_needs_little():
    full = record()
    data = BuildRecord.from_json({key: full[key] for key in ("name", "model", "threat", "passed")})
    assert data.evaluations.weakest is None
    assert data.evaluations.rows == []


def test_keys_of_a_later_version_are_dropped():
    assert BuildRecord.from_json(record() | {"later": 1}) == report_data()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"passed": None}, "passed: Input should be a valid boolean"),
        ({"threat": {"epsilon": 8}}, "threat.epsilon = '8': is not a radius in (0, 1]"),
        ({"gates": [{"name": "clean"}]}, "gates.0.passed: Field required"),
        ({"layers": [{"name": "x"}] * 2001}, "layers: Tuple should have at most 2000 items"),
        ({"environment": {"x" * 300: "y"}}, "environment has the key"),
        ({"environment": {str(i): "y" for i in range(101)}}, "environment: Dictionary should have at most 100 items"),
        ({"pruning": {"lost": 1}}, "pruning.gained: Field required"),
    ],
)
def test_a_record_of_another_form_names_the_key(change, message):
    with pytest.raises(BundleError) as caught:
        BuildRecord.from_json(record() | change)
    assert str(caught.value).startswith("the record of the build has a wrong entry: ")
    assert message in str(caught.value)


def test_a_record_that_is_no_table_is_refused():
    with pytest.raises(BundleError, match="the record of the build has a wrong entry"):
        BuildRecord.from_json([])


def test_the_forms_of_the_packages_that_measure_are_taken():
    gate = at_most("twin median kappa", float("nan"), 100.0)
    twin = np.zeros((3, 2), np.float32)
    engine = np.array([[0.0, 1.0], [0.0, 0.0], [np.inf, 2.0]], np.float32)
    parity = compare_logits(twin, twin, engine, twin, 1e-3)
    layer = LayerCondition("fc.weight", (3, 4), 12, 6, float("nan"), 2, 3, 1.5, 3, 1)
    changed = record()
    changed["gates"] = [gate.to_json()]
    changed["evaluations"]["twin"]["clean"] = accuracy(9, 10).to_json()
    changed["evaluations"]["engines"]["onnx-cpu"]["parity"] = parity.to_json()
    changed["layers"] = [layer.to_json()]
    data = BuildRecord.from_json(changed)
    assert data.gates[0].value is None
    assert data.evaluations.named["twin"].rows["clean"].correct == 9
    assert data.evaluations.engines["onnx-cpu"].parity.flips_adversarial == (0,)
    assert data.evaluations.engines["onnx-cpu"].parity.max_abs_diff is None
    assert data.layers[0].sparsity == 0.5
    assert data.layers[0].label == "fc"


def test_nothing_of_an_evaluation_is_lost():
    model, images, labels, _ = linear(2, 6)
    attacks = [FGSM(), Square(20), Replay(images)]
    measured = evaluate(ModelVictim(model), images, labels, Threat(epsilon=0.04), attacks).record
    assert Evaluation.model_validate(json.loads(json.dumps(measured.to_json()))) == measured


@pytest.mark.parametrize(
    ("value", "limit", "passed", "sign"),
    [
        (0.96, 0.95, True, "≥"),
        (0.94, 0.95, False, "≥"),
        (0.01, 0.02, True, "≤"),
        (0.03, 0.02, False, "≤"),
        (0.5, 0.5, True, ""),
        (None, 0.5, False, ""),
    ],
)
def test_the_sign_of_a_gate_follows_from_its_outcome(value, limit, passed, sign):
    assert Gate(name="x", value=value, limit=limit, passed=passed).sign == sign


def test_the_worst_case_is_the_last_row_and_the_weakest_engine_is_found():
    changed = record()
    engines = changed["evaluations"]["engines"]
    engines["weaker"] = engines["onnx-cpu"] | {"robust": engines["onnx-cpu"]["robust"] | {"accuracy": 0.5}}
    engines["unmeasured"] = {"unavailable": "there is no GPU"}
    evaluations = BuildRecord.from_json(changed).evaluations
    assert evaluations.rows == ["clean", "pgd-20", "apgd-ce-50", "square-1000", "replay", "worst case"]
    assert evaluations.weakest[0] == "weaker"
    assert evaluations.unavailable == ["unmeasured"]
    assert list(evaluations.named) == ["dense", "twin", "onnx-cpu", "weaker"]


def test_looking_for_no_warnings_is_not_finding_none():
    changed = record()
    del changed["evaluations"]["dense"]["warnings"]
    evaluations = BuildRecord.from_json(changed).evaluations
    assert evaluations.dense.warnings is None
    assert evaluations.twin.warnings == ()


def test_the_median_kappa_is_of_the_layers_that_have_one():
    changed = record() | {"layers": [{"name": "a", "kappa": 3.0}, {"name": "b"}, {"name": "c", "kappa": 5.0}]}
    assert BuildRecord.from_json(changed).median_kappa == 4.0
    assert BuildRecord.from_json(changed | {"layers": []}).median_kappa is None


def test_nothing_that_the_stages_measure_is_lost():
    assert report_data().to_json() == record()
