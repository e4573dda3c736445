from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tscnc_deploy.engines.onnx.patterns import broken_filters, excess_groups


def of_convolution(weight: np.ndarray, zero_point: int | None = None) -> ModelProto:
    """A graph of one convolution, [out, in, 1, 1], whose weight may be stored in 8 bits."""
    nodes = [helper.make_node("Conv", ["x", "w" if zero_point is None else "v"], ["y"])]
    initializers = [numpy_helper.from_array(weight, "w")]
    if zero_point is not None:
        nodes.insert(0, helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"]))
        initializers.append(numpy_helper.from_array(np.array(0.1, np.float32), "s"))
        initializers.append(numpy_helper.from_array(np.array(zero_point, weight.dtype), "z"))
    value = helper.make_tensor_value_info
    inputs, outputs = [value("x", TensorProto.FLOAT, ["n", 4, 2, 2])], [value("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def sparse(model: ModelProto) -> ModelProto:
    """The same weight as a sparse initializer."""
    weight = numpy_helper.to_array(model.graph.initializer[0])
    places = np.flatnonzero(weight).astype(np.int64)
    values = numpy_helper.from_array(weight.reshape(-1)[places], "w")
    tensor = helper.make_sparse_tensor(values, numpy_helper.from_array(places, "i"), weight.shape)
    del model.graph.initializer[0]
    model.graph.sparse_initializer.append(tensor)
    return model


def weights(*filters: list[float], dtype: type = np.float32) -> np.ndarray:
    return np.array(filters, dtype)[:, :, None, None]


def test_groups_of_four_input_channels_with_more_than_two_weights_are_counted():
    weight = weights([1, 0, 2, 0], [1, 2, 3, 0], [0, 0, 0, 0])
    assert excess_groups(of_convolution(weight)) == {"w": 1}
    assert excess_groups(sparse(of_convolution(weight))) == {"w": 1}


def test_channels_that_cannot_be_split_have_no_groups():
    assert excess_groups(of_convolution(weights([1, 2, 3]))) == {}


def test_a_zero_in_eight_bits_is_the_zero_point():
    weight = weights([3, 3, 0, 1], [0, 0, 3, 0], dtype=np.int8)
    assert excess_groups(of_convolution(weight, zero_point=3)) == {"w": 1}
    assert excess_groups(of_convolution(weight, zero_point=0)) == {"w": 1}
    assert excess_groups(of_convolution(weight, zero_point=1)) == {"w": 2}


def test_a_filter_is_whole_or_gone():
    weight = weights([1, 0, 2, 3], [1, 2, 3, 4], [0, 0, 0, 0])
    assert broken_filters(of_convolution(weight)) == {"w": 1}
    assert broken_filters(sparse(of_convolution(weight))) == {"w": 1}


def test_the_groups_of_a_linear_layer_lie_along_its_inputs():
    value = helper.make_tensor_value_info
    weight = np.array([[1, 2, 3, 0], [0, 0, 0, 1]], np.float32)
    for stored, transposed in ((weight, 1), (weight.T.copy(), 0)):
        graph = helper.make_graph(
            [helper.make_node("Gemm", ["x", "w"], ["y"], transB=transposed)],
            "g",
            [value("x", TensorProto.FLOAT, ["n", 4])],
            [value("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(stored, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        assert excess_groups(model) == {"w": 1}
        assert broken_filters(model) == {}
