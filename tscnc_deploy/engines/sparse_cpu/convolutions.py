"""The ONNX operators that have weights, and pooling, which moves the same windows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import NodeProto

from tscnc_deploy.engines.sparse_cpu.arrange import assembled, covering, picture, picture_axes, planes
from tscnc_deploy.engines.sparse_cpu.broadcast import with_constant
from tscnc_deploy.engines.sparse_cpu.builder import Builder, Factors
from tscnc_deploy.engines.sparse_cpu.network import Axis, Combine, Kind, Shape, SparseWeight
from tscnc_deploy.engines.sparse_cpu.values import (
    Activation,
    Constant,
    RefusedError,
    SparseConstant,
    Value,
    filters_of,
    transposed,
)
from tscnc_deploy.engines.sparse_cpu.views import IMAGES, atom, simplified, size_of
from tscnc_deploy.engines.sparse_cpu.windows import sizes_of_windows, windows

Attributes = Mapping[str, Any]


def conv(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Conv over height and width, or over one axis, as if that were the width."""
    given = builder.activation(node)
    weight = builder.weight(node, len(given.axes))
    if len(given.axes) == 3:
        given, weight, attributes = _as_rows(given, weight, attributes)
        made = _conv(builder, node, given, weight, attributes)
        return replace(made, axes=(*made.axes[:2], made.axes[3]))
    return _conv(builder, node, given, weight, attributes)


def _as_rows(source: Activation, weight: Constant, attributes: Attributes) -> tuple[Activation, Constant, Attributes]:
    """A convolution over one axis as one over two, of which the height is 1."""
    source = replace(source, axes=(*source.axes[:2], (), source.axes[2]))
    shape = (*weight.shape[:2], 1, weight.shape[2])
    weight = replace(weight, shape=shape) if isinstance(weight, SparseConstant) else weight.reshape(shape)
    wider: dict[str, Any] = dict(attributes)
    for name, plain in (("strides", 1), ("dilations", 1), ("kernel_shape", 1)):
        if name in attributes:
            wider[name] = [plain, *attributes[name]]
    if "pads" in attributes:
        before, after = attributes["pads"]
        wider["pads"] = [0, before, 0, after]
    return source, weight, wider


def _conv(builder: Builder, node: NodeProto, given: Activation, weight: Constant, attributes: Attributes) -> Activation:
    image = picture(builder, node.name, given)
    source = builder.shape(image)
    filters, channels, *kernel = weight.shape
    groups = attributes.get("group", 1)
    if channels * groups != source.c or filters % groups:
        msg = f"its weight of shape {list(weight.shape)} in {groups} groups does not fit {source.c} channels"
        raise RefusedError(msg)
    if list(attributes.get("kernel_shape", kernel)) != kernel:
        msg = "its kernel_shape differs from that of its weight"
        raise RefusedError(msg)
    y, x, height, width = windows(attributes, kernel, source)
    if any(axis.pad > (axis.kernel - 1) * axis.dilation for axis in (y, x)):
        image, y, x = _padded(builder, node, image, y, x, height, width)
    shape = Shape(filters, height, width)
    made = builder.filters(node, image, filters_of(weight), shape, y, x, groups, _bias(builder, node))
    return Activation(made, picture_axes(shape))


def gemm(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Gemm of activations and a weight."""
    if attributes.get("transA"):
        msg = "it transposes the activations"
        raise RefusedError(msg)
    source = builder.activation(node)
    weight = builder.weight(node, 2)
    if not attributes.get("transB"):
        weight = transposed(weight)
    bias = _bias(builder, node, attributes.get("beta", 1.0))
    return linear(builder, node, source, 1, weight, attributes.get("alpha", 1.0), bias)


def linear(
    builder: Builder,
    node: NodeProto,
    source: Activation,
    axis: int,
    weight: Constant,
    alpha: float = 1.0,
    bias: Factors | None = None,
) -> Activation:
    """A fully connected layer along one axis, for every index of the others.

    Args:
        builder: The network so far.
        node: The node.
        source: What it reads.
        axis: The axis of `source` that is multiplied.
        weight: [out, in]
        alpha: Factor of the products.
        bias: [out], or one number.
    """
    outputs, features = weight.shape
    if features != size_of(source.axes[axis]):
        msg = f"its weight expects {features} features, but its input has {size_of(source.axes[axis])}"
        raise RefusedError(msg)
    filters = filters_of(weight)
    if alpha != 1:
        filters = filters.scaled(np.full(outputs, alpha, np.float64))
    image = builder.shape(source)
    flat = simplified(source.axes[axis]) == atom(image.size, 1) and covering(builder, source)
    if flat and image.plane > 1:
        # A flattened image: a convolution whose kernel is as large as the image.
        shape = Shape(outputs, 1, 1)
        made = builder.filters(node, source, filters, shape, Axis(image.h), Axis(image.w), 1, bias)
    else:
        source = planes(builder, node.name, source, axis)
        image = builder.shape(source)
        shape = Shape(outputs, image.h, image.w)
        made = builder.filters(node, source, filters, shape, Axis(1), Axis(1), 1, bias)
    axes = list(source.axes)
    axes[axis] = atom(outputs, shape.plane)
    return Activation(made, tuple(axes))


def max_pool(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """MaxPool; places outside the image never win."""
    image = picture(builder, node.name, builder.activation(node))
    source = builder.shape(image)
    y, x, height, width = windows(attributes, attributes.get("kernel_shape", ()), source)
    shape = Shape(source.c, height, width)
    made = builder.add(Kind.MAX_POOL, node.name, [image.tensor], shape, y=y, x=x)
    return Activation(made, picture_axes(shape))


def average_pool(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """AveragePool, as a convolution of each channel with equal weights.

    Where windows reach over the border and have different sizes, the convolution adds up, and a map of factors follows.
    """
    image = picture(builder, node.name, builder.activation(node))
    source = builder.shape(image)
    kernel = attributes.get("kernel_shape", ())
    y, x, height, width = windows(attributes, kernel, source)
    rows, columns = sizes_of_windows(attributes, kernel, source, bool(attributes.get("count_include_pad")))
    even = set(rows) | set(columns) == set(kernel) and {*rows} == {kernel[0]} and {*columns} == {kernel[1]}
    factor = 1 / math.prod(kernel) if even else 1.0
    weight = SparseWeight.from_dense(np.full((source.c, 1, *kernel), factor, np.float32))
    shape = Shape(source.c, height, width)
    made = builder.filters(node, image, weight, shape, y, x, source.c)
    result = Activation(made, picture_axes(shape))
    if even:
        return result
    counts = np.outer(np.array(rows, np.float64), np.array(columns, np.float64))
    return with_constant(builder, node, 0, Combine.MULTIPLY, (1 / counts).astype(np.float32)[None, None], result)


def _padded(
    builder: Builder, node: NodeProto, image: Activation, y: Axis, x: Axis, height: int, width: int
) -> tuple[Activation, Axis, Axis]:
    """The image with its padding, where some windows lie in the padding alone, and windows without any."""
    shape = builder.shape(image)
    sizes = [1, shape.c]
    for axis, count, size in ((y, height, shape.h), (x, width, shape.w)):
        reach = (count - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1
        sizes.append(max(reach, size + axis.pad))
    placed = assembled(builder, node.name, sizes, [(image, [0, 0, y.pad, x.pad])], [1])
    plain = [Axis(axis.kernel, axis.stride, axis.dilation) for axis in (y, x)]
    return placed, plain[0], plain[1]


def _bias(builder: Builder, node: NodeProto, beta: float = 1.0) -> Factors | None:
    stored = builder.stored(node, 2)
    return None if stored is None else beta * stored.astype(np.float64)


def matmul_with_weight(builder: Builder, node: NodeProto) -> Value:
    """MatMul of activations of any rank and a matrix, on either side."""
    position = 0 if isinstance(builder.values.get(node.input[0]), Activation) else 1
    source = builder.activation(node, position)
    weight = builder.weight(node, 2, 1 - position)
    if position == 0:
        return linear(builder, node, source, len(source.axes) - 1, transposed(weight))
    if len(source.axes) < 3 or IMAGES in source.axes[-2]:
        msg = "it multiplies along the axis of the images"
        raise RefusedError(msg)
    return linear(builder, node, source, len(source.axes) - 2, weight)
