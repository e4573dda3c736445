"""Builds a network layer by layer, and fuses operations into the preceding layer where possible."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from tscnc_deploy.engines.onnx.file import array_of, indices_of
from tscnc_deploy.engines.onnx.signature import Signature
from tscnc_deploy.engines.sparse_cpu.network import Axis, Kind, Layer, Network, Shape, SparseWeight
from tscnc_deploy.engines.sparse_cpu.values import Activation, Constant, RefusedError, SparseConstant, Value

Factors = NDArray[np.float64]


class Builder:
    """The layers built so far, and the values of the graph's names.

    Args:
        model: A model that `onnx.file` has read.
        signature: The model's signature.
    """

    def __init__(self, model: ModelProto, signature: Signature) -> None:
        self.batch = signature.batch
        self.values: dict[str, Value] = {tensor.name: array_of(tensor) for tensor in model.graph.initializer}
        for sparse in model.graph.sparse_initializer:
            entries = indices_of(sparse), array_of(sparse.values)
            self.values[sparse.values.name] = SparseConstant(tuple(sparse.dims), *entries)
        self._readers = Counter(name for node in model.graph.node for name in node.input)
        self._readers[signature.output] += 1
        self._shapes: list[Shape] = []
        self._layers: list[Layer] = []
        self._makers: dict[int, Layer] = {}
        shape = Shape(*signature.input_shape)
        ones = np.ones(shape.c)
        self.values[signature.input] = self.add(Kind.INPUT, "images", [], shape, scale=ones, bias=0 * ones)

    def network(self, output: str, classes: int) -> Network | None:
        """The network that was built; its output must be one logit per class."""
        logits = self.values.get(output)
        if not isinstance(logits, Activation) or self._shapes[logits.tensor] != Shape(classes, 1, 1):
            return None
        return Network(self._shapes, self._layers, logits.tensor)

    def shape(self, activation: Activation) -> Shape:
        """Shape of one image's activations."""
        return self._shapes[activation.tensor]

    def is_read(self, name: str) -> bool:
        """Whether a node reads a name, or the name is the output."""
        return self._readers[name] > 0

    # What a node reads

    def activation(self, node: NodeProto, position: int = 0, *, spatial: bool = False) -> Activation:
        """An input that depends on the images; `spatial` rejects flattened activations of more than one pixel."""
        value = self.values.get(node.input[position]) if position < len(node.input) else None
        if not isinstance(value, Activation):
            msg = f"its input {position} is not computed from the images"
            raise RefusedError(msg)
        if spatial and value.flat and self.shape(value).size != self.shape(value).c:
            msg = "it reads flattened activations as images"
            raise RefusedError(msg)
        return value

    def stored(self, node: NodeProto, position: int) -> NDArray[Any] | None:
        """A constant input, or None if it is absent."""
        if position >= len(node.input) or not node.input[position]:
            return None
        value = self.values.get(node.input[position])
        if isinstance(value, SparseConstant):
            return value.dense()
        if not isinstance(value, np.ndarray):
            msg = f"its input {position} is not a constant"
            raise RefusedError(msg)
        return value

    def required(self, node: NodeProto, position: int) -> NDArray[Any]:
        """A required constant input."""
        value = self.stored(node, position)
        if value is None:
            msg = f"it has no input {position}"
            raise RefusedError(msg)
        return value

    def weight(self, node: NodeProto, rank: int) -> Constant:
        """The second input, which must be a float32 constant."""
        value = self.values.get(node.input[1]) if len(node.input) > 1 else None
        if isinstance(value, np.ndarray) and value.dtype != np.float32:
            msg = f"its weight is stored as {value.dtype}, not as float32"
            raise RefusedError(msg)
        if value is None or isinstance(value, Activation):
            msg = "its weight is not a constant"
            raise RefusedError(msg)
        if len(value.shape) != rank or 0 in value.shape:
            msg = f"its weight has the shape {list(value.shape)}"
            raise RefusedError(msg)
        return value

    # Layers

    def add(self, kind: Kind, name: str, sources: list[Activation], shape: Shape, **fields: Any) -> Activation:
        """Appends a layer that makes a new tensor."""
        self._shapes.append(shape)
        target = len(self._shapes) - 1
        layer = Layer(kind, [source.tensor for source in sources], target, name, **fields)
        self._layers.append(layer)
        self._makers[target] = layer
        return Activation(target)

    def filters(
        self, node: NodeProto, weight: SparseWeight, shape: Shape, y: Axis, x: Axis, groups: int = 1, beta: float = 1.0
    ) -> Activation:
        """A convolution of the node's first input; its third input, if present, times beta is the bias."""
        stored = self.stored(node, 2)
        bias = np.zeros(shape.c) if stored is None else beta * stored.astype(np.float64).reshape(-1)
        if bias.shape not in ((1,), (shape.c,)):
            msg = f"its bias has the shape {list(bias.shape)}"
            raise RefusedError(msg)
        bias = np.broadcast_to(bias, shape.c).copy()
        source = self.activation(node)
        return self.add(Kind.CONV, node.name, [source], shape, y=y, x=x, groups=groups, weight=weight, bias=bias)

    def affine(self, node: NodeProto, position: int, scale: Factors, bias: Factors) -> Activation:
        """scale * input + bias per channel, folded into the preceding layer if nothing else reads its output."""
        source = self.activation(node, position, spatial=True)
        if not np.isfinite(scale).all() or not np.isfinite(bias).all():
            msg = "its constants give factors that are not finite"
            raise RefusedError(msg)
        layer = self._only_read_by(node, position)
        if layer is not None and len(layer.sources) < 2 and not layer.clamps and _fold(layer, scale, bias):
            return source
        made = self.add(Kind.ELEMENTWISE, node.name, [source], self.shape(source), scale=scale, bias=bias)
        return Activation(made.tensor, source.flat)

    def clamp(self, node: NodeProto, low: float, high: float) -> Activation:
        """The first input clamped to [low, high], by the preceding layer if nothing else reads its output."""
        source = self.activation(node)
        if not low <= high:
            msg = f"it clips to [{low:g}, {high:g}]"
            raise RefusedError(msg)
        layer = self._only_read_by(node, 0)
        if layer is None or layer.kind not in (Kind.CONV, Kind.ELEMENTWISE):
            shape = self.shape(source)
            ones = np.ones(shape.c)
            made = self.add(Kind.ELEMENTWISE, node.name, [source], shape, scale=ones, bias=0 * ones)
            layer = self._makers[made.tensor]
        layer.low, layer.high = (min(max(bound, low), high) for bound in (layer.low, layer.high))
        return Activation(layer.target, source.flat)

    def total(self, node: NodeProto) -> Activation:
        """The sum of two activations, computed by the preceding convolution if nothing else reads its output."""
        first, second = self.activation(node, 0), self.activation(node, 1)
        if self.shape(first) != self.shape(second) or first.flat != second.flat:
            msg = "it adds activations of different shapes"
            raise RefusedError(msg)
        takers = [
            (self._layers.index(layer), layer, other)
            for layer, other in ((self._only_read_by(node, 0), second), (self._only_read_by(node, 1), first))
            if layer is not None and layer.kind is Kind.CONV and len(layer.sources) == 1 and not layer.clamps
        ]
        if first.tensor != second.tensor and takers:
            # Delay the earlier convolution: the other summand is computed first, while its input is still in the cache.
            _, layer, other = min(takers, key=lambda taker: taker[0])
            self._layers.remove(layer)
            layer.sources.append(other.tensor)
            self._layers.append(layer)
            return Activation(layer.target, first.flat)
        shape = self.shape(first)
        ones = np.ones(shape.c)
        made = self.add(Kind.ELEMENTWISE, node.name, [first, second], shape, scale=ones, bias=0 * ones)
        return Activation(made.tensor, first.flat)

    def _only_read_by(self, node: NodeProto, position: int) -> Layer | None:
        """The layer that computes an input of a node, if only that node reads it."""
        value = self.values[node.input[position]]
        if not isinstance(value, Activation) or self._readers[node.input[position]] != 1:
            return None
        # The same tensor may have several names; each but the last is read only once, to define the next.
        names = [
            n for n, other in self.values.items() if isinstance(other, Activation) and other.tensor == value.tensor
        ]
        alone = sum(self._readers[name] for name in names) == len(names)
        return self._makers[value.tensor] if alone else None


def _fold(layer: Layer, scale: Factors, bias: Factors) -> bool:
    if layer.kind in (Kind.INPUT, Kind.ELEMENTWISE):
        layer.scale = layer.scale * scale
    elif layer.kind is Kind.CONV and layer.weight is not None:
        with np.errstate(over="ignore"):
            scaled = layer.weight.scaled(scale)
        if not np.isfinite(scaled.values).all():
            return False
        layer.weight = scaled
    else:
        return False
    layer.bias = layer.bias * scale + bias
    return True
