from __future__ import annotations

import json

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tscnc_deploy.bundle.provenance.distributions import Distribution, build_distributions
from tscnc_deploy.bundle.provenance.sbom import render_sbom

WEIGHTS = "ab" * 32
FEW = {
    "numpy": Distribution("numpy", "2.0.0+local", None, ()),
    "torch": Distribution("torch", "2.11.0", "BSD-3-Clause", ("numpy",)),
    "tscnc-deploy": Distribution("tscnc-deploy", "0.1.0", "a licence of our own", ("torch",)),
}


def test_it_keeps_the_schema_of_the_specification():
    validate = JsonStrictValidator(SchemaVersion.V1_6).validate_str
    for distributions in (FEW, build_distributions()):
        assert validate(render_sbom("tiny", WEIGHTS, distributions).decode()) is None
    broken = json.loads(render_sbom("tiny", WEIGHTS, FEW)) | {"serialNumber": "7"}
    assert validate(json.dumps(broken)) is not None  # so the validator validates


def test_who_requires_whom():
    bom = json.loads(render_sbom("tiny", WEIGHTS, FEW))
    assert {each["ref"]: each.get("dependsOn", []) for each in bom["dependencies"]} == {
        "bundle": ["pkg:pypi/tscnc-deploy@0.1.0", "python"],
        "pkg:pypi/tscnc-deploy@0.1.0": ["pkg:pypi/torch@2.11.0"],
        "pkg:pypi/torch@2.11.0": ["pkg:pypi/numpy@2.0.0%2Blocal"],
        "pkg:pypi/numpy@2.0.0%2Blocal": [],
        "python": [],
    }
    model = bom["metadata"]["component"]
    assert (model["type"], model["name"]) == ("machine-learning-model", "tiny")
    assert model["hashes"] == [{"alg": "SHA-256", "content": WEIGHTS}]


def test_licences_by_identifier_where_they_have_one():
    components = {each["name"]: each for each in json.loads(render_sbom("tiny", WEIGHTS, FEW))["components"]}
    assert components["torch"]["licenses"] == [{"license": {"acknowledgement": "declared", "id": "BSD-3-Clause"}}]
    named = {"acknowledgement": "declared", "name": "a licence of our own"}
    assert components["tscnc-deploy"]["licenses"] == [{"license": named}]
    assert "licenses" not in components["numpy"]


def test_equal_builds_give_equal_bytes_and_others_another_serial_number():
    assert render_sbom("tiny", WEIGHTS, FEW) == render_sbom("tiny", WEIGHTS, dict(FEW))
    one, other = (json.loads(render_sbom("tiny", weights, FEW)) for weights in (WEIGHTS, "cd" * 32))
    assert one["serialNumber"] != other["serialNumber"]
    assert "timestamp" not in one["metadata"]
