"""Reads a file in 8 bits as the float32 network that it approximates, as far as the file alone tells.

`int8.write_int8` stores weights as 8-bit and biases as 32-bit integers behind DequantizeLinear, and puts pairs of
QuantizeLinear and DequantizeLinear around activations. Without the pairs, and with the integers multiplied by their
scales, the graph is that of the float32 network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tscnc_deploy.engines.onnx.file import array_of

Values = NDArray[Any]

# Weights have 7 bits for onnxruntime and 8 for TensorRT: the range is divided into at least 63 steps on each side.
_STEPS = 63
# Relative to the largest weight of a layer. The scale of a channel of much smaller weights may be larger than they
# need, so that the channel's bias fits into 32 bits.
_SMALLEST_STEP = 1e-4
_ROUNDING = 1e-3
_INTEGERS = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32}


def is_quantised(model: ModelProto) -> bool:
    """Whether a model has operators that quantise."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)


def without_quantisation(model: ModelProto, largest: int) -> tuple[ModelProto, dict[str, Callable[[Values], Values]]]:
    """The float32 form of a quantised model, and for each of its dequantised constants how exact it is.

    What is not of the form that `int8.write_int8` writes is left as it is.

    Args:
        model: A model that `onnx.file` has read; not changed.
        largest: Constants of more elements are left as they are, since float32 takes four times the memory.

    Returns:
        The model, and by the constant's name a function from the values that it should have to the largest absolute
        error of each: half a step of a weight's range in its channel, half of the step of a bias. Zeros have none.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    reader = _Reader(graph, largest)
    nodes = [NodeProto.FromString(reader.plain(node).SerializeToString()) for node in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for tensor in graph.initializer:
        if tensor.name in reader.constants:
            tensor.CopyFrom(reader.constants[tensor.name])
    return result, reader.bounds


class _Reader:
    def __init__(self, graph: GraphProto, largest: int) -> None:
        self._largest = largest
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._inputs = {value.name for value in graph.input}
        self._outputs = {value.name for value in graph.output}
        self._producers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self.constants: dict[str, TensorProto] = {}
        self.bounds: dict[str, Callable[[Values], Values]] = {}

    def plain(self, node: NodeProto) -> NodeProto:
        """The node without quantisation."""
        if node.op_type != "DequantizeLinear" or len(node.input) < 2 or len(node.output) != 1:
            return node
        source, output = node.input[0], node.output[0]
        if source in self._stored:
            tensor = self._stored[source]
            axis = self._axis(node, tensor)
            scale = self._scale(node, tensor, axis)
            if scale is None or tensor.data_type not in _INTEGERS or len(self._readers[source]) != 1:
                return node
            if math.prod(tensor.dims) > self._largest:
                return node
            is_bias = tensor.data_type == TensorProto.INT32
            bound = self._bound_of_bias(node, scale) if is_bias else _bound_of_weight(scale, axis)
            if bound is None:
                return node
            floats = (array_of(tensor).astype(np.float64) * scale).astype(np.float32)
            self.constants[source] = numpy_helper.from_array(floats, source)
            self.bounds[source] = bound
            return helper.make_node("Identity", [source], [output], name=node.name)
        quantising = self._producers.get(source)
        if quantising is None or quantising.op_type != "QuantizeLinear" or not self._same_range(quantising, node):
            return node
        # Our own quantisation leaves images and logits alone and rounds nothing twice.
        first = self._source(quantising.input[0])
        before = self._producers.get(first)
        if (
            self._reaches_output(output)
            or first in self._inputs
            or (before is not None and before.op_type == "DequantizeLinear")
        ):
            return node
        return helper.make_node("Identity", [quantising.input[0]], [output], name=node.name)

    def _source(self, name: str) -> str:
        """The value that a chain of Identity nodes copies."""
        for _ in self._producers:  # no chain is longer, even if the nodes form a circle
            node = self._producers.get(name)
            if node is None or node.op_type != "Identity":
                break
            name = node.input[0]
        return name

    def _reaches_output(self, name: str) -> bool:
        return any(self._source(output) == self._source(name) for output in self._outputs)

    def _axis(self, node: NodeProto, tensor: TensorProto) -> int | None:
        """The axis along which a dequantised constant has different scales; None if it has only one."""
        scale = self._constant(node, 1)
        axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
        rank = len(tensor.dims)
        return None if scale is None or scale.size == 1 or not -rank <= axis < rank else axis % rank

    def _scale(self, node: NodeProto, tensor: TensorProto, axis: int | None) -> Values | None:
        """The scale of a dequantised constant, broadcastable to its shape; None if its zero is not a zero."""
        scale = self._constant(node, 1)
        if scale is None or scale.dtype != np.float32 or any(each.name == "block_size" for each in node.attribute):
            return None
        if len(node.input) > 2 and node.input[2] and ((zero := self._constant(node, 2)) is None or zero.any()):
            return None
        if axis is None:
            return scale.reshape(()) if scale.size == 1 else None
        if scale.shape != (tensor.dims[axis],):
            return None
        return scale.reshape([-1 if place == axis else 1 for place in range(len(tensor.dims))])

    def _bound_of_bias(self, node: NodeProto, scale: Values) -> Callable[[Values], Values] | None:
        """Half a step, if the step is that of the products of the layer's input and weight; None otherwise."""
        readers = self._readers.get(node.output[0], [])
        if not readers or not all(self._adds(reader, node.output[0], scale) for reader in readers):
            return None
        return lambda expected: (0.5 + _ROUNDING) * scale + _ROUNDING**2 * np.abs(expected)

    def _adds(self, layer: NodeProto, bias: str, scale: Values) -> bool:
        if len(layer.input) != 3 or layer.input[2] != bias or bias in layer.input[:2]:
            return False
        steps = []
        for name in layer.input[:2]:
            dequantising = self._producers.get(name)
            step = None if dequantising is None else self._constant(dequantising, 1)
            if step is None or dequantising is None or dequantising.op_type != "DequantizeLinear" or not step.size:
                return False
            steps.append(step.reshape(-1).astype(np.float64))
        product = steps[0] * steps[1] if 1 in (len(steps[0]), len(steps[1])) else np.array([np.nan])
        return product.size in (1, scale.size) and bool((np.abs(scale - product) <= _ROUNDING * product).all())

    def _same_range(self, quantising: NodeProto, node: NodeProto) -> bool:
        """Whether both have the same single scale; with an axis or another attribute they may undo something else."""
        if quantising.attribute or node.attribute:
            return False
        pairs = [(self._constant(quantising, place), self._constant(node, place)) for place in (1, 2)]
        return all(
            one is not None
            and other is not None
            and one.size == 1
            and one.dtype == other.dtype
            and np.array_equal(one, other)
            for one, other in pairs
        )

    def _constant(self, node: NodeProto, place: int) -> Values | None:
        if place >= len(node.input) or node.input[place] not in self._stored:
            return None
        return array_of(self._stored[node.input[place]])


def _bound_of_weight(scale: Values, axis: int | None) -> Callable[[Values], Values]:
    def bound(expected: Values) -> Values:
        """Half a step of the range of each channel; the channels are along the axis."""
        sizes = np.abs(expected).astype(np.float64)
        others = tuple(place for place in range(sizes.ndim) if place != axis)
        largest = sizes.max(axis=others, keepdims=True, initial=0)
        # The scale of a channel of zeros is 1.
        if (scale > np.maximum(1, largest / _STEPS) * (1 + _ROUNDING)).any():
            return np.zeros_like(sizes)
        step = np.maximum(largest / _STEPS, _SMALLEST_STEP * sizes.max(initial=0))
        return np.where(sizes == 0, 0, (0.5 + _ROUNDING) * step)

    return bound
