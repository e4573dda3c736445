from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from tests.bundle.folders import contents
from tests.serving.bundles import expected, write_served
from tests.serving.exporting import export
from tscnc_deploy.bundle import EngineEntry, open_bundle, seal


def parsed(path):
    pytest.importorskip("tritonclient.grpc", reason="needs the extra: pip install 'tscnc-deploy[test]'")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def test_the_repository_parses_and_its_model_runs(served_bundle, tmp_path):
    out = export(served_bundle, tmp_path / "repository", "--instances", 2, "--max-delay", 5).stdout
    assert "for Triton 25.06" in out
    folder = tmp_path / "repository" / "tiny"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [
        "1", "1/model.onnx", "config.pbtxt", "labels.txt",
    ]  # fmt: skip
    assert (folder / "labels.txt").read_text() == "zero\none\ntwo\n"
    session = onnxruntime.InferenceSession(folder / "1" / "model.onnx")
    images = np.random.default_rng(0).random((3, 1, 8, 8), np.float32)
    config = parsed(folder / "config.pbtxt")
    (logits,) = session.run([config.output[0].name], {config.input[0].name: images})
    np.testing.assert_allclose(logits, expected(images), rtol=1e-6)
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "onnxruntime", 16)
    assert (list(config.input[0].dims), list(config.output[0].dims)) == ([1, 8, 8], [3])
    assert config.output[0].label_filename == "labels.txt"
    assert (config.instance_group[0].count, config.instance_group[0].kind) == (2, config.instance_group[0].KIND_CPU)
    assert config.dynamic_batching.max_queue_delay_microseconds == 5000
    assert [warm.batch_size for warm in config.model_warmup] == [1, 16]
    assert config.version_policy.latest.num_versions == 1


def test_dynamic_quantisation_gets_one_image_at_a_time(served_bundle, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(served_bundle, folder)
    path = folder / "engines" / "onnx-cpu" / "model.onnx"
    model = onnx.load(path)
    quantise = helper.make_node("DynamicQuantizeLinear", ["flat"], ["q", "scale", "zero"])
    back = helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["back"])
    model.graph.node[1].input[0] = "back"
    model.graph.node.insert(1, quantise)
    model.graph.node.insert(2, back)
    onnx.save(model, path)
    seal(folder, contents("onnx-cpu", "onnx-cuda"))
    export(folder, tmp_path / "repository", "--engine", "onnx-cpu")
    config = parsed(tmp_path / "repository" / "tiny" / "config.pbtxt")
    assert (config.max_batch_size, [warm.batch_size for warm in config.model_warmup]) == (1, [1])


def test_a_tensorrt_engine_is_a_plan_for_its_gpus(served_bundle, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(served_bundle, folder)
    (folder / "engines" / "onnx-cuda" / "model.engine").write_bytes(b"a plan")
    (folder / "engines" / "onnx-cuda" / "engine.json").write_text(json.dumps({"made_for": ["SM89", "SM120"]}))
    shutil.copy(folder / "engines" / "onnx-cpu" / "target.json", folder / "engines" / "onnx-cuda")
    whole = contents("onnx-cpu", "onnx-cuda")
    entry = EngineEntry(folder="engines/onnx-cuda", kind="tensorrt", precision="fp32", attacked=True)
    seal(folder, whole.model_copy(update={"engines": whole.engines | {"onnx-cuda": entry}}))
    export(folder, tmp_path / "repository", "--engine", "onnx-cuda")
    model = tmp_path / "repository" / "tiny"
    assert (model / "1" / "model.plan").read_bytes() == b"a plan"
    config = parsed(model / "config.pbtxt")
    assert config.backend == "tensorrt"
    assert dict(config.cc_model_filenames) == {"8.9": "model.plan", "12.0": "model.plan"}


def test_what_is_there_is_not_overwritten(served_bundle, tmp_path):
    export(served_bundle, tmp_path)
    assert "already exists" in export(served_bundle, tmp_path, status=2).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]


@pytest.mark.parametrize(
    ("arguments", "target", "words"),
    [
        (["--engine", "other"], "triton", "engine 'other' not found; the bundle has onnx-cpu, onnx-cuda"),
        (["--storage-uri", "s3://x"], "triton", "--target kserve requires --storage-uri"),
        ([], "kserve", "--target kserve requires --storage-uri"),
        (["--storage-uri", "models"], "kserve", "--storage-uri models: not a URI"),
    ],
)
def test_bad_input(served_bundle, tmp_path, arguments, target, words):
    done = export(served_bundle, tmp_path / "out", *arguments, target=target, status=2)
    assert words in done.stderr
    assert not (tmp_path / "out").exists()


def test_only_what_passed_is_exported(tmp_path):
    folder = write_served(tmp_path / "failed", passed=False)
    assert "failed its gates" in export(folder, tmp_path / "out", status=1).stderr
    export(folder, tmp_path / "out", "--allow-failed", "--engine", "onnx-cpu")


def test_a_file_that_the_release_cannot_read_is_rejected(tmp_path):
    import onnx

    folder = write_served(tmp_path / "bundle")
    path = folder / "engines" / "onnx-cpu" / "model.onnx"
    model = onnx.load(path)
    model.opset_import[0].version = 22
    onnx.save(model, path)
    manifest = open_bundle(write_served(tmp_path / "other")).manifest
    seal(folder, contents().model_copy(update={"engines": manifest.engines}))
    done = export(folder, tmp_path / "out", status=2)
    assert (
        "has opset 22 and IR version 10; Triton 25.06 with onnxruntime 1.22 supports at most 21 and 10" in done.stderr
    )
