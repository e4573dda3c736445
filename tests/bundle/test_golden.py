"""Bundles of earlier versions open. `golden/` holds one for every schema of the record, built by the version that wrote
it: a ResNet-18 of a sixteenth width on 250 digits, evaluated on 40, with every measure."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.check.forging import check
from tests.conftest import invoke
from tscnc_deploy import open_bundle

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("golden")
    with tarfile.open(GOLDEN / "tscnc-record-0.tar.xz") as archive:
        archive.extractall(place, filter="data")
    return place / "bundle"


def test_it_opens_and_its_engine_classifies_as_its_twin(folder):
    bundle = open_bundle(folder)
    assert (bundle.engines, bundle.manifest.passed) == (("onnx-cpu",), True)
    assert bundle.evidence.images.shape == (10, 1, 8, 8)
    assert set(bundle.evidence.adversarial) == {"twin", "onnx-cpu"}
    assert np.isfinite(bundle.engine("onnx-cpu").logits(bundle.evidence.images)).all()


def test_every_figure_is_read_with_its_bits(folder):
    written = json.loads((folder / "evidence" / "evidence.json").read_text())
    assert "schema" not in written
    read = open_bundle(folder).record.to_json()
    assert read.pop("schema") == "tscnc-record/0"
    for evaluation in (written["evaluations"]["twin"], written["evaluations"]["engines"]["onnx-cpu"]):
        smallest = evaluation["measures"]["smallest-epsilon"]
        smallest["robust"] = smallest.pop("standing")
        # They were not the published ones, which the key means now.
        assert evaluation["measures"]["corruptions"]["mean"] is not None
        evaluation["measures"]["corruptions"] = None
    assert read == written


@pytest.mark.slow
def test_check_says_what_its_schema_cannot_show(folder):
    document = check(folder)
    (found,) = [each for each in document["results"] if each["name"] == "record: of this version's schema"]
    assert found["outcome"] == "note"
    assert found["message"] == (
        "written by an older version (tscnc-record/0): it has no schema; attack settings that are lists, "
        "such as several losses, are missing; its corruptions are not the published ones and are not read"
    )
    assert not [each for each in document["results"] if each["outcome"] in ("failed", "error")]


def test_a_bundle_of_this_version_has_nothing_to_note(tiny_build):
    (found,) = [
        each for each in check(tiny_build.bundle)["results"] if each["name"] == "record: of this version's schema"
    ]
    assert (found["outcome"], found["message"]) == ("passed", "")


def test_its_report_is_rendered_again(folder, tmp_path):
    assert invoke("report", folder, "--out", tmp_path / "report.html").exit_code == 0
    text = (tmp_path / "report.html").read_text()
    assert "golden" in text
    assert "Smallest adversarial epsilon" in text
    assert "Common corruptions" not in text
    assert "CIFAR-10-C" not in text
