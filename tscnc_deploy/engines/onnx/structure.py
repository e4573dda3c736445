"""Counts the zeros of an exported file from what is stored in it, not from what was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from tscnc_deploy.engines.onnx.applications import applications
from tscnc_deploy.engines.onnx.file import array_of, read_onnx

# Inputs of an operator that may be a weight.
_WEIGHT_INPUTS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1)}
# Operators between a stored weight and its use that move or rescale its elements, and keep every zero a zero.
_TRANSPARENT = {"Identity", "Transpose", "Reshape", "Flatten", "Cast", "DequantizeLinear"}
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
    """The stored weight of a convolution or a linear layer.

    Attributes:
        name: Name of the initializer; the exporter keeps the parameter's name, such as "layer1.0.conv1.weight".
        shape: As stored, OIHW for a convolution.
        nonzero: Number of stored values that do not stand for zero; an explicit zero in a sparse tensor is a zero.
        precision: Of the stored values: "fp32", "fp16", "bf16", "fp64" or "int8".
        applied: How often one image has each weight applied, see `applications`; None if that was not counted.
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
        """Multiply-adds per image with every weight, zero or not."""
        return None if self.applied is None else self.applied * self.prunable

    @property
    def multiply_adds_left(self) -> int | None:
        """Multiply-adds per image of the weights that are not zero."""
        return None if self.applied is None else self.applied * self.nonzero


@dataclass(frozen=True)
class Structure:
    """The weights of an exported file, in the order in which the network uses them."""

    layers: tuple[Layer, ...]

    @property
    def prunable(self) -> int:
        """Number of weights of all convolutions and linear layers; biases and norms are not counted."""
        return sum(layer.prunable for layer in self.layers)

    @property
    def nonzero(self) -> int:
        """Number of those weights that are not zero."""
        return sum(layer.nonzero for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Share of zeros among the prunable weights, in [0, 1]."""
        return 1 - self.nonzero / self.prunable if self.prunable else 0.0

    @property
    def multiply_adds(self) -> int | None:
        """Multiply-adds per image of all layers with every weight; None if those of a layer were not counted."""
        return _total(layer.multiply_adds for layer in self.layers)

    @property
    def multiply_adds_left(self) -> int | None:
        """Those of the weights that are not zero."""
        return _total(layer.multiply_adds_left for layer in self.layers)

    @property
    def multiply_add_sparsity(self) -> float | None:
        """Share of the multiply-adds that zeros save, in [0, 1]: what an engine that skips them can gain."""
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
        The precision of all of them, such as "fp16"; first and last layer may stay in fp32. If others differ, every one
        that occurs, as in "fp16+fp32"; "none" without layers.
    """
    inner = set(precisions[1:-1])
    if len(inner) == 1 and {precisions[0], precisions[-1]} <= inner | {"fp32"}:
        return inner.pop()
    return "+".join(sorted(set(precisions))) or "none"


def recount(path: str | Path) -> Structure:
    """Counts the weights and the multiply-adds of a sparse or dense ONNX file.

    Raises:
        InputError: See `onnx_file.read_onnx`.
    """
    return full_structure_of(read_onnx(path))


def full_structure_of(model: ModelProto) -> Structure:
    """`structure_of`, and how often every weight is applied, for which shapes are inferred."""
    applied = applications(model, weight_uses(model.graph))
    return Structure(tuple(replace(layer, applied=applied.get(layer.name)) for layer in structure_of(model).layers))


def structure_of(model: ModelProto) -> Structure:
    """Counts the weights of a model that `onnx_file` has read.

    A weight is what Conv, ConvTranspose, Gemm or MatMul multiplies activations with and the file stores; one that
    several layers share counts once, as it does among the parameters of a PyTorch module.
    """
    stored = stored_weights(model.graph)
    zeros = _zero_points(model.graph, stored)
    return Structure(tuple(_layer(name, stored[name], zeros.get(name, 0)) for name in weight_names(model.graph)))


def weight_names(graph: GraphProto) -> list[str]:
    """Names of the stored weights of a graph's convolutions and linear layers, each once, in order of use."""
    return list(dict.fromkeys(name for _, _, name in weight_uses(graph)))


def weighted_nodes(graph: GraphProto) -> dict[int, str]:
    """The convolutions and linear layers with a stored weight: position among the nodes -> the weight's name."""
    return {place: name for place, _, name in weight_uses(graph)}


def weight_uses(graph: GraphProto) -> Iterator[tuple[int, int, str]]:
    """The uses of stored weights: position of the node, which of its inputs the weight comes in by, the weight's name.

    A weight may reach its layer through operators that move or rescale it.
    """
    stored = stored_weights(graph)
    producers = {output: node for node in graph.node for output in node.output}
    for place, node in enumerate(graph.node):
        for position in _WEIGHT_INPUTS.get(node.op_type, ()):
            if position < len(node.input):
                source = _source(node.input[position], producers)
                if source in stored:
                    yield place, position, source


def input_channel_axis(node: NodeProto) -> int:
    """The axis of a convolution's or a linear layer's weight along which its input channels lie."""
    match node.op_type:
        case "Conv":
            return 1
        case "Gemm":
            return 1 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else 0
    return 0


def _source(name: str, producers: dict[str, NodeProto]) -> str:
    seen = set()
    while name in producers and producers[name].op_type in _TRANSPARENT and name not in seen:
        seen.add(name)
        name = producers[name].input[0] if producers[name].input else ""
    return name


def stored_weights(graph: GraphProto) -> dict[str, TensorProto | SparseTensorProto]:
    """What a graph stores, by name: its initializers and its constants."""
    stored: dict[str, TensorProto | SparseTensorProto] = {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].HasField("t")
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


def _zero_points(graph: GraphProto, stored: dict[str, TensorProto | SparseTensorProto]) -> dict[str, Any]:
    """What stands for zero in quantised weights, in a shape that compares with theirs; NaN where it cannot be told."""
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
    """A zero point for each channel, along the axis that the node names; of its own input only, moved by nothing."""
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
    # What a sparse tensor leaves out is a stored 0, which is a weight where something else stands for zero.
    dense = isinstance(tensor, SparseTensorProto) and np.any(zero != 0)
    return Layer(name, shape, math.prod(shape) if dense else int(np.count_nonzero(array_of(values) != zero)), precision)
