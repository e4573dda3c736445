from __future__ import annotations

import json

import pytest

from tests.conftest import invoke
from tests.report.records import measured_record
from tscnc_deploy.record.schema import schema_text
from tscnc_deploy.resources import folder

SHIPPED = folder("export") / "record.schema.json"


def test_the_shipped_schema_is_that_of_the_classes():
    assert SHIPPED.read_text(encoding="utf-8") == schema_text(), (
        "the record's classes have changed; run: tscnc-deploy inspect --schema > export/record.schema.json"
    )


def test_inspect_prints_it_and_needs_no_bundle():
    result = invoke("inspect", "--schema")
    assert (result.exit_code, result.stdout) == (0, schema_text())


def valid(document):
    validators = pytest.importorskip("jsonschema", reason="pip install jsonschema")
    schema = json.loads(SHIPPED.read_text(encoding="utf-8"))
    validators.Draft202012Validator.check_schema(schema)
    return [error.json_path for error in validators.Draft202012Validator(schema).iter_errors(document)]


def test_a_record_fits_it():
    assert valid(measured_record()) == []


def test_what_does_not_fit_is_found_by_its_place():
    wrong = measured_record()
    wrong["evaluations"]["twin"]["clean"]["correct"] = -1
    assert valid(wrong) == ["$.evaluations.twin"]
    assert valid(measured_record() | {"schema": "tscnc-record/9"}) == ["$.schema"]


def test_a_record_of_a_build_fits_it(tiny_build):
    assert valid(json.loads((tiny_build.bundle / "evidence" / "evidence.json").read_text())) == []
