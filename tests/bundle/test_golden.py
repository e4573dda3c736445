"""`golden/` holds a bundle for every earlier schema of the record, built by the version that wrote it: a ResNet-18 of a
sixteenth width on 250 digits, evaluated on 40, with every measure. Its record can be read; the bundle is refused."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.check.forging import check
from tests.conftest import invoke
from tscnc_deploy import open_bundle
from tscnc_deploy.bundle.evidence_files import parse_record
from tscnc_deploy.errors import BundleError

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("golden")
    with tarfile.open(GOLDEN / "tscnc-record-0.tar.xz") as archive:
        archive.extractall(place, filter="data")
    return place / "bundle"


def test_a_bundle_of_an_earlier_version_is_refused(folder):
    said = "manifest.json has the schema tscnc-bundle/1, so an earlier version made the bundle; build it again"
    with pytest.raises(BundleError, match=said):
        open_bundle(folder)
    result = invoke("inspect", folder)
    assert result.exit_code == 2
    assert said in result.stderr


def test_every_figure_is_read_with_its_bits(folder):
    data = (folder / "evidence" / "evidence.json").read_bytes()
    written = json.loads(data)
    assert "schema" not in written
    read = parse_record(data).to_json()
    assert read.pop("schema") == "tscnc-record/0"
    for evaluation in (written["evaluations"]["twin"], written["evaluations"]["engines"]["onnx-cpu"]):
        smallest = evaluation["measures"]["smallest-epsilon"]
        smallest["robust"] = smallest.pop("standing")
        # They were not the published ones, which the key means now.
        assert evaluation["measures"]["corruptions"]["mean"] is not None
        evaluation["measures"]["corruptions"] = None
    assert read == written


def test_a_bundle_of_this_version_has_nothing_to_note(tiny_build):
    (found,) = [
        each for each in check(tiny_build.bundle)["results"] if each["name"] == "record: of this version's schema"
    ]
    assert (found["outcome"], found["message"]) == ("passed", "")
