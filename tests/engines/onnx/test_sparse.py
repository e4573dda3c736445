from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from tests.engines.nets import dense_weight, linear_onnx, random_images, small_net
from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.onnx.sparse import write_sparse
from tscnc_deploy.errors import InputError


def _sparse_names(path):
    return [tensor.values.name for tensor in onnx.load(path).graph.sparse_initializer]


def test_the_sparse_file_is_smaller_and_gives_the_same_logits_to_the_bit(small_files):
    assert small_files.model.stat().st_size < 0.75 * small_files.dense.stat().st_size
    images = random_images(5, (1, 8, 8))
    dense, sparse = OnnxRuntimeEngine(small_files.dense), OnnxRuntimeEngine(small_files.model)
    np.testing.assert_array_equal(sparse.logits(images), dense.logits(images))
    onnx.checker.check_model(onnx.load(small_files.model))


def test_positions_are_linear_ascending_and_in_typed_fields(tmp_path):
    values = [0.0] * 64
    values[3], values[40] = 1.5, -2.0
    dense = linear_onnx(dense_weight(values, (4, 16)), tmp_path / "dense.onnx", outputs=[_logits(16)])
    write_sparse(dense, tmp_path / "sparse.onnx")
    (sparse,) = onnx.load(tmp_path / "sparse.onnx").graph.sparse_initializer
    assert (list(sparse.dims), list(sparse.indices.dims), list(sparse.values.dims)) == ([4, 16], [2], [2])
    assert (list(sparse.indices.int64_data), list(sparse.values.float_data)) == ([3, 40], [1.5, -2.0])
    assert not sparse.indices.raw_data
    assert not sparse.values.raw_data


def _logits(classes):
    return onnx.helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])


def test_weights_that_would_grow_stay_dense(tmp_path):
    export_onnx(small_net(sparsity=0.0), tmp_path / "dense.onnx", input_shape=(1, 8, 8))
    write_sparse(tmp_path / "dense.onnx", tmp_path / "sparse.onnx")
    assert (tmp_path / "sparse.onnx").read_bytes() == (tmp_path / "dense.onnx").read_bytes()


def test_only_weights_become_sparse(small_files):
    assert _sparse_names(small_files.model) == ["first.weight", "second.weight", "head.weight"]


def test_a_layer_of_zeros_is_stored_without_values(tmp_path):
    dense = linear_onnx(dense_weight([0.0] * 64, (4, 16)), tmp_path / "dense.onnx", outputs=[_logits(16)])
    write_sparse(dense, tmp_path / "sparse.onnx")
    assert _sparse_names(tmp_path / "sparse.onnx") == ["w"]
    assert not OnnxRuntimeEngine(tmp_path / "sparse.onnx").logits(random_images(2, (1, 2, 2))).any()


def test_the_same_file_gives_the_same_bytes(tmp_path, small_files):
    write_sparse(small_files.dense, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == small_files.model.read_bytes()


def test_a_sparse_file_holds_the_dense_weights_to_the_bit(small_files):
    graph = onnx.load(small_files.model).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for tensor in graph.sparse_initializer:
        weight = np.zeros(tensor.dims, np.float32)
        weight.flat[numpy_helper.to_array(tensor.indices)] = numpy_helper.to_array(tensor.values)
        stored[tensor.values.name] = weight
    expected = {t.name: numpy_helper.to_array(t) for t in onnx.load(small_files.dense).graph.initializer}
    assert stored.keys() == expected.keys()
    for name, array in expected.items():
        assert (stored[name].shape, stored[name].tobytes()) == (array.shape, array.tobytes())


def test_a_refused_file_is_not_converted(tmp_path):
    (tmp_path / "dense.onnx").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"dense\.onnx"):
        write_sparse(tmp_path / "dense.onnx", tmp_path / "sparse.onnx")
    assert not (tmp_path / "sparse.onnx").exists()
