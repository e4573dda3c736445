"""From an ONNX graph to the layers that the core runs: constants and norms folded, additions and clamps fused."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from tscnc_deploy.engines.onnx_file import array_of, indices_of
from tscnc_deploy.engines.onnx_signature import Signature, signature_of
from tscnc_deploy.engines.sparse_cpu.network import Axis, Kind, Layer, Network, Shape, SparseWeight
from tscnc_deploy.engines.sparse_cpu.windows import WindowError, windows
from tscnc_deploy.errors import InputError


@dataclass(frozen=True)
class SparseConstant:
    """A sparse initializer: shape, ascending linear indices, values."""

    shape: tuple[int, ...]
    indices: NDArray[np.int64]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Activation:
    """A tensor of the network as the graph sees it: [batch, c, h, w], or flat as [batch, c * h * w]."""

    tensor: int
    flat: bool = False


Value = Activation | SparseConstant | NDArray[Any]


class RefusedError(Exception):
    """Why a node cannot be run; `lower` adds the file, the node and what to use instead."""


def lower(model: ModelProto, path: Path) -> Network:
    """The layers of an image classifier.

    Batch norms, and multiplications and additions of constants, are folded into the convolution, the normalisation or
    the elementwise layer before them where that has no other reader; additions and clamps are computed with the
    convolution whose result they take. Folding is done in float64 and rounded once.

    Args:
        model: What `onnx_file` has read, with sparse or dense weights.
        path: Its file, for messages.

    Raises:
        InputError: It is no image classifier, or holds a node that this engine does not run; the message names the
            node and the target to use instead.
    """
    return _Lowering(model, path, signature_of(model, path)).network()


class _Lowering:
    def __init__(self, model: ModelProto, path: Path, signature: Signature) -> None:
        self._graph = model.graph
        self._path = path
        self._values: dict[str, Value] = {tensor.name: array_of(tensor) for tensor in model.graph.initializer}
        for sparse in model.graph.sparse_initializer:
            entries = indices_of(sparse), array_of(sparse.values)
            self._values[sparse.values.name] = SparseConstant(tuple(sparse.dims), *entries)
        # How often a name is read; what has one reader can be fused into it.
        self._readers = Counter(name for node in model.graph.node for name in node.input)
        self._readers[signature.output] += 1
        self._layers: list[Layer] = []
        self._shapes: list[Shape] = []
        self._makers: dict[int, Layer] = {}
        self._signature = signature
        shape = Shape(*signature.input_shape)
        ones = np.ones(shape.c)
        images = Layer(Kind.INPUT, [], self._tensor(shape), "images", scale=ones, bias=0 * ones)
        self._add(images)
        self._values[signature.input] = Activation(images.target)

    def network(self) -> Network:
        for node in self._graph.node:
            try:
                self._node(node)
            except (RefusedError, WindowError) as reason:
                msg = (
                    f"{self._path}: node {node.name!r} ({node.op_type}): {reason}; the engine sparse-cpu does not run "
                    "it, use the target onnx-cpu"
                )
                raise InputError(msg) from None
        logits = self._values.get(self._signature.output)
        expected = Shape(self._signature.classes, 1, 1)
        if not isinstance(logits, Activation) or self._shapes[logits.tensor] != expected:
            msg = f"{self._path}: its output does not hold {expected.c} logits an image"
            raise InputError(msg)
        return Network(self._shapes, self._layers, logits.tensor)

    def _node(self, node: NodeProto) -> None:
        known: dict[str, Callable[[NodeProto, dict[str, Any]], Value]] = {
            "Add": self._arithmetic,
            "AveragePool": self._average_pool,
            "BatchNormalization": self._batch_norm,
            "Clip": self._clip,
            "Concat": self._concat,
            "Constant": self._constant,
            "Conv": self._conv,
            "Div": self._arithmetic,
            "Dropout": self._same,
            "Flatten": self._flatten,
            "Gemm": self._gemm,
            "GlobalAveragePool": self._mean,
            "Identity": self._same,
            "MatMul": self._matmul,
            "MaxPool": self._max_pool,
            "Mul": self._arithmetic,
            "ReduceMean": self._mean,
            "Relu": self._relu,
            "Reshape": self._reshape,
            "Sub": self._arithmetic,
            "Transpose": self._transpose,
        }
        if node.op_type not in known:
            quantised = "QuantizeLinear" in node.op_type or node.op_type.startswith(("QLinear", "ConvInteger"))
            raise RefusedError("is quantised arithmetic" if quantised else "is an operator without a kernel")
        if len([name for name in node.output if name]) != 1 and any(self._readers[name] for name in node.output[1:]):
            raise RefusedError("has a second output that is read")
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        self._values[node.output[0]] = known[node.op_type](node, attributes)

    # What a node reads

    def _activation(self, node: NodeProto, position: int = 0, *, spatial: bool = False) -> Activation:
        value = self._values.get(node.input[position]) if position < len(node.input) else None
        if not isinstance(value, Activation):
            raise RefusedError(f"its input {position} is not computed from the images")
        if spatial and value.flat and self._shapes[value.tensor].size != self._shapes[value.tensor].c:
            raise RefusedError("it reads flattened activations as images")
        return value

    def _stored(self, node: NodeProto, position: int) -> NDArray[Any] | None:
        """A constant input, or None if it is absent."""
        if position >= len(node.input) or not node.input[position]:
            return None
        value = self._values.get(node.input[position])
        if isinstance(value, SparseConstant):
            dense = np.zeros(math.prod(value.shape), np.float32)
            dense[value.indices] = value.values
            return dense.reshape(value.shape)
        if not isinstance(value, np.ndarray):
            raise RefusedError(f"its input {position} is not a constant")
        return value

    def _weight(self, node: NodeProto, rank: int) -> tuple[tuple[int, ...], SparseConstant | NDArray[np.float32]]:
        value = self._values.get(node.input[1])
        if isinstance(value, SparseConstant):
            shape = value.shape
        elif isinstance(value, np.ndarray) and value.dtype == np.float32:
            shape = value.shape
        else:
            raise RefusedError("its weight is not a constant in float32")
        if len(shape) != rank or 0 in shape:
            raise RefusedError(f"its weight has the shape {list(shape)}")
        return shape, value

    # Making and fusing layers

    def _tensor(self, shape: Shape) -> int:
        self._shapes.append(shape)
        return len(self._shapes) - 1

    def _add(self, layer: Layer) -> Activation:
        self._layers.append(layer)
        self._makers[layer.target] = layer
        return Activation(layer.target)

    def _only_reader(self, node: NodeProto, position: int) -> Layer | None:
        """The layer that makes an input of a node, if nothing else reads the input."""
        value = self._values[node.input[position]]
        if not isinstance(value, Activation) or self._readers[node.input[position]] != 1:
            return None
        layer = self._makers[value.tensor]
        # The same tensor may go by several names, of which one has another reader.
        names = [name for name, other in self._values.items() if isinstance(other, Activation) and other.tensor == value.tensor]
        return layer if sum(self._readers[name] for name in names) == len(names) else None

    def _affine(self, node: NodeProto, position: int, scale: NDArray[np.float64], bias: NDArray[np.float64]) -> Value:
        """scale * x + bias, per channel."""
        source = self._activation(node, position, spatial=True)
        if not np.isfinite(scale).all() or not np.isfinite(bias).all():
            raise RefusedError("its constants give factors that are not finite")
        layer = self._only_reader(node, position)
        if layer is not None and len(layer.sources) < 2 and not layer.clamps:
            if layer.kind in (Kind.INPUT, Kind.ELEMENTWISE):
                layer.scale, layer.bias = layer.scale * scale, layer.bias * scale + bias
                return source
            if layer.kind is Kind.CONV and layer.weight is not None:
                layer.weight, layer.bias = layer.weight.scaled(scale), layer.bias * scale + bias
                return source
        shape = self._shapes[source.tensor]
        made = Layer(Kind.ELEMENTWISE, [source.tensor], self._tensor(shape), node.name, scale=scale, bias=bias)
        return Activation(self._add(made).tensor, source.flat)

    def _clamp(self, node: NodeProto, low: float, high: float) -> Value:
        source = self._activation(node)
        if not low <= high:
            raise RefusedError(f"clips to [{low:g}, {high:g}]")
        layer = self._only_reader(node, 0)
        if layer is None or layer.kind not in (Kind.CONV, Kind.ELEMENTWISE):
            shape = self._shapes[source.tensor]
            ones = np.ones(shape.c)
            layer = Layer(
                Kind.ELEMENTWISE, [source.tensor], self._tensor(shape), node.name, scale=ones, bias=0 * ones
            )
            self._add(layer)
        layer.low, layer.high = (min(max(bound, low), high) for bound in (layer.low, layer.high))
        return Activation(layer.target, source.flat)

    def _sum(self, node: NodeProto) -> Value:
        first, second = self._activation(node, 0), self._activation(node, 1)
        if self._shapes[first.tensor] != self._shapes[second.tensor] or first.flat != second.flat:
            raise RefusedError("adds activations of different shapes")
        # The convolution that runs later takes the other summand along; nothing else reads it, so it can wait.
        takers = [
            (self._layers.index(layer), layer, other)
            for layer, other in ((self._only_reader(node, 0), second), (self._only_reader(node, 1), first))
            if layer is not None and layer.kind is Kind.CONV and len(layer.sources) == 1 and not layer.clamps
        ]
        if first.tensor != second.tensor and takers:
            _, layer, other = max(takers, key=lambda taker: taker[0])
            self._layers.remove(layer)
            layer.sources.append(other.tensor)
            self._layers.append(layer)
            return Activation(layer.target, first.flat)
        shape = self._shapes[first.tensor]
        ones = np.ones(shape.c)
        sources = [first.tensor, second.tensor]
        made = Layer(Kind.ELEMENTWISE, sources, self._tensor(shape), node.name, scale=ones, bias=0 * ones)
        return Activation(self._add(made).tensor, first.flat)

    # Operators

    def _same(self, node: NodeProto, _: dict[str, Any]) -> Value:
        if node.input[0] not in self._values:
            raise RefusedError(f"its input {node.input[0]!r} is not there")
        return self._values[node.input[0]]

    def _constant(self, _: NodeProto, attributes: dict[str, Any]) -> Value:
        if isinstance(attributes.get("value"), TensorProto):
            return array_of(attributes["value"])
        for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
            for key in (name, f"{name}s"):
                if key in attributes:
                    return np.array(attributes[key], dtype)
        raise RefusedError("holds no number")

    def _transpose(self, node: NodeProto, attributes: dict[str, Any]) -> Value:
        return np.transpose(self._required(node, 0), attributes.get("perm"))

    def _arithmetic(self, node: NodeProto, _: dict[str, Any]) -> Value:
        values = [self._values.get(name) for name in node.input]
        if node.op_type == "Add" and all(isinstance(value, Activation) for value in values):
            return self._sum(node)
        if isinstance(values[0], Activation) == isinstance(values[1], Activation):
            raise RefusedError("takes one activation and one constant")
        position = 0 if isinstance(values[0], Activation) else 1
        constant = self._per_channel(self._required(node, 1 - position), self._activation(node, position))
        ones = np.ones_like(constant)
        match node.op_type, position:
            case "Add", _:
                return self._affine(node, position, ones, constant)
            case "Mul", _:
                return self._affine(node, position, constant, 0 * ones)
            case "Sub", 0:
                return self._affine(node, position, ones, -constant)
            case "Sub", _:
                return self._affine(node, position, -ones, constant)
            case "Div", 0:
                with np.errstate(divide="ignore"):
                    return self._affine(node, position, 1 / constant, 0 * ones)
        raise RefusedError("divides by activations")

    def _per_channel(self, constant: NDArray[Any], activation: Activation) -> NDArray[np.float64]:
        shape = self._shapes[activation.tensor]
        rank = 2 if activation.flat else 4
        aligned = (1,) * (rank - constant.ndim) + constant.shape
        others = [size for axis, size in enumerate(aligned) if axis != 1]
        if len(aligned) != rank or set(others) - {1} or aligned[1] not in (1, shape.c):
            raise RefusedError(f"its constant of shape {list(constant.shape)} is not one number, or one per channel")
        return np.broadcast_to(constant.reshape(-1).astype(np.float64), shape.c).copy()

    def _batch_norm(self, node: NodeProto, attributes: dict[str, Any]) -> Value:
        if attributes.get("training_mode"):
            raise RefusedError("is in training mode")
        channels = self._shapes[self._activation(node).tensor].c
        gain, shift, mean, variance = (self._required(node, i).astype(np.float64) for i in range(1, 5))
        if any(part.shape != (channels,) for part in (gain, shift, mean, variance)):
            raise RefusedError(f"does not have {channels} channels")
        with np.errstate(all="ignore"):
            scale = gain / np.sqrt(variance + attributes.get("epsilon", 1e-5))
            return self._affine(node, 0, scale, shift - mean * scale)

    def _relu(self, node: NodeProto, _: dict[str, Any]) -> Value:
        return self._clamp(node, 0.0, math.inf)

    def _clip(self, node: NodeProto, attributes: dict[str, Any]) -> Value:
        bounds = []
        for position, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
            stored = self._stored(node, position)
            bounds.append(float(attributes.get(name, default)) if stored is None else float(stored.reshape(())))
        return self._clamp(node, *bounds)

    def _conv(self, node: NodeProto, attributes: dict[str, Any]) -> Value:
        source = self._activation(node, spatial=True)
        from_shape = self._shapes[source.tensor]
        shape, stored = self._weight(node, 4)
        groups = attributes.get("group", 1)
        if shape[1] * groups != from_shape.c or shape[0] % groups:
            raise RefusedError(f"its weight of shape {list(shape)} does not fit {from_shape.c} channels")
        if list(attributes.get("kernel_shape", shape[2:])) != list(shape[2:]):
            raise RefusedError("its kernel_shape is not that of its weight")
        y, x, height, width = windows(attributes, shape[2:], from_shape)
        return self._filters(node, source, _sparse(stored), Shape(shape[0], height, width), y, x, groups)

    def _filters(
        self,
        node: NodeProto,
        source: Activation,
        weight: SparseWeight,
        shape: Shape,
        y: Axis,
        x: Axis,
        groups: int = 1,
        beta: float = 1.0,
    ) -> Activation:
        stored = self._stored(node, 2)
        bias = np.zeros(shape.c) if stored is None else beta * stored.astype(np.float64).reshape(-1)
        if bias.shape not in ((1,), (shape.c,)):
            raise RefusedError(f"its bias has the shape {list(bias.shape)}")
        bias = np.broadcast_to(bias, shape.c).copy()
        return self._add(
            Layer(
                Kind.CONV, [source.tensor], self._tensor(shape), node.name, y=y, x=x, groups=groups, weight=weight,
                bias=bias,
            )
        )  # fmt: skip

    def _gemm(self, node: NodeProto, attributes: dict[str, Any]) -> Value:
        if attributes.get("transA"):
            raise RefusedError("transposes the activations")
        return self._linear(
            node, bool(attributes.get("transB")), attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
        )

    def _matmul(self, node: NodeProto, _: dict[str, Any]) -> Value:
        return self._linear(node, False, 1.0, 1.0)

    def _linear(self, node: NodeProto, transposed: bool, alpha: float, beta: float) -> Value:
        """A fully connected layer is a convolution whose kernel is as large as the image."""
        source = self._activation(node)
        image = self._shapes[source.tensor]
        if not source.flat:
            raise RefusedError("multiplies activations that are not flattened")
        shape, stored = self._weight(node, 2)
        if not transposed:
            stored = _transposed(stored)
            shape = shape[::-1]
        if shape[1] != image.size:
            raise RefusedError(f"its weight takes {shape[1]} features, but there are {image.size}")
        weight = _sparse(stored)
        if alpha != 1:
            weight = weight.scaled(np.full(shape[0], alpha, np.float64))
        made = self._filters(node, source, weight, Shape(shape[0], 1, 1), Axis(image.h), Axis(image.w), beta=beta)
        return Activation(made.tensor, flat=True)

    def _max_pool(self, node: NodeProto, attributes: dict[str, Any]) -> Value:
        source = self._activation(node, spatial=True)
        shape = self._shapes[source.tensor]
        y, x, height, width = windows(attributes, attributes.get("kernel_shape", ()), shape)
        target = self._tensor(Shape(shape.c, height, width))
        return self._add(Layer(Kind.MAX_POOL, [source.tensor], target, node.name, y=y, x=x))

    def _average_pool(self, node: NodeProto, attributes: dict[str, Any]) -> Value:
        """A convolution of each channel with equal weights."""
        source = self._activation(node, spatial=True)
        shape = self._shapes[source.tensor]
        kernel = attributes.get("kernel_shape", ())
        y, x, height, width = windows(attributes, kernel, shape)
        padded = any(attributes.get("pads", ())) or attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
        if attributes.get("ceil_mode") or (padded and not attributes.get("count_include_pad")):
            raise RefusedError("averages windows of different sizes")
        weight = SparseWeight.from_dense(np.full((shape.c, 1, *kernel), 1 / math.prod(kernel), np.float32))
        bias = np.zeros(shape.c)
        target = self._tensor(Shape(shape.c, height, width))
        return self._add(
            Layer(
                Kind.CONV, [source.tensor], target, node.name, y=y, x=x, groups=shape.c, weight=weight, bias=bias
            )
        )  # fmt: skip

    def _mean(self, node: NodeProto, attributes: dict[str, Any]) -> Value:
        source = self._activation(node, spatial=True)
        keep = True
        if node.op_type == "ReduceMean":
            stored = self._stored(node, 1)
            axes = attributes.get("axes", ()) if stored is None else stored.reshape(-1).tolist()
            if {axis % 4 for axis in axes} != {2, 3} or source.flat:
                raise RefusedError(f"averages the axes {list(axes)}, not height and width")
            keep = bool(attributes.get("keepdims", 1))
        target = self._tensor(Shape(self._shapes[source.tensor].c, 1, 1))
        self._add(Layer(Kind.MEAN, [source.tensor], target, node.name))
        return Activation(target, flat=not keep)

    def _concat(self, node: NodeProto, attributes: dict[str, Any]) -> Value:
        sources = [self._activation(node, i, spatial=True) for i in range(len(node.input))]
        shapes = [self._shapes[source.tensor] for source in sources]
        flat = sources[0].flat
        alike = {(shape.h, shape.w) for shape in shapes}
        if attributes.get("axis", 1) not in (1, -1 if flat else -3) or len(alike) != 1:
            raise RefusedError("joins other things than channels")
        if {source.flat for source in sources} != {flat}:
            raise RefusedError("joins images with flattened activations")
        target = self._tensor(Shape(sum(shape.c for shape in shapes), shapes[0].h, shapes[0].w))
        self._add(Layer(Kind.CONCAT, [source.tensor for source in sources], target, node.name))
        return Activation(target, flat)

    def _flatten(self, node: NodeProto, attributes: dict[str, Any]) -> Value:
        source = self._activation(node)
        if attributes.get("axis", 1) not in (1, -1 if source.flat else -3):
            raise RefusedError("does not flatten each image")
        return Activation(source.tensor, flat=True)

    def _reshape(self, node: NodeProto, _: dict[str, Any]) -> Value:
        value = self._values.get(node.input[0])
        sizes = self._required(node, 1).reshape(-1).tolist()
        if isinstance(value, np.ndarray):
            return value.reshape([value.shape[i] if size == 0 else size for i, size in enumerate(sizes)])
        source = self._activation(node)
        shape = self._shapes[source.tensor]
        batch = self._signature.batch
        if sizes[:1] in ([-1], [0], [batch]):
            if sizes[1:] in ([shape.size], [-1]) and sizes != [-1, -1]:
                return Activation(source.tensor, flat=True)
            if sizes[1:] == [shape.c, shape.h, shape.w]:
                return Activation(source.tensor)
        raise RefusedError(f"gives the shape {sizes}, which is neither the image's nor flat")

    def _required(self, node: NodeProto, position: int) -> NDArray[Any]:
        stored = self._stored(node, position)
        if stored is None:
            _refuse(f"has no input {position}")
        return stored


def _refuse(reason: str) -> NoReturn:
    raise RefusedError(reason)


def _sparse(stored: SparseConstant | NDArray[np.float32]) -> SparseWeight:
    if isinstance(stored, SparseConstant):
        return SparseWeight.from_entries(stored.indices, stored.values, stored.shape[0], math.prod(stored.shape[1:]))
    return SparseWeight.from_dense(stored)


def _transposed(stored: SparseConstant | NDArray[np.float32]) -> SparseConstant | NDArray[np.float32]:
    if not isinstance(stored, SparseConstant):
        return np.ascontiguousarray(stored.T)
    rows, columns = stored.shape
    moved = stored.indices % columns * rows + stored.indices // columns
    order = np.argsort(moved, kind="stable")
    return SparseConstant((columns, rows), moved[order], stored.values[order])
