from __future__ import annotations

import copy

import pytest

from tests.report.records import measured_record, record
from tscnc_deploy.errors import BundleError
from tscnc_deploy.record import SCHEMA, BuildRecord


def unversioned():
    """The record as versions before the schema had a name wrote it."""
    document = measured_record()
    del document["schema"]
    for evaluation in (document["evaluations"]["twin"], document["evaluations"]["engines"]["onnx-cpu"]):
        smallest = evaluation["measures"]["smallest-epsilon"]
        smallest["standing"] = smallest.pop("robust")
    return document


def test_a_record_names_the_schema_that_it_is_written_in():
    assert BuildRecord.from_json(record()).schema_name == SCHEMA == "tscnc-record/1"
    assert next(iter(BuildRecord.from_json(record()).to_json().items())) == ("schema", "tscnc-record/1")


def test_a_record_without_a_schema_is_the_oldest_and_loses_only_its_corruptions():
    found = BuildRecord.from_json(unversioned())
    assert found.schema_name == "tscnc-record/0"
    expected = measured_record() | {"schema": "tscnc-record/0"}
    for evaluation in (expected["evaluations"]["twin"], expected["evaluations"]["engines"]["onnx-cpu"]):
        evaluation["measures"]["corruptions"] = None
    assert found.to_json() == expected
    assert BuildRecord.from_json(found.to_json()) == found


def test_what_is_migrated_is_left_as_it_was():
    document = unversioned()
    before = copy.deepcopy(document)
    BuildRecord.from_json(document)
    assert document == before


@pytest.mark.parametrize(
    ("schema", "said"),
    [("tscnc-record/2", "'tscnc-record/2'"), (1, "not a string"), (None, "not a string"), (["tscnc-record/1"], "not")],
)
def test_a_schema_that_is_not_known_is_refused(schema, said):
    with pytest.raises(BundleError) as caught:
        BuildRecord.from_json(record() | {"schema": schema})
    message = str(caught.value)
    assert message.startswith("the record of the build has a schema that this version does not know: it is " + said)
    assert message.endswith("known schemas are tscnc-record/0, tscnc-record/1")


@pytest.mark.parametrize(
    "damaged", [1, [], {"twin": 1}, {"engines": []}, {"twin": {"measures": {"smallest-epsilon": 1}}}]
)
def test_damage_of_an_old_record_is_refused_by_its_key(damaged):
    with pytest.raises(BundleError, match="wrong entry: evaluations"):
        BuildRecord.from_json(unversioned() | {"evaluations": damaged})
