from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from tests.report.records import TOTAL, measured_record
from tests.robustness.victims import linear
from tscnc_deploy.record import BuildRecord, Curve, Measures
from tscnc_deploy.robustness import MEASURES, ModelVictim, Threat, measure


def evaluations():
    return BuildRecord.from_json(measured_record()).evaluations


@pytest.mark.parametrize("name", MEASURES)
def test_nothing_that_is_measured_is_lost(name):
    model, images, labels, _ = linear(2, 6)
    figures = measure(name, ModelVictim(model), images, labels, Threat(epsilon=0.04)).to_json()
    figures = json.loads(json.dumps(figures, allow_nan=False))
    read = Measures.model_validate({name: figures})
    assert read.present
    assert read.model_dump(mode="json", by_alias=True)[name] == figures


def test_json_and_back_gives_the_same_data():
    assert BuildRecord.from_json(measured_record()).to_json() == measured_record()


def test_only_models_of_which_something_was_measured_are_listed():
    changed = measured_record()
    assert list(evaluations().measures) == ["twin", "onnx-cpu"]
    changed["evaluations"]["twin"]["measures"] = {}
    assert list(BuildRecord.from_json(changed).evaluations.measures) == ["onnx-cpu"]


def test_corruptions_are_averaged_over_either_side_of_their_table():
    found = evaluations().measures["twin"].corruptions
    assert found.severities == [1, 2, 3, 4, 5]
    assert found.at(5, "contrast") == 331 / TOTAL
    assert found.at(6, "contrast") is None
    assert found.over_severities("contrast") == pytest.approx((351 - 4 * 3) / TOTAL)
    assert found.at(1) == pytest.approx((6 * 351 - 12 - 10 - 16 - 22 - 4 - 8) / 6 / TOTAL)
    assert found.widest == pytest.approx(0.0512, abs=1e-3)


def test_curves_begin_at_the_clean_images_and_rise():
    found = evaluations().measures["twin"]
    assert list(found.curve.points) == [0.0, 0.025, 0.05, 0.1, 0.15, 0.2, 0.4]
    assert found.curve.points[0.0].correct == 351
    backwards = Curve(curve=tuple(reversed(found.curve.curve)))
    assert list(backwards.points) == [0.025, 0.05, 0.1, 0.15, 0.2, 0.4]
    assert found.smoothing.points[0.0].correct == 348


@pytest.mark.parametrize("epsilon", [float("nan"), float("inf"), -0.1, 1e9])
def test_radii_that_no_axis_could_show_are_refused(epsilon):
    share = {"correct": 1, "total": 1, "accuracy": 1.0, "low": 0.0, "high": 1.0}
    with pytest.raises(ValidationError):
        Curve.model_validate({"curve": [{"epsilon": epsilon, **share}]})
