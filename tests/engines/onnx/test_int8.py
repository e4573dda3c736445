from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.engines.architectures import SHAPE, network
from tests.engines.nets import random_images, sums_and_differences
from tests.engines.tensorrt.conftest import target
from tscnc_deploy.engines import ExportAids, engine_facts, export_engine, load_target, open_engine
from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.int8 import write_int8
from tscnc_deploy.engines.onnx.structure import recount
from tscnc_deploy.engines.torch_twin import TwinEngine
from tscnc_deploy.errors import InputError


@pytest.fixture
def dense(architectures):
    return architectures.dense()


@pytest.mark.parametrize("runtime", ["onnxruntime", "tensorrt"])
def test_inner_layers_are_int8_and_no_zero_is_lost(architectures, runtime):
    before, after = recount(architectures.dense()), recount(architectures.int8(runtime))
    assert [layer.precision for layer in after.layers] == ["fp32", *["int8"] * 19, "fp32"]
    assert after.precision == "int8"
    kept = {layer.name: layer.nonzero for layer in after.layers}
    assert kept.keys() == {layer.name for layer in before.layers}
    assert all(kept[layer.name] <= layer.nonzero for layer in before.layers)


def test_onnxruntime_gets_unsigned_activations_and_weights_that_cannot_saturate(architectures):
    stored = {t.name: t for t in onnx.load(architectures.int8("onnxruntime")).graph.initializer}
    weights = [onnx.numpy_helper.to_array(t) for t in stored.values() if t.data_type == TensorProto.INT8 and t.dims]
    assert max(np.abs(weight.astype(int)).max() for weight in weights) <= 64
    assert any(t.data_type == TensorProto.UINT8 for t in stored.values())


def test_tensorrt_gets_symmetric_values_and_biases_in_float(architectures):
    stored = onnx.load(architectures.int8("tensorrt")).graph.initializer
    zero_points = [onnx.numpy_helper.to_array(t) for t in stored if t.name.endswith("zero_point")]
    assert zero_points
    assert not any(zero_point.any() for zero_point in zero_points)
    assert not any(t.data_type in (TensorProto.INT32, TensorProto.UINT8) for t in stored)


def test_the_same_images_give_the_same_bytes_and_no_tool_is_named(architectures, tmp_path, capfd, caplog):
    before = architectures.int8("onnxruntime").read_bytes()
    capfd.readouterr()
    write_int8(architectures.dense(), tmp_path / "again", random_images(8, SHAPE), runtime="onnxruntime")
    assert (tmp_path / "again").read_bytes() == before
    model = onnx.load(tmp_path / "again")
    assert (model.producer_name, list(model.metadata_props)) == ("tscnc-deploy", [])
    assert capfd.readouterr() == ("", "")
    assert "pre-processing" not in caplog.text


def test_the_shipped_target_is_exported_opened_and_agrees(dense, tmp_path):
    target, images = load_target("onnx-int8"), random_images(64, SHAPE)
    model = network()
    export_engine(model, target, tmp_path, input_shape=SHAPE, aids=ExportAids(calibration=images, dense=dense))
    engine = open_engine(tmp_path)
    assert engine.spec.precision == "int8"
    expected = TwinEngine(model, SHAPE, 10).logits(images)
    logits = engine.logits(images)
    assert 0 < np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize("arch", ["resnet18", "vgg16", "wrn28-10", "mobilenetv2"])
def test_tensorrt_computes_every_inner_layer_in_int8(architectures, tmp_path, arch):
    aids = ExportAids(calibration=random_images(8, SHAPE), dense=architectures.dense(arch))
    export_engine(network(arch), target("tensorrt-rtx-int8"), tmp_path, input_shape=SHAPE, aids=aids)
    precisions = [layer["precision"] for layer in engine_facts(tmp_path)["build"]["layers"]]
    assert (precisions[0], {*precisions[1:-1]}, precisions[-1]) == ("fp32", {"int8"}, "fp32")


def test_a_target_in_int8_without_images_is_refused(dense, tmp_path):
    with pytest.raises(InputError, match="target onnx-int8: int8 needs calibration images"):
        export_engine(network(), load_target("onnx-int8"), tmp_path, input_shape=SHAPE, aids=ExportAids(dense=dense))


@pytest.mark.parametrize("images", [random_images(0, SHAPE), random_images(2, (1, 8, 8)), np.zeros((2, *SHAPE))])
def test_images_that_do_not_fit_are_refused(dense, tmp_path, images):
    with pytest.raises(InputError, match=r"calibration images must be float32 \[N, 3, 32, 32\]"):
        write_int8(dense, tmp_path / "x.onnx", images, runtime="onnxruntime")


def test_a_network_of_two_layers_has_nothing_to_quantise(tmp_path):
    export_onnx(sums_and_differences(), tmp_path / "dense.onnx", input_shape=(1, 2, 2))
    with pytest.raises(
        InputError, match="2 layers with weights; the first and last stay fp32, so int8 needs at least 3"
    ):
        write_int8(tmp_path / "dense.onnx", tmp_path / "x.onnx", random_images(2, (1, 2, 2)), runtime="tensorrt")
