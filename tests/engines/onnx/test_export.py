from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from tests.engines.nets import random_images, small_net, sums_and_differences
from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.torch_twin import TwinEngine
from tscnc_deploy.errors import InputError


def test_the_file_computes_what_can_be_computed_in_the_head(tmp_path):
    export_onnx(sums_and_differences(), tmp_path / "model.onnx", input_shape=(1, 2, 2))
    images = np.array([[[[0.5, 0.25], [0.25, 0]]], [[[0, 1], [1, 1]]]], np.float32)
    assert OnnxRuntimeEngine(tmp_path / "model.onnx").logits(images).tolist() == [[1.0, 10.5], [3.0, 9.0]]


@pytest.mark.parametrize("batch", [0, 1, 2, 3, 17])
def test_the_batch_is_free_and_the_logits_are_the_models(small_files, batch):
    images = random_images(batch, (1, 8, 8))
    expected = TwinEngine(small_net(), (1, 8, 8), 3).logits(images)
    np.testing.assert_allclose(OnnxRuntimeEngine(small_files.dense).logits(images), expected, rtol=0, atol=1e-5)


def test_weights_keep_their_names_and_bits_and_norms_stay(small_files):
    graph = onnx.load(small_files.dense).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for name, parameter in small_net().state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(stored[name], parameter.numpy())
    assert Counter(node.op_type for node in graph.node)["BatchNormalization"] == 1


def test_equal_weights_are_not_merged(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4)).eval()
    model[2].load_state_dict(model[1].state_dict())
    export_onnx(model, tmp_path / "model.onnx", input_shape=(1, 2, 2))
    names = {tensor.name for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert {"1.weight", "2.weight"} <= names


def test_masked_negative_weights_become_plain_zeros(tmp_path):
    model = sums_and_differences()
    with torch.no_grad():
        model[0].weight *= -torch.tensor([[1.0, 0], [0, 1]])
    export_onnx(model, tmp_path / "model.onnx", input_shape=(1, 2, 2))
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert stored["0.weight"].tobytes() == np.array([-1, 0, 0, -1, -1, 0, 0, 1], np.float32).tobytes()


def test_form_of_the_file(small_files):
    model = onnx.load(small_files.dense)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [(opset.domain, opset.version) for opset in model.opset_import]) == (9, [("", 20)])
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "logits"]
    sizes = [
        [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    ]
    assert sizes == [["batch", 1, 8, 8], ["batch", 3]]
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    for trace in (b"File ", b"site-packages", str(Path(__file__).parent).encode()):
        assert trace not in small_files.dense.read_bytes()


def test_the_same_model_gives_the_same_bytes(tmp_path, small_files):
    export_onnx(small_net(), tmp_path / "same.onnx", input_shape=(1, 8, 8))
    assert (tmp_path / "same.onnx").read_bytes() == small_files.dense.read_bytes()


def test_a_model_in_train_mode_is_exported_in_eval_mode_and_not_changed(tmp_path, small_files):
    model = small_net().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_onnx(model, tmp_path / "model.onnx", input_shape=(1, 8, 8), batch_example=5)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert (tmp_path / "model.onnx").read_bytes() == small_files.dense.read_bytes()


class _FixedBatch(nn.Module):
    def forward(self, images):
        return images.reshape(2, 4)


class _NoExport(nn.Module):
    def forward(self, images):
        return images.flatten(1) if images.sum() > 0 else -images.flatten(1)


class _TwoOutputs(nn.Module):
    def forward(self, images):
        flat = images.flatten(1)
        return flat, flat + 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_FixedBatch(), r"_FixedBatch must return logits \[batch, classes\], but returns \[\[2, 4\]\]"),
        (_NoExport(), "_NoExport cannot be exported to ONNX with a dynamic batch size: .*data-dependent"),
        (_TwoOutputs(), "_TwoOutputs must return logits"),
        (nn.ReLU(), r"ReLU must return logits \[batch, classes\], but returns"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2).double()), r"1\.weight is torch\.float64"),
    ],
)
def test_what_is_no_classifier_is_refused(tmp_path, model, message):
    with pytest.raises(InputError, match=message):
        export_onnx(model, tmp_path / "model.onnx", input_shape=(1, 2, 2))


def test_an_example_of_one_image_is_refused(tmp_path):
    with pytest.raises(InputError, match="batch_example = 1: a dynamic batch size needs at least 2"):
        export_onnx(sums_and_differences(), tmp_path / "model.onnx", input_shape=(1, 2, 2), batch_example=1)


def test_a_model_that_has_diverged_is_refused(tmp_path):
    model = sums_and_differences()
    with torch.no_grad():
        model[2].bias[0] = float("nan")
    with pytest.raises(InputError, match=r"model\.onnx: initializer '2\.bias' contains values that are not finite"):
        export_onnx(model, tmp_path / "model.onnx", input_shape=(1, 2, 2))
    assert not (tmp_path / "model.onnx").exists()


def test_an_export_gives_the_same_bytes_in_another_process(tmp_path, small_files):
    code = """
import sys
from tests.engines.nets import small_net
from tscnc_deploy.engines.onnx.export import export_onnx

export_onnx(small_net(), sys.argv[1], input_shape=(1, 8, 8))
"""
    command = [sys.executable, "-c", code, tmp_path / "other.onnx"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert (tmp_path / "other.onnx").read_bytes() == small_files.dense.read_bytes()
