from __future__ import annotations

import json
import shutil

import pytest
import torch

from tests.check.forging import reseal
from tests.conftest import invoke
from tscnc_deploy import open_bundle
from tscnc_deploy.bundle import Contents, seal
from tscnc_deploy.check.provenance import check_provenance


@pytest.fixture
def copy(tiny_build, tmp_path):
    return shutil.copytree(tiny_build.bundle, tmp_path / "bundle")


def seal_again(folder):
    """Digests that match, and a provenance that nobody has changed to match too."""
    manifest = json.loads((folder / "manifest.json").read_text())
    contents = {key: value for key, value in manifest.items() if key not in ("files", "schema", "tscnc_deploy")}
    seal(folder, Contents.model_validate(contents))


def provenance(folder):
    (result,) = check_provenance(open_bundle(folder))
    return result.outcome, result.message


def test_the_provenance_lists_the_files_of_the_bundle(tiny_build, copy):
    assert provenance(tiny_build.bundle) == ("passed", "")
    (copy / "README.md").write_text("changed")
    seal_again(copy)
    assert provenance(copy) == (
        "failed", "provenance.json and manifest.json differ on README.md: the provenance is that of another build",
    )  # fmt: skip


@pytest.mark.parametrize("text", ["{}", "[]", "7", "not JSON", '{"subject": [7], "_type": 1, "predicateType": 2}'])
def test_a_hostile_provenance_fails(copy, text):
    (copy / "provenance.json").write_text(text)
    seal_again(copy)
    assert provenance(copy)[0] == "failed"


def test_a_bundle_without_provenance_is_skipped(copy):
    (copy / "provenance.json").unlink()
    reseal(copy)
    assert provenance(copy) == ("skipped", "the bundle does not contain provenance.json")


def test_a_build_ships_its_provenance(tiny_build):
    files = json.loads((tiny_build.bundle / "manifest.json").read_text())["files"]
    assert {"sbom.cdx.json", "provenance.json", "reproduce.sh"} <= set(files)
    predicate = json.loads((tiny_build.bundle / "provenance.json").read_text())["predicate"]
    record = json.loads((tiny_build.bundle / "evidence" / "evidence.json").read_text())
    version = predicate["runDetails"]["builder"]["version"]
    assert {name: said for name, said in record["environment"].items() if name != "device"}.items() <= version.items()
    hardware = predicate["buildDefinition"]["internalParameters"]["hardware"]
    assert hardware["threads"] == torch.get_num_threads()
    assert hardware["threads_by_stage"]["train"] == hardware["threads_by_stage"]["reverify"] == hardware["threads"]
    script = (tiny_build.bundle / "reproduce.sh").read_text()
    assert f"OMP_NUM_THREADS={torch.get_num_threads()}" in script
    assert list(record["seconds"]) == ["trial", "train", "prune", "finetune", "verify", "export", "reverify"]
    times = predicate["runDetails"]["metadata"]
    assert times["startedOn"] <= times["finishedOn"]


def test_a_signature_covers_the_provenance(copy, tmp_path):
    pytest.importorskip("model_signing", reason="pip install 'tscnc-deploy[sign]'")
    from tests.bundle.signing.test_key import make_keys

    private, public = make_keys(tmp_path, "mine")
    assert invoke("sign", copy, "--key", private).exit_code == 0
    for path in ("sbom.cdx.json", "provenance.json", "reproduce.sh"):
        content = (copy / path).read_bytes()
        (copy / path).write_bytes(content + b"\n")
        refused = invoke("verify-signature", copy, "--key", public)
        assert (refused.exit_code, path in refused.stderr) == (2, True)
        (copy / path).write_bytes(content)
    assert invoke("verify-signature", copy, "--key", public).exit_code == 0
