from __future__ import annotations

import pytest

from tests.serving.exporting import export


def test_the_manifest_names_the_repository(served_bundle, tmp_path):
    out = tmp_path / "kserve"
    shown = export(served_bundle, out, "--storage-uri", "s3://models/tiny", target="kserve").stdout
    assert "copy " in shown
    assert (out / "repository" / "tiny" / "1" / "model.onnx").exists()
    text = (out / "inferenceservice.yaml").read_text()
    yaml = pytest.importorskip("yaml", reason="needs: pip install pyyaml")
    manifest = yaml.safe_load(text)
    assert (manifest["apiVersion"], manifest["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert manifest["metadata"]["name"] == "tiny"
    assert manifest["metadata"]["annotations"]["tscnc-deploy/robust-accuracy"] == "75.0%"
    assert manifest["spec"]["predictor"]["model"] == {
        "modelFormat": {"name": "triton"},
        "protocolVersion": "v2",
        "runtimeVersion": "25.06-py3",
        "storageUri": "s3://models/tiny",
    }
