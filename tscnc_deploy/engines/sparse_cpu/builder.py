"""Builds a network layer by layer, and fuses operations into the preceding layer where possible."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from tscnc_deploy.engines.onnx.file import array_of, indices_of
from tscnc_deploy.engines.onnx.signature import Signature
from tscnc_deploy.engines.sparse_cpu.arrange import MAX_CHANNELS, picture_axes, planes, whole
from tscnc_deploy.engines.sparse_cpu.network import Axis, Combine, Function, Kind, Layer, Network, Shape, SparseWeight
from tscnc_deploy.engines.sparse_cpu.values import Activation, Constant, RefusedError, SparseConstant, Value
from tscnc_deploy.engines.sparse_cpu.views import IMAGES, Axes, atom, row_major

Factors = NDArray[np.float64]


class Builder:
    """The layers built so far, and the values of the graph's names.

    Args:
        model: A model that `onnx.file` has read.
        nodes: Its nodes, as they are lowered.
        signature: The model's signature.
    """

    def __init__(self, model: ModelProto, nodes: Sequence[NodeProto], signature: Signature) -> None:
        self.batch = signature.batch
        self.values: dict[str, Value] = {tensor.name: array_of(tensor) for tensor in model.graph.initializer}
        for sparse in model.graph.sparse_initializer:
            entries = indices_of(sparse), array_of(sparse.values)
            self.values[sparse.values.name] = SparseConstant(tuple(sparse.dims), *entries)
        self._readers = Counter(name for node in nodes for name in node.input)
        self._readers[signature.output] += 1
        self._shapes: list[Shape] = []
        self._layers: list[Layer] = []
        self._makers: dict[int, Layer] = {}
        shape = Shape(*signature.input_shape)
        ones = np.ones(shape.c)
        images = self.add(Kind.INPUT, "images", [], shape, scale=ones, bias=0 * ones)
        self.values[signature.input] = Activation(images, picture_axes(shape))

    def network(self, output: str, classes: int) -> Network | None:
        """The network that was built; its output must be one logit per class."""
        logits = self.values.get(output)
        if not isinstance(logits, Activation) or len(logits.axes) != 2 or logits.axes[0] != (IMAGES,):
            return None
        logits = planes(self, output, logits, 1)
        if self.shape(logits) != Shape(classes, 1, 1):
            return None
        return Network(self._shapes, self._layers, logits.tensor)

    def shape(self, activation: Activation) -> Shape:
        """Shape of the tensor that an activation looks at."""
        return self._shapes[activation.tensor]

    def is_read(self, name: str) -> bool:
        """Whether a node reads a name, or the name is the output."""
        return self._readers[name] > 0

    # What a node reads

    def activation(self, node: NodeProto, position: int = 0) -> Activation:
        """An input that depends on the images."""
        value = self.values.get(node.input[position]) if position < len(node.input) else None
        if not isinstance(value, Activation):
            msg = f"its input {position} is not computed from the images"
            raise RefusedError(msg)
        return value

    def axis(self, activation: Activation, axis: int) -> int:
        """An axis as a number from 0."""
        rank = len(activation.axes)
        if not -rank <= axis < rank:
            msg = f"it works along axis {axis} of activations of shape {activation.shown}"
            raise RefusedError(msg)
        return axis % rank

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

    def weight(self, node: NodeProto, rank: int, position: int = 1) -> Constant:
        """The weight, which must be a float32 constant."""
        value = self.values.get(node.input[position]) if len(node.input) > position else None
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

    def add(self, kind: Kind, name: str, sources: Sequence[int], shape: Shape, **fields: Any) -> int:
        """Appends a layer that makes a new tensor, and returns the tensor."""
        self._shapes.append(shape)
        target = len(self._shapes) - 1
        layer = Layer(kind, list(sources), target, name, **fields)
        self._layers.append(layer)
        self._makers[target] = layer
        return target

    def constant(self, name: str, array: NDArray[Any], axes: Axes | None = None) -> Activation:
        """A constant as an activation, the same for every image; the first axis, of size 1, is that of the images."""
        if array.dtype != np.float32 or array.ndim < 1 or array.shape[0] != 1 or 0 in array.shape:
            msg = f"its constant of shape {list(array.shape)} and type {array.dtype} is not one for every image"
            raise RefusedError(msg)
        last = array.shape[-1] if array.ndim > 1 and array.shape[-1] <= MAX_CHANNELS else 1
        pixels = array.size // last
        moved = np.ascontiguousarray(np.moveaxis(array.reshape(pixels, last), -1, 0))
        tensor = self.add(Kind.CONSTANT, name, [], _row(last, pixels), values=moved)
        strides = row_major(array.shape) if last == 1 else [*row_major(array.shape[:-1]), pixels]
        sizes = zip(array.shape[1:], strides[1:], strict=True)
        return Activation(tensor, axes or ((IMAGES,), *(atom(size, stride) for size, stride in sizes)))

    def filters(
        self,
        node: NodeProto,
        source: Activation,
        weight: SparseWeight,
        shape: Shape,
        y: Axis,
        x: Axis,
        groups: int = 1,
        bias: Factors | None = None,
    ) -> int:
        """A convolution of all channels of a tensor."""
        given = np.zeros(shape.c) if bias is None else bias.reshape(-1)
        if given.shape not in ((1,), (shape.c,)):
            msg = f"its bias has the shape {list(given.shape)}"
            raise RefusedError(msg)
        spread = np.broadcast_to(given, shape.c).copy()
        return self.add(
            Kind.CONV, node.name, [source.tensor], shape, y=y, x=x, groups=groups, weight=weight, bias=spread
        )

    def per_channel(self, node: NodeProto, position: int, source: Activation, scale: Factors, bias: Factors) -> int:
        """scale * tensor + bias per channel, folded into the preceding layer if nothing else reads its output.

        Args:
            node: The node.
            position: The input of the node that is scaled.
            source: That input, or what it was copied to.
            scale: [channels of the tensor]
            bias: [channels of the tensor]
        """
        if not np.isfinite(scale).all() or not np.isfinite(bias).all():
            msg = "its constants give factors that are not finite"
            raise RefusedError(msg)
        layer = self.maker(node, position, source)
        if layer is not None and len(layer.sources) < 2 and layer.is_linear and _fold(layer, scale, bias):
            return source.tensor
        shape = self.shape(source)
        return self.add(Kind.ELEMENTWISE, node.name, [source.tensor], shape, scale=scale, bias=bias)

    def clamp(self, node: NodeProto, low: float, high: float) -> Activation:
        """The first input clamped to [low, high], by the preceding layer if nothing else reads its output."""
        if not low <= high:
            msg = f"it clips to [{low:g}, {high:g}]"
            raise RefusedError(msg)
        source = whole(self, node.name, self.activation(node))
        layer = self.maker(node, 0, source)
        if layer is None or layer.kind not in (Kind.CONV, Kind.ELEMENTWISE) or layer.function is not Function.NONE:
            layer = self._makers[self.elementwise(node.name, source)]
        layer.low, layer.high = (min(max(bound, low), high) for bound in (layer.low, layer.high))
        return Activation(layer.target, source.axes)

    def function(self, node: NodeProto, function: Function, alpha: float = 0.0, beta: float = 0.0) -> Activation:
        """A function of the first input, by the preceding layer if nothing else reads its output."""
        if not math.isfinite(alpha) or not math.isfinite(beta):
            msg = f"its parameters are {alpha:g} and {beta:g}"
            raise RefusedError(msg)
        source = whole(self, node.name, self.activation(node))
        layer = self.maker(node, 0, source)
        if layer is None or layer.kind not in (Kind.CONV, Kind.ELEMENTWISE) or layer.function is not Function.NONE:
            layer = self._makers[self.elementwise(node.name, source)]
        layer.function, layer.alpha, layer.beta = function, alpha, beta
        return Activation(layer.target, source.axes)

    def elementwise(
        self, name: str, source: Activation, other: int | None = None, combine: Combine = Combine.NONE, **fields: Any
    ) -> int:
        """A layer that computes every element of a tensor from that and one of another tensor."""
        shape = self.shape(source)
        ones = np.ones(shape.c)
        sources = [source.tensor] if other is None else [source.tensor, other]
        plain = {"scale": ones, "bias": 0 * ones, "combine": combine}
        return self.add(Kind.ELEMENTWISE, name, sources, shape, **(plain | fields))

    def total(self, node: NodeProto, first: Activation, second: Activation) -> int:
        """The sum of two tensors of one shape, computed by a preceding convolution if nothing else reads its output."""
        makers = (self.maker(node, 0, first), self.maker(node, 1, second))
        takers = [
            (self._layers.index(layer), layer, other)
            for layer, other in zip(makers, (second, first), strict=True)
            if layer is not None and layer.kind is Kind.CONV and len(layer.sources) == 1 and layer.is_linear
        ]
        if first.tensor == second.tensor or not takers:
            return self.elementwise(node.name, first, second.tensor, Combine.ADD)
        # Delay the earlier convolution: the other summand is computed first, while its input is still in the cache.
        _, layer, other = min(takers, key=lambda taker: taker[0])
        self._layers.remove(layer)
        layer.sources.append(other.tensor)
        self._layers.append(layer)
        return layer.target

    def maker(self, node: NodeProto, position: int, source: Activation) -> Layer | None:
        """The layer that computes an input of a node, if only that node reads it and it was not copied since."""
        name = node.input[position]
        value = self.values[name]
        if not isinstance(value, Activation) or value.tensor != source.tensor or self._readers[name] != 1:
            return None
        # The same tensor may have several names; each but the last is read only once, to define the next.
        names = [
            n for n, other in self.values.items() if isinstance(other, Activation) and other.tensor == value.tensor
        ]
        alone = sum(self._readers[name] for name in names) == len(names)
        return self._makers[value.tensor] if alone else None


def _row(channels: int, pixels: int) -> Shape:
    """Pixels in a row, or in several rows of one length if they are too many."""
    height = 1
    while pixels // height > 1 << 14:
        height = next((side for side in range(height + 1, 1 << 14) if pixels % side == 0), 0)
        if not height:
            msg = f"its constant has {pixels} pixels"
            raise RefusedError(msg)
    return Shape(channels, height, pixels // height)


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
