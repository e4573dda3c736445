import json
import shutil

import pytest

from tests.conftest import invoke


@pytest.fixture
def bundle(tiny_build, tmp_path):
    shutil.copytree(tiny_build.bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_verify_attacks_every_engine_on_the_evidence_images(tiny_build):
    document = json.loads(invoke("verify", tiny_build.bundle, "--json").stdout)
    assert (document["engine"], document["passed"]) == ("onnx-cpu", True)
    assert document["clean"]["total"] == 40
    assert list(document["attacks"]) == ["replay", "pgd-5", "square-20"]


def test_verify_takes_a_run_folder_an_engine_and_attacks(tiny_build):
    result = invoke("verify", tiny_build.folder, "--engine", "twin", "--attack", "fgsm", "--samples", "20", "--json")
    document = json.loads(result.stdout)
    assert (document["engine"], list(document["attacks"]), document["robust"]["total"]) == ("twin", ["fgsm"], 20)


def test_verify_prints_a_table(tiny_build):
    result = invoke("verify", tiny_build.bundle, "--attack", "replay")
    assert "worst case" in result.stdout
    assert "of 40" in result.stdout
    assert result.stdout.endswith("no gate was set (--set gates.robust=0.5 sets one)\n")


def test_an_unknown_engine_is_refused_with_those_there_are(tiny_build):
    result = invoke("verify", tiny_build.bundle, "--engine", "onnx-gpu")
    assert result.exit_code == 2
    assert "onnx-cpu" in result.stderr


def test_an_unknown_attack_is_refused(tiny_build):
    result = invoke("verify", tiny_build.bundle, "--attack", "pdg-20")
    assert result.exit_code == 2
    assert "pgd" in result.stderr


def test_more_samples_than_images_are_refused(tiny_build):
    result = invoke("verify", tiny_build.bundle, "--samples", "1000")
    assert result.exit_code == 2
    assert "has only 40 evidence images" in result.stderr


@pytest.mark.parametrize("command", ["verify", "inspect", "report"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: (b / "twin.onnx").write_bytes(b"x"), "twin.onnx"),
        (lambda b: (b / "engines" / "onnx-cpu" / "model.onnx").unlink(), "model.onnx"),
        (lambda b: (b / "manifest.json").write_text('{"schema": "tscnc'), "manifest.json"),
        (lambda b: (b / "manifest.json").unlink(), "manifest.json"),
        (lambda b: (b / "more.txt").write_text("x"), "more.txt"),
    ],
)
def test_a_damaged_bundle_is_one_message_and_exit_status_2(bundle, command, damage, message):
    damage(bundle)
    result = invoke(command, bundle)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_flipped_weight_byte_is_refused(bundle):
    path = bundle / "engines" / "onnx-cpu" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    result = invoke("verify", bundle)
    assert result.exit_code == 2
    assert "model.onnx" in result.stderr


def test_inspect_shows_model_gates_and_files(tiny_build):
    result = invoke("inspect", tiny_build.bundle)
    assert "80.00% zeros" in result.stdout
    assert "engines/onnx-cpu/model.onnx" in result.stdout
    document = json.loads(invoke("inspect", tiny_build.bundle, "--json").stdout)
    assert document["manifest"]["schema"] == "tscnc-bundle/2"


def test_report_is_rendered_anew_to_the_same_page(tiny_build, tmp_path):
    result = invoke("report", tiny_build.bundle, "--out", tmp_path / "page.html")
    assert result.exit_code == 0
    assert result.stdout == f"written: {tmp_path / 'page.html'}\n"
    assert (tmp_path / "page.html").read_text() == (tiny_build.bundle / "report.html").read_text()


def test_the_library_opens_a_bundle_as_documented(tiny_build):
    from tscnc_deploy import open_bundle

    bundle = open_bundle(tiny_build.bundle)
    images = bundle.evidence.images
    logits = bundle.engine("onnx-cpu").logits(images)
    assert logits.shape == (40, 10)
    assert set(bundle.evidence.adversarial) == {"twin", "onnx-cpu"}
    assert not bundle.twin.training
