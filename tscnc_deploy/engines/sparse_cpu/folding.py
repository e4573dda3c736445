"""Computes the nodes of an ONNX graph that depend on constants and on the number of images alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from tscnc_deploy.engines.onnx.file import array_of
from tscnc_deploy.engines.sparse_cpu.values import Activation, RefusedError, SparseConstant, Value, transposed
from tscnc_deploy.engines.sparse_cpu.views import Images

Attributes = Mapping[str, Any]
Array = NDArray[Any]


def folded(node: NodeProto, attributes: Attributes, values: Mapping[str, Value]) -> Value | None:
    """The constant that a node computes; None if it computes anything else.

    Numbers of images are `Images` in arrays of objects.

    Raises:
        RefusedError: Its attributes do not fit its inputs.
    """
    if node.op_type == "Constant":
        return _constant(node, attributes)
    inputs = [values.get(name) if name else None for name in node.input]
    if node.op_type == "Shape" and isinstance(inputs[0], Activation):
        return _shape(np.array([*inputs[0].sizes], object), attributes)
    missing = any(value is None and name for value, name in zip(inputs, node.input, strict=True))
    cast = node.op_type == "CastLike" and isinstance(inputs[0], np.ndarray)
    if missing or not inputs or (not cast and any(isinstance(value, Activation) for value in inputs)):
        return None
    first = inputs[0]
    if isinstance(first, SparseConstant):
        if node.op_type == "Identity" or (node.op_type == "Transpose" and len(first.shape) == 2):
            return transposed(first) if node.op_type == "Transpose" else first
        first = first.dense()
    if node.op_type not in _FOLDS or first is None:
        return None
    arrays = [value.dense() if isinstance(value, SparseConstant) else value for value in (first, *inputs[1:])]
    try:
        with np.errstate(all="ignore"):
            made = _FOLDS[node.op_type](attributes, *arrays)
        # NumPy returns a number of images, instead of an array, where there is but one.
        return None if made is None else np.asarray(made)
    except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        msg = f"its constants do not fit: {error}"
        raise RefusedError(msg) from error


def _constant(node: NodeProto, attributes: Attributes) -> Value:
    if isinstance(attributes.get("value"), TensorProto):
        return array_of(attributes["value"])
    for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        for key in (name, f"{name}s"):
            if key in attributes:
                return np.array(attributes[key], dtype)
    msg = f"its output {node.output[0]!r} is empty"
    raise RefusedError(msg)


def _shape(sizes: Array, attributes: Attributes) -> Array:
    return sizes[slice(attributes.get("start", 0), attributes.get("end", len(sizes)))]


def _axes(attributes: Attributes, given: Array | None) -> tuple[int, ...] | None:
    stored = attributes.get("axes") if given is None else given.reshape(-1).tolist()
    return None if stored is None else tuple(int(axis) for axis in stored)


def _reshape(_: Attributes, data: Array, shape: Array) -> Array:
    sizes = shape.reshape(-1).tolist()
    return data.reshape([data.shape[place] if size == 0 else size for place, size in enumerate(sizes)])


def _transpose(attributes: Attributes, data: Array) -> Array:
    return np.ascontiguousarray(np.transpose(data, attributes.get("perm")))


def _squeeze(attributes: Attributes, data: Array, axes: Array | None = None) -> Array:
    return np.squeeze(data, _axes(attributes, axes))


def _unsqueeze(attributes: Attributes, data: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(data, _axes(attributes, axes) or ())


def _concat(attributes: Attributes, *parts: Array) -> Array:
    return np.concatenate(parts, attributes.get("axis", 0))


def _slice(_: Attributes, data: Array, starts: Array, ends: Array, *rest: Array | None) -> Array:
    given = [None if part is None else part.reshape(-1).tolist() for part in rest]
    axes = (given[0] if given else None) or list(range(starts.size))
    steps = (given[1] if len(given) > 1 else None) or [1] * starts.size
    where = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts.reshape(-1).tolist(), ends.reshape(-1).tolist(), axes, steps, strict=True):
        where[axis] = slice(start, end, step)
    return data[tuple(where)]


def _gather(attributes: Attributes, data: Array, indices: Array) -> Array:
    return np.take(data, indices.astype(np.int64), attributes.get("axis", 0))


def _cast(attributes: Attributes, data: Array) -> Array:
    return data if data.dtype == object else data.astype(helper.tensor_dtype_to_np_dtype(attributes["to"]))


def _cast_like(_: Attributes, data: Array, like: Array | None = None) -> Array:
    # Activations are float32.
    return data.astype(np.float32 if not isinstance(like, np.ndarray) else like.dtype)


def _divide(_: Attributes, first: Array, second: Array) -> Array:
    if first.dtype != object and np.issubdtype(first.dtype, np.floating):
        return np.divide(first, second)
    return np.floor_divide(first, second)


def _expand(_: Attributes, data: Array, shape: Array) -> Array | None:
    sizes = shape.reshape(-1).tolist()
    if any(isinstance(size, Images) for size in sizes):
        return None
    return np.ascontiguousarray(np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(sizes))))


def _gather_nd(attributes: Attributes, data: Array, indices: Array) -> Array:
    if attributes.get("batch_dims"):
        msg = "gathers in batches"
        raise ValueError(msg)
    return data[tuple(np.moveaxis(indices, -1, 0))]


def _mean(attributes: Attributes, data: Array, axes: Array | None = None) -> Array:
    return np.mean(data, _axes(attributes, axes), keepdims=bool(attributes.get("keepdims", 1)))


def _batch_norm(attributes: Attributes, data: Array, gain: Array, shift: Array, mean: Array, variance: Array) -> Array:
    """A norm of weights, as in networks that standardise them."""
    form = (1, -1, *(1,) * (data.ndim - 2))
    if attributes.get("training_mode"):
        msg = "a batch norm in training mode"
        raise ValueError(msg)
    deviation = np.sqrt(variance.astype(np.float64) + attributes.get("epsilon", 1e-5)).reshape(form)
    normed = (data - mean.astype(np.float64).reshape(form)) / deviation
    return (normed * gain.reshape(form) + shift.reshape(form)).astype(np.float32)


_FOLDS: Mapping[str, Callable[..., Array | None]] = {
    "Add": lambda _, a, b: np.add(a, b),
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Concat": _concat,
    "Div": _divide,
    "Expand": _expand,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Identity": lambda _, a: a,
    "Max": lambda _, *parts: np.maximum.reduce(parts),
    "Mod": lambda _, a, b: np.mod(a, b),
    "Mul": lambda _, a, b: np.multiply(a, b),
    "Neg": lambda _, a: np.negative(a),
    "ReduceMean": _mean,
    "Reshape": _reshape,
    "Shape": lambda attributes, a: _shape(np.array(a.shape, np.int64), attributes),
    "Slice": _slice,
    "Sqrt": lambda _, a: np.sqrt(a),
    "Squeeze": _squeeze,
    "Sub": lambda _, a, b: np.subtract(a, b),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
