"""The ONNX operators that the sparse CPU engine supports, one function each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto

from tscnc_deploy.engines.onnx.file import array_of
from tscnc_deploy.engines.sparse_cpu.builder import Builder, Factors
from tscnc_deploy.engines.sparse_cpu.network import Axis, Kind, Shape, SparseWeight
from tscnc_deploy.engines.sparse_cpu.values import Activation, RefusedError, Value, filters_of, transposed
from tscnc_deploy.engines.sparse_cpu.windows import windows

Attributes = Mapping[str, Any]
Operator = Callable[[Builder, NodeProto, Attributes], Value]


def _conv(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    source = builder.shape(builder.activation(node, spatial=True))
    weight = builder.weight(node, 4)
    filters, channels, *kernel = weight.shape
    groups = attributes.get("group", 1)
    if channels * groups != source.c or filters % groups:
        msg = f"its weight of shape {list(weight.shape)} in {groups} groups does not fit {source.c} channels"
        raise RefusedError(msg)
    if list(attributes.get("kernel_shape", kernel)) != kernel:
        msg = "its kernel_shape differs from that of its weight"
        raise RefusedError(msg)
    y, x, height, width = windows(attributes, kernel, source)
    return builder.filters(node, filters_of(weight), Shape(filters, height, width), y, x, groups)


def _gemm(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    if attributes.get("transA"):
        msg = "it transposes the activations"
        raise RefusedError(msg)
    return _linear(builder, node, attributes)


def _linear(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """A fully connected layer, as a convolution whose kernel is as large as the image."""
    source = builder.activation(node)
    image = builder.shape(source)
    if not source.flat:
        msg = "it multiplies activations that are not flattened"
        raise RefusedError(msg)
    weight = builder.weight(node, 2)
    if not attributes.get("transB"):
        weight = transposed(weight)
    classes, features = weight.shape
    if features != image.size:
        msg = f"its weight expects {features} features, but its input has {image.size}"
        raise RefusedError(msg)
    filters = filters_of(weight)
    if attributes.get("alpha", 1.0) != 1:
        filters = filters.scaled(np.full(classes, attributes["alpha"], np.float64))
    y, x = Axis(image.h), Axis(image.w)
    made = builder.filters(node, filters, Shape(classes, 1, 1), y, x, beta=attributes.get("beta", 1.0))
    return Activation(made.tensor, flat=True)


def _batch_norm(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    if attributes.get("training_mode"):
        msg = "it is in training mode"
        raise RefusedError(msg)
    channels = builder.shape(builder.activation(node)).c
    gain, shift, mean, variance = (builder.required(node, i).astype(np.float64) for i in range(1, 5))
    if any(part.shape != (channels,) for part in (gain, shift, mean, variance)):
        msg = f"it does not have {channels} channels"
        raise RefusedError(msg)
    with np.errstate(all="ignore"):
        scale = gain / np.sqrt(variance + attributes.get("epsilon", 1e-5))
        return builder.affine(node, 0, scale, shift - mean * scale)


def _arithmetic(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    """Add, Sub, Mul or Div of an activation and a constant, or a sum of two activations."""
    computed = [isinstance(builder.values.get(name), Activation) for name in node.input]
    if node.op_type == "Add" and computed == [True, True]:
        return builder.total(node)
    if sorted(computed) != [False, True]:
        msg = "it does not take one activation and one constant"
        raise RefusedError(msg)
    position = computed.index(True)
    constant = _per_channel(builder, node, position)
    ones = np.ones_like(constant)
    match node.op_type, position:
        case "Add", _:
            return builder.affine(node, position, ones, constant)
        case "Mul", _:
            return builder.affine(node, position, constant, 0 * ones)
        case "Sub", 0:
            return builder.affine(node, position, ones, -constant)
        case "Sub", _:
            return builder.affine(node, position, -ones, constant)
        case "Div", 0:
            with np.errstate(divide="ignore"):
                return builder.affine(node, position, 1 / constant, 0 * ones)
    msg = "it divides by activations"
    raise RefusedError(msg)


def _per_channel(builder: Builder, node: NodeProto, position: int) -> Factors:
    activation = builder.activation(node, position)
    shape = builder.shape(activation)
    constant = builder.required(node, 1 - position)
    rank = 2 if activation.flat else 4
    aligned = (1,) * (rank - constant.ndim) + constant.shape
    others = {size for axis, size in enumerate(aligned) if axis != 1}
    if len(aligned) != rank or others - {1} or aligned[1] not in (1, shape.c):
        msg = f"its constant of shape {list(constant.shape)} is not one number, or one per channel"
        raise RefusedError(msg)
    return np.broadcast_to(constant.reshape(-1).astype(np.float64), shape.c).copy()


def _relu(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    return builder.clamp(node, 0.0, math.inf)


def _clip(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    bounds = []
    for position, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        stored = builder.stored(node, position)
        if stored is not None and stored.size != 1:
            msg = f"its bound {name} is not one number"
            raise RefusedError(msg)
        bounds.append(float(attributes.get(name, default)) if stored is None else float(stored.reshape(())))
    return builder.clamp(node, *bounds)


def _max_pool(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    source = builder.activation(node, spatial=True)
    shape = builder.shape(source)
    y, x, height, width = windows(attributes, attributes.get("kernel_shape", ()), shape)
    return builder.add(Kind.MAX_POOL, node.name, [source], Shape(shape.c, height, width), y=y, x=x)


def _average_pool(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Average pooling, as a convolution of each channel with equal weights."""
    shape = builder.shape(builder.activation(node, spatial=True))
    kernel = attributes.get("kernel_shape", ())
    y, x, height, width = windows(attributes, kernel, shape)
    padded = any(attributes.get("pads", ())) or attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    if attributes.get("ceil_mode") or (padded and not attributes.get("count_include_pad")):
        msg = "it averages windows of different sizes"
        raise RefusedError(msg)
    weight = SparseWeight.from_dense(np.full((shape.c, 1, *kernel), 1 / math.prod(kernel), np.float32))
    return builder.filters(node, weight, Shape(shape.c, height, width), y, x, groups=shape.c)


def _mean(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """GlobalAveragePool, or ReduceMean over height and width."""
    source = builder.activation(node, spatial=True)
    keep = True
    if node.op_type == "ReduceMean":
        stored = builder.stored(node, 1)
        axes = attributes.get("axes", ()) if stored is None else stored.reshape(-1).tolist()
        if {axis % 4 for axis in axes} != {2, 3} or source.flat:
            msg = f"it averages over the axes {list(axes)}, not over height and width"
            raise RefusedError(msg)
        keep = bool(attributes.get("keepdims", 1))
    made = builder.add(Kind.MEAN, node.name, [source], Shape(builder.shape(source).c, 1, 1))
    return Activation(made.tensor, flat=not keep)


def _concat(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    sources = [builder.activation(node, i, spatial=True) for i in range(len(node.input))]
    shapes = [builder.shape(source) for source in sources]
    flat = sources[0].flat
    alike = {(source.flat, shape.h, shape.w) for source, shape in zip(sources, shapes, strict=True)}
    if attributes.get("axis", 1) not in (1, -1 if flat else -3) or len(alike) != 1:
        msg = "it concatenates along another axis than the channels"
        raise RefusedError(msg)
    joined = Shape(sum(shape.c for shape in shapes), shapes[0].h, shapes[0].w)
    return Activation(builder.add(Kind.CONCAT, node.name, sources, joined).tensor, flat)


def _flatten(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    source = builder.activation(node)
    if attributes.get("axis", 1) not in (1, -1 if source.flat else -3):
        msg = "it does not flatten each image"
        raise RefusedError(msg)
    return Activation(source.tensor, flat=True)


def _reshape(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    source = builder.activation(node)
    shape = builder.shape(source)
    sizes = builder.required(node, 1).reshape(-1).tolist()
    if sizes[:1] in ([-1], [0], [builder.batch]):
        if sizes[1:] == [shape.size] or (sizes[1:] == [-1] and sizes[0] != -1):
            return Activation(source.tensor, flat=True)
        if sizes[1:] == [shape.c, shape.h, shape.w]:
            return Activation(source.tensor)
    msg = f"it returns the shape {sizes}, which is neither the image's nor flat"
    raise RefusedError(msg)


def _same(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    if node.input[0] not in builder.values:
        msg = f"its input {node.input[0]!r} is not defined"
        raise RefusedError(msg)
    return builder.values[node.input[0]]


def _constant(_: Builder, node: NodeProto, attributes: Attributes) -> Value:
    if isinstance(attributes.get("value"), TensorProto):
        return array_of(attributes["value"])
    for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        for key in (name, f"{name}s"):
            if key in attributes:
                return np.array(attributes[key], dtype)
    msg = f"its output {node.output[0]!r} is empty"
    raise RefusedError(msg)


OPERATORS: Mapping[str, Operator] = {
    "Add": _arithmetic,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "Div": _arithmetic,
    "Dropout": _same,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _mean,
    "Identity": _same,
    "MatMul": _linear,
    "MaxPool": _max_pool,
    "Mul": _arithmetic,
    "ReduceMean": _mean,
    "Relu": _relu,
    "Reshape": _reshape,
    "Sub": _arithmetic,
}
