"""Counts the zeros that are actually stored in an exported file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from tscnc_deploy.engines.onnx.applications import applications
from tscnc_deploy.engines.onnx.file import array_of, dense_array, read_onnx
from tscnc_deploy.engines.onnx.flow import computed_from

# Inputs of an operator that may be a weight.
_WEIGHT_INPUTS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1)}
# Operators between a stored weight and its use that move or rescale its elements and preserve zeros.
_TRANSPARENT = {"Identity", "Transpose", "Reshape", "Flatten", "Cast", "DequantizeLinear"}
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
# Operators that normalise pixels, and inputs of a batch norm that training measures, but does not learn.
_NORMALISING = {"Identity", "Cast", "Sub", "Add", "Mul", "Div"}
_STATISTICS = (3, 4)
_PRECISIONS: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.DOUBLE: "fp64",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
}


@dataclass(frozen=True)
class Layer:
    """The stored weight of a convolution or linear layer.

    Attributes:
        name: Name of the initializer; the exporter keeps the parameter's name, such as "layer1.0.conv1.weight".
        shape: As stored, OIHW for a convolution.
        nonzero: Number of stored values that do not represent zero; an explicit zero in a sparse tensor is a zero.
        precision: Of the stored values: "fp32", "fp16", "bf16", "fp64" or "int8".
        applied: How often each weight is applied per image, see `applications`; None if not counted.
    """

    name: str
    shape: tuple[int, ...]
    nonzero: int
    precision: str
    applied: int | None = None

    @property
    def prunable(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def sparsity(self) -> float:
        """Share of zeros, in [0, 1]."""
        return 1 - self.nonzero / self.prunable if self.prunable else 0.0

    @property
    def multiply_adds(self) -> int | None:
        """MACs per image, with zero weights included."""
        return None if self.applied is None else self.applied * self.prunable

    @property
    def multiply_adds_left(self) -> int | None:
        """MACs per image of the non-zero weights."""
        return None if self.applied is None else self.applied * self.nonzero


@dataclass(frozen=True)
class Structure:
    """The weights of an exported file, in order of use."""

    layers: tuple[Layer, ...]

    @property
    def prunable(self) -> int:
        """Number of weights of all convolutions and linear layers; biases and norms are not counted."""
        return sum(layer.prunable for layer in self.layers)

    @property
    def nonzero(self) -> int:
        """Number of non-zero weights among them."""
        return sum(layer.nonzero for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Share of zeros among the prunable weights, in [0, 1]."""
        return 1 - self.nonzero / self.prunable if self.prunable else 0.0

    @property
    def multiply_adds(self) -> int | None:
        """MACs per image of all layers, with zero weights included; None if a layer was not counted."""
        return _total(layer.multiply_adds for layer in self.layers)

    @property
    def multiply_adds_left(self) -> int | None:
        """MACs per image of the non-zero weights; None if a layer was not counted."""
        return _total(layer.multiply_adds_left for layer in self.layers)

    @property
    def multiply_add_sparsity(self) -> float | None:
        """Share of the MACs that an engine can save by skipping zeros, in [0, 1]."""
        total, left = self.multiply_adds, self.multiply_adds_left
        return None if total is None or left is None else 1 - left / total if total else 0.0

    @property
    def precision(self) -> str:
        """Precision of the weights, see `overall_precision`."""
        return overall_precision([layer.precision for layer in self.layers])

    def to_json(self) -> dict[str, Any]:
        """Totals, and every layer with its share of zeros."""
        layers = [
            {
                "name": layer.name,
                "shape": list(layer.shape),
                "nonzero": layer.nonzero,
                "sparsity": layer.sparsity,
                "multiply_adds": layer.multiply_adds,
                "multiply_adds_left": layer.multiply_adds_left,
            }
            for layer in self.layers
        ]
        return {
            "prunable": self.prunable,
            "nonzero": self.nonzero,
            "sparsity": self.sparsity,
            "multiply_adds": self.multiply_adds,
            "multiply_adds_left": self.multiply_adds_left,
            "multiply_add_sparsity": self.multiply_add_sparsity,
            "precision": self.precision,
            "layers": layers,
        }


def overall_precision(precisions: Sequence[str]) -> str:
    """One name for the precisions of a network's layers, in order.

    Returns:
        The precision of all layers, such as "fp16", where the first and last may be fp32. If other layers differ, all
        precisions that occur, such as "fp16+fp32"; "none" without layers.
    """
    inner = set(precisions[1:-1])
    if len(inner) == 1 and {precisions[0], precisions[-1]} <= inner | {"fp32"}:
        return inner.pop()
    return "+".join(sorted(set(precisions))) or "none"


def recount(path: str | Path) -> Structure:
    """Counts the weights and the MACs of a sparse or dense ONNX file.

    Raises:
        InputError: See `onnx.file.read_onnx`.
    """
    return full_structure_of(read_onnx(path))


def full_structure_of(model: ModelProto) -> Structure:
    """Like `structure_of`, but also infers shapes to count how often every weight is applied."""
    applied = applications(model, weight_uses(model.graph))
    return Structure(tuple(replace(layer, applied=applied.get(layer.name)) for layer in structure_of(model).layers))


def structure_of(model: ModelProto) -> Structure:
    """Counts the weights of a model that `onnx.file` has read.

    A weight is a stored tensor that Conv, ConvTranspose, Gemm or MatMul multiplies activations with. A weight that
    several layers share counts once, as among the parameters of a PyTorch module.
    """
    stored = stored_weights(model.graph)
    zeros = zero_points(model.graph, stored)
    return Structure(tuple(_layer(name, stored[name], zeros.get(name, 0)) for name in weight_names(model.graph)))


def weight_names(graph: GraphProto) -> list[str]:
    """Names of the stored weights of a graph's convolutions and linear layers, each once, in order of use."""
    return list(dict.fromkeys(name for _, _, name in weight_uses(graph)))


def weights_of(graph: GraphProto) -> dict[str, NDArray[Any]]:
    """The stored weights of a graph's convolutions and linear layers, zeros included, by name.

    In the shapes that PyTorch has: a linear layer's is [out, in], also where it is stored as [in, out].
    """
    stored, found = stored_weights(graph), {}
    for place, position, name in weight_uses(graph):
        if name not in found:
            weight = dense_array(stored[name])
            found[name] = weight.T if _is_transposed(graph.node[place], position) else weight
    return found


def _is_transposed(node: NodeProto, position: int) -> bool:
    """Whether a node reads a linear layer's weight, at that position of its inputs, as [in, out]."""
    return node.op_type in ("Gemm", "MatMul") and position == 1 and input_channel_axis(node) == 0


def count_parameters(graph: GraphProto) -> int:
    """Number of values that training learns, as far as a graph shows which these are.

    They are all stored floating-point values but single numbers and biases of zeros, which exporters write, the
    statistics of batch norms, and what is added to pixels or multiplies them before the first layer, which normalises
    images.
    """
    stored = stored_weights(graph)
    producers = {output: node for node in graph.node for output in node.output}
    pixels = {value.name for value in graph.input} - stored.keys()
    learnt, fixed = set(), set()
    for node in graph.node:
        operands = [_source(name, producers) for name in node.input]
        if node.op_type in _NORMALISING and pixels.intersection(node.input):
            pixels.update(node.output)
            fixed.update(operands)
        elif node.op_type == "BatchNormalization":
            fixed.update(operands[place] for place in _STATISTICS if place < len(operands))
        elif node.op_type == "Conv" and len(operands) > 2 and (bias := stored.get(operands[2])) is not None:
            fixed.update(() if dense_array(bias).any() else operands[2:])
        learnt.update(operands)
    sizes = {name: math.prod(stored[name].dims) for name in (learnt - fixed) & stored.keys() if _is_float(stored[name])}
    return sum(size for size in sizes.values() if size > 1)


def _is_float(tensor: TensorProto | SparseTensorProto) -> bool:
    return (tensor.values if isinstance(tensor, SparseTensorProto) else tensor).data_type in _FLOATS


def weighted_nodes(graph: GraphProto) -> dict[int, str]:
    """The convolutions and linear layers with a stored weight: position among the nodes -> the weight's name."""
    return {place: name for place, _, name in weight_uses(graph)}


def weight_uses(graph: GraphProto) -> Iterator[tuple[int, int, str]]:
    """The uses of stored weights: index of the node, index of the node's input, and the weight's name.

    Operators that move or rescale the weight may come in between. What multiplies constants alone, such as the layers
    that make a table of positions, does not use weights.
    """
    stored = stored_weights(graph)
    inputs = [value.name for value in graph.input if value.name not in stored]
    computed = computed_from(graph, inputs[0]) if inputs else None
    producers = {output: node for node in graph.node for output in node.output}
    for place, node in enumerate(graph.node):
        if computed is not None and computed.isdisjoint(node.output):
            continue
        for position in _WEIGHT_INPUTS.get(node.op_type, ()):
            if position < len(node.input):
                source = _source(node.input[position], producers)
                if source in stored:
                    yield place, position, source


def input_channel_axis(node: NodeProto) -> int:
    """The axis of the input channels in the weight of a convolution or linear layer."""
    match node.op_type:
        case "Conv":
            return 1
        case "Gemm":
            return 1 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else 0
    return 0


_TENSOR = AttributeProto.TENSOR


def _source(name: str, producers: dict[str, NodeProto]) -> str:
    seen = set()
    while name in producers and producers[name].op_type in _TRANSPARENT and name not in seen:
        seen.add(name)
        name = producers[name].input[0] if producers[name].input else ""
    return name


def stored_weights(graph: GraphProto) -> dict[str, TensorProto | SparseTensorProto]:
    """The tensors that a graph stores, by name: initializers and constants."""
    stored: dict[str, TensorProto | SparseTensorProto] = {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].type == _TENSOR
    }
    stored.update((tensor.name, tensor) for tensor in graph.initializer)
    stored.update((tensor.values.name, tensor) for tensor in graph.sparse_initializer)
    return stored


def _total(counts: Iterable[int | None]) -> int | None:
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def zero_points(graph: GraphProto, stored: dict[str, TensorProto | SparseTensorProto]) -> dict[str, Any]:
    """The value that represents zero in quantised weights, broadcastable to them; NaN if it cannot be determined."""
    producers = {output: node for node in graph.node for output in node.output}
    found: dict[str, Any] = {}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or len(node.input) < 3:
            continue
        name, point = _source(node.input[0], producers), stored.get(node.input[2])
        if name in stored:
            zero = array_of(point) if isinstance(point, TensorProto) else np.array(np.nan)
            found[name] = zero.flat[0] if zero.size and (zero == zero.flat[0]).all() else _along(node, zero, stored)
    return found


def _along(node: NodeProto, zero: Any, stored: dict[str, TensorProto | SparseTensorProto]) -> Any:
    """A zero point per channel, along the node's axis; only if nothing moves the weight before the node."""
    weight = stored.get(node.input[0])
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    shape = tuple(weight.dims) if weight is not None else ()
    if not -len(shape) <= axis < len(shape) or zero.shape != (shape[axis],):
        return np.nan
    return zero.reshape([-1 if place == axis % len(shape) else 1 for place in range(len(shape))])


def _layer(name: str, tensor: TensorProto | SparseTensorProto, zero: Any) -> Layer:
    values = tensor.values if isinstance(tensor, SparseTensorProto) else tensor
    precision = _PRECISIONS.get(values.data_type, f"type {values.data_type}")
    shape = tuple(tensor.dims)
    # An element that a sparse tensor omits is a stored 0, which is a non-zero weight if another value represents zero.
    dense = isinstance(tensor, SparseTensorProto) and np.any(zero != 0)
    return Layer(name, shape, math.prod(shape) if dense else int(np.count_nonzero(array_of(values) != zero)), precision)
