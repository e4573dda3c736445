"""The statement read by in-toto's own classes, by the names of the fields in SLSA's specification."""

from __future__ import annotations

import json

import pytest

from tscnc_deploy.bundle.provenance.code import Code
from tscnc_deploy.bundle.provenance.slsa import Build, provenance

FILES = {"recipe.toml": "11" * 32, "sbom.cdx.json": "22" * 32, "twin.onnx": "33" * 32}
COMMIT = "4" * 40


def build(**changes):
    told = {
        "seed": 7,
        "dataset": "digits",
        "data_sha256": "55" * 32,
        "checkpoint_sha256": None,
        "code": Code("0.1.0", COMMIT, True),
        "environment": {"python": "3.12.1", "torch": "2.11.0"},
        "hardware": {"device": "cpu", "threads": 2},
        "started": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T00:05:00Z",
    }
    return Build(**(told | changes))


def test_the_fields_of_the_specification():
    statement = provenance(build(), FILES)
    predicate = statement["predicate"]
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    assert statement["subject"][0] == {"name": "recipe.toml", "digest": {"sha256": "11" * 32}}
    assert definition["externalParameters"] == {"recipe": statement["subject"][0], "seed": 7}
    assert definition["internalParameters"] == {"hardware": {"device": "cpu", "threads": 2}}
    code, data, packages = definition["resolvedDependencies"]
    assert (code["digest"], code["annotations"]) == ({"gitCommit": COMMIT}, {"modified": True})
    assert (data["digest"], data["annotations"]) == ({"sha256": "55" * 32}, {"dataset": "digits"})
    assert (packages["name"], packages["digest"]) == ("sbom.cdx.json", {"sha256": "22" * 32})
    assert details["builder"]["version"] == {"tscnc-deploy": "0.1.0", "python": "3.12.1", "torch": "2.11.0"}
    assert details["metadata"] == {"startedOn": "2026-01-01T00:00:00Z", "finishedOn": "2026-01-01T00:05:00Z"}


def test_what_is_not_known_is_left_out():
    predicate = provenance(build(code=Code("0.1.0"), started=None, checkpoint_sha256="66" * 32), FILES)["predicate"]
    dependencies = predicate["buildDefinition"]["resolvedDependencies"]
    assert dependencies[0] == {"name": "code", "uri": "pkg:pypi/tscnc-deploy@0.1.0"}
    assert dependencies[2] == {"name": "checkpoint", "digest": {"sha256": "66" * 32}}
    assert predicate["runDetails"]["metadata"] == {"finishedOn": "2026-01-01T00:05:00Z"}


def test_a_development_version_is_encoded_in_the_package_url():
    predicate = provenance(build(code=Code("0.2.dev5+g1a2b3c4", COMMIT, False)), FILES)["predicate"]
    assert predicate["buildDefinition"]["resolvedDependencies"][0]["uri"] == "pkg:pypi/tscnc-deploy@0.2.dev5%2Bg1a2b3c4"


def test_the_standards_own_classes_take_it():
    reason = "in-toto-attestation comes with pip install 'tscnc-deploy[sign]'"
    pytest.importorskip("in_toto_attestation", reason=reason)
    from google.protobuf.json_format import Parse, ParseDict, ParseError
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    document = provenance(build(), FILES)
    statement = Statement.__new__(Statement)
    statement.pb = Parse(json.dumps(document), statement_pb2.Statement())
    statement.validate()
    # Unknown names of fields are errors here, so these are the specification's.
    predicate = ParseDict(document["predicate"], provenance_pb2.Provenance())
    assert predicate.build_definition.build_type == "pkg:pypi/tscnc-deploy#build/1"
    assert predicate.build_definition.resolved_dependencies[0].digest["gitCommit"] == COMMIT
    assert predicate.run_details.metadata.started_on.seconds == 1767225600
    document["predicate"]["runDetails"]["times"] = {}
    with pytest.raises(ParseError, match="times"):
        ParseDict(document["predicate"], provenance_pb2.Provenance())


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ({"sha256": "77" * 32}, {"digest": {"sha256": "77" * 32}}),
        ({"distribution": "timm", "version": "1.0"}, {"uri": "pkg:pypi/timm@1.0"}),
        (
            {"sha256": "77" * 32, "distribution": "nets", "version": "2+a"},
            {"digest": {"sha256": "77" * 32}, "uri": "pkg:pypi/nets@2%2Ba"},
        ),
        ({"sha256": "77" * 32, "distribution": None, "version": None}, {"digest": {"sha256": "77" * 32}}),
    ],
)
def test_the_code_of_a_network_is_a_dependency(network, expected):
    used = provenance(build(network=network), FILES)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [entry for entry in used if entry["name"] == "network"] == [{"name": "network"} | expected]
