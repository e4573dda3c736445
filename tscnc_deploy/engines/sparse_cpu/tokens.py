"""The ONNX operators that mix channels, tokens or pixels without weights: norms, softmax, means, products."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto

from tscnc_deploy.engines.sparse_cpu.arrange import copied, covering, groups, natural_channels
from tscnc_deploy.engines.sparse_cpu.broadcast import with_activation, with_constant
from tscnc_deploy.engines.sparse_cpu.builder import Builder
from tscnc_deploy.engines.sparse_cpu.convolutions import matmul_with_weight
from tscnc_deploy.engines.sparse_cpu.moves import sliced
from tscnc_deploy.engines.sparse_cpu.network import Axis, Combine, Function, Kind, Shape, SparseWeight
from tscnc_deploy.engines.sparse_cpu.values import Activation, RefusedError, Value
from tscnc_deploy.engines.sparse_cpu.views import IMAGES, Atom, Atoms, Axes, atom, simplified, size_of

Attributes = Mapping[str, Any]

_REDUCTIONS = {"Max": Combine.LARGEST, "Mean": Combine.ADD, "Sum": Combine.ADD}
_MAX_TERMS = 32


def softmax(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Softmax along one axis."""
    source = builder.activation(node)
    axis = builder.axis(source, attributes.get("axis", -1))
    source = groups(builder, node.name, source, axis)
    size = size_of(source.axes[axis])
    made = builder.add(Kind.SOFTMAX, node.name, [source.tensor], builder.shape(source), size=size)
    return Activation(made, source.axes)


def layer_norm(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """LayerNormalization along the last axis."""
    source = builder.activation(node)
    last = len(source.axes) - 1
    if builder.axis(source, attributes.get("axis", -1)) != last:
        msg = f"it normalises more than the last axis of {source.shown}"
        raise RefusedError(msg)
    size = size_of(source.axes[last])
    gain, shift = builder.required(node, 1), builder.stored(node, 2)
    parts = [gain, np.zeros(size, np.float32) if shift is None else shift]
    if any(part.size not in (1, size) or part.dtype != np.float32 for part in parts):
        msg = f"its parameters are not those of {size} channels"
        raise RefusedError(msg)
    scale, bias = (np.broadcast_to(part.reshape(-1), size).astype(np.float64) for part in parts)
    source = groups(builder, node.name, source, last)
    epsilon = float(attributes.get("epsilon", 1e-5))
    if not 0 <= epsilon < math.inf:
        msg = f"its epsilon is {epsilon:g}"
        raise RefusedError(msg)
    fields = {"size": size, "scale": scale, "bias": bias, "epsilon": epsilon}
    made = builder.add(Kind.LAYER_NORM, node.name, [source.tensor], builder.shape(source), **fields)
    return Activation(made, source.axes)


def instance_norm(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """InstanceNormalization: every channel of every image to mean 0 and variance 1."""
    source = builder.activation(node)
    if len(source.axes) < 3 or source.axes[0] != (IMAGES,):
        msg = f"it normalises {source.shown}"
        raise RefusedError(msg)
    pixels = list(range(2, len(source.axes)))
    mean = _reduced(builder, node, source, pixels, "Mean", keep=True)
    apart = with_activation(builder, node, Combine.SUBTRACT, source, mean)
    squares = with_activation(builder, node, Combine.MULTIPLY, apart, apart)
    variance = _reduced(builder, node, squares, pixels, "Mean", keep=True)
    shape = builder.shape(variance)
    shift = np.full(shape.c, float(attributes.get("epsilon", 1e-5)))
    deviation = builder.elementwise(node.name, variance, bias=shift, function=Function.SQRT)
    result = with_activation(builder, node, Combine.DIVIDE, apart, Activation(deviation, variance.axes))
    form = (1, -1, *(1,) * len(pixels))
    for position, combine in ((1, Combine.MULTIPLY), (2, Combine.ADD)):
        constant = builder.required(node, position).reshape(form)
        result = with_constant(builder, node, 0, combine, constant, result, fold=False)
    return result


def global_pool(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    """GlobalAveragePool and GlobalMaxPool."""
    source = builder.activation(node)
    what = "Mean" if node.op_type == "GlobalAveragePool" else "Max"
    return _reduced(builder, node, source, range(2, len(source.axes)), what, keep=True)


def reduce(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """ReduceMean, ReduceSum and ReduceMax over any axes but that of the images."""
    source = builder.activation(node)
    stored = builder.stored(node, 1)
    given = attributes.get("axes") if stored is None else stored.reshape(-1).tolist()
    if not given:
        if attributes.get("noop_with_empty_axes"):
            return source
        msg = "it reduces over all axes"
        raise RefusedError(msg)
    axes = sorted({builder.axis(source, axis) for axis in given})
    what = node.op_type.removeprefix("Reduce")
    return _reduced(builder, node, source, axes, what, keep=bool(attributes.get("keepdims", 1)))


def matmul(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    """MatMul of activations with a weight, or of two activations, matrix by matrix."""
    if not all(isinstance(builder.values.get(name), Activation) for name in node.input[:2]):
        return matmul_with_weight(builder, node)
    first, second = builder.activation(node, 0), builder.activation(node, 1)
    rank = len(first.axes)
    lead = list(range(rank - 2))
    depth = size_of(first.axes[-1])
    shapes = [[str(size) for size in side.sizes] for side in (first, second)]
    alike = len(second.axes) == rank and shapes[0][:-2] == shapes[1][:-2] and shapes[0][-1] == shapes[1][-2]
    if rank < 3 or not alike or not any(IMAGES in axis for axis in first.axes[:-2]):
        msg = f"it multiplies {first.shown} with {second.shown}"
        raise RefusedError(msg)
    count = math.prod(size_of(axis) for axis in first.axes[:-2])
    outputs = size_of(second.axes[-1])
    if not _batched(builder, first, lead, rank - 1, depth):
        first = copied(builder, node.name, first, [*lead, rank - 1])
    filters = _batched(builder, second, lead, rank - 1, outputs) and _in_order(builder, second, rank - 2)
    if not filters and not (_batched(builder, second, lead, rank - 2, depth) and _in_order(builder, second, rank - 1)):
        second = copied(builder, node.name, second, [*lead, rank - 2])
    image = builder.shape(first)
    shape = Shape(count * outputs, image.h, image.w)
    sources = [first.tensor, second.tensor]
    made = builder.add(Kind.MATMUL, node.name, sources, shape, groups=count, filters=filters)
    axes = [_stretched(axis, depth * image.plane, outputs * image.plane) for axis in first.axes[:-2]]
    return Activation(made, (*axes, first.axes[-2], atom(outputs, image.plane)))


def _batched(builder: Builder, source: Activation, lead: Sequence[int], axis: int, size: int) -> bool:
    """Whether the channels are the leading axes and then the given one, and the pixels are the rest."""
    plane = builder.shape(source).plane
    outer = simplified(part for place in lead for part in source.axes[place] if part != IMAGES)
    count = size_of(outer)
    return (
        covering(builder, source)
        and simplified(source.axes[axis]) == atom(size, plane)
        and outer == atom(count, size * plane)
        and count * size == builder.shape(source).c
    )


def _in_order(builder: Builder, source: Activation, axis: int) -> bool:
    return simplified(source.axes[axis]) == atom(builder.shape(source).plane, 1)


def _stretched(axis: Atoms, old: int, new: int) -> Atoms:
    """The atoms of channels around others whose number has changed."""
    return tuple(part if part == IMAGES else Atom(part.size, part.stride // old * new) for part in axis)


def _reduced(
    builder: Builder, node: NodeProto, source: Activation, axes: Sequence[int], what: str, *, keep: bool
) -> Activation:
    if any(IMAGES in source.axes[axis] for axis in axes):
        msg = "it reduces over the axis of the images"
        raise RefusedError(msg)
    count = math.prod(size_of(source.axes[axis]) for axis in axes)
    if count == 1:
        return _without(source, source.axes, axes, keep)
    shape = builder.shape(source)
    parts = [part for axis in axes for part in simplified(source.axes[axis])]
    over_channels = all(part.stride >= shape.plane for part in parts) and shape.plane > 1
    if covering(builder, source) and over_channels:
        if count == shape.c and what != "Max":
            return _channel_sum(builder, node, source, axes, what, keep)
        if len(axes) == 1 and count <= _MAX_TERMS:
            return _chain(builder, node, source, axes[0], what, keep)
    if not (covering(builder, source) and count == shape.plane and all(part.stride < shape.plane for part in parts)):
        rest = [axis for axis in range(len(source.axes)) if axis not in axes]
        source = copied(builder, node.name, source, rest)
        shape = builder.shape(source)
    target = Shape(shape.c, 1, 1)
    if what == "Max":
        windows = {"y": Axis(shape.h), "x": Axis(shape.w)}
        made = builder.add(Kind.MAX_POOL, node.name, [source.tensor], target, **windows)
    else:
        made = builder.add(Kind.MEAN, node.name, [source.tensor], target)
    left = tuple(
        () if place in axes else tuple(_lowered(part, shape.plane) for part in axis)
        for place, axis in enumerate(source.axes)
    )
    result = _without(Activation(made, left), left, axes, keep)
    if what == "Sum":
        result = with_constant(builder, node, 0, Combine.MULTIPLY, np.array(count, np.float32), result)
    return result


def _lowered(part: Atom, plane: int) -> Atom:
    return part if part == IMAGES else Atom(part.size, part.stride // plane)


def _channel_sum(
    builder: Builder, node: NodeProto, source: Activation, axes: Sequence[int], what: str, keep: bool
) -> Activation:
    """The mean or the sum over all channels, as a convolution with one filter of equal weights."""
    shape = builder.shape(source)
    factor = 1 / shape.c if what == "Mean" else 1.0
    weight = SparseWeight.from_dense(np.full((1, shape.c), factor, np.float32))
    made = builder.filters(node, source, weight, Shape(1, shape.h, shape.w), Axis(1), Axis(1))
    left = tuple(() if place in axes else axis for place, axis in enumerate(source.axes))
    return _without(Activation(made, left), left, axes, keep)


def _chain(builder: Builder, node: NodeProto, source: Activation, axis: int, what: str, keep: bool) -> Activation:
    """A few parts combined one after another."""
    size = size_of(source.axes[axis])
    terms = [sliced(builder, node.name, source, axis, place, 1) for place in range(size)]
    terms = [copied(builder, node.name, term, natural_channels(builder, term)) for term in terms]
    result = terms[0]
    for term in terms[1:]:
        made = builder.elementwise(node.name, result, term.tensor, _REDUCTIONS[what])
        result = Activation(made, result.axes)
    if what == "Mean":
        result = with_constant(builder, node, 0, Combine.MULTIPLY, np.array(1 / size, np.float32), result)
    return _without(result, result.axes, [axis], keep)


def _without(source: Activation, axes: Axes, reduced: Sequence[int], keep: bool) -> Activation:
    left = axes if keep else tuple(axis for place, axis in enumerate(axes) if place not in reduced)
    return Activation(source.tensor, left, source.start)


OPERATORS = {
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "MatMul": matmul,
    "ReduceMax": reduce,
    "ReduceMean": reduce,
    "ReduceSum": reduce,
    "Softmax": softmax,
}
