"""The ONNX operators that compute every element from one element of each input."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto

from tscnc_deploy.engines.sparse_cpu.broadcast import scaled, with_activation, with_constant
from tscnc_deploy.engines.sparse_cpu.builder import Builder
from tscnc_deploy.engines.sparse_cpu.network import Combine, Function
from tscnc_deploy.engines.sparse_cpu.values import Activation, RefusedError, Value

Attributes = Mapping[str, Any]

_COMBINES = {
    "Add": Combine.ADD,
    "Sub": Combine.SUBTRACT,
    "Mul": Combine.MULTIPLY,
    "Div": Combine.DIVIDE,
    "Max": Combine.LARGEST,
    "Min": Combine.SMALLEST,
    "Sum": Combine.ADD,
}


def arithmetic(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    """Add, Sub, Mul, Div, Max, Min or Sum of two operands, at least one of them an activation."""
    if len(node.input) != 2:
        msg = f"it has {len(node.input)} inputs"
        raise RefusedError(msg)
    combine = _COMBINES[node.op_type]
    computed = [isinstance(builder.values.get(name), Activation) for name in node.input]
    if all(computed):
        return with_activation(builder, node, combine, builder.activation(node, 0), builder.activation(node, 1))
    position = 0 if computed[0] else 1
    builder.activation(node, position)
    constant = builder.required(node, 1 - position)
    if constant.dtype != np.float32:
        msg = f"its constant is stored as {constant.dtype}, not as float32"
        raise RefusedError(msg)
    return with_constant(builder, node, position, combine, constant)


def batch_norm(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """BatchNormalization as inference computes it."""
    if attributes.get("training_mode"):
        msg = "it is in training mode"
        raise RefusedError(msg)
    sizes = builder.activation(node).sizes
    gain, shift, mean, variance = (builder.required(node, i).astype(np.float64) for i in range(1, 5))
    if len(sizes) < 2 or any(part.shape != (sizes[1],) for part in (gain, shift, mean, variance)):
        msg = f"it does not have the channels of {builder.activation(node).shown}"
        raise RefusedError(msg)
    with np.errstate(all="ignore"):
        scale = gain / np.sqrt(variance + attributes.get("epsilon", 1e-5))
        return scaled(builder, node, scale, shift - mean * scale)


def relu(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    """Relu, as a clamp."""
    return builder.clamp(node, 0.0, math.inf)


def clip(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Clip to two constants."""
    bounds = []
    for position, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        stored = builder.stored(node, position)
        if stored is not None and stored.size != 1:
            msg = f"its bound {name} is not one number"
            raise RefusedError(msg)
        bounds.append(float(attributes.get(name, default)) if stored is None else float(stored.reshape(())))
    return builder.clamp(node, *bounds)


def _plain(function: Function, builder: Builder, node: NodeProto, _: Attributes) -> Value:
    return builder.function(node, function)


def gelu(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Gelu by the error function, or approximated by tanh."""
    approximate = bytes(attributes.get("approximate", b"none")).decode("ascii", "replace")
    known = {"none": Function.GELU, "tanh": Function.GELU_TANH}
    if approximate not in known:
        msg = f"its approximation is {approximate!r}"
        raise RefusedError(msg)
    return builder.function(node, known[approximate])


def hard_sigmoid(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """max(0, min(1, alpha * x + beta))."""
    return builder.function(node, Function.HARD_SIGMOID, attributes.get("alpha", 0.2), attributes.get("beta", 0.5))


def hard_swish(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """x * max(0, min(1, alpha * x + beta)), with the alpha and beta of ONNX's HardSwish by default."""
    return builder.function(node, Function.HARD_SWISH, attributes.get("alpha", 1 / 6), attributes.get("beta", 0.5))


def swish(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """x * sigmoid(alpha * x)."""
    if attributes.get("alpha", 1.0) != 1:
        msg = f"its alpha is {attributes['alpha']:g}, not 1"
        raise RefusedError(msg)
    return builder.function(node, Function.SILU)


def leaky_relu(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """x, or alpha * x where x is negative."""
    return builder.function(node, Function.LEAKY_RELU, attributes.get("alpha", 0.01))


def elu(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """x, or alpha * (exp(x) - 1) where x is negative."""
    return builder.function(node, Function.ELU, attributes.get("alpha", 1.0))


def prelu(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    """PRelu, as the larger of x and slope * x; slopes above 1 would need the smaller one."""
    slope = builder.required(node, 1)
    if slope.dtype != np.float32 or not (slope <= 1).all():
        msg = "one of its slopes is above 1"
        raise RefusedError(msg)
    source = builder.activation(node)
    sloped = with_constant(builder, node, 0, Combine.MULTIPLY, slope, source, fold=False)
    return with_activation(builder, node, Combine.LARGEST, source, sloped)


def power(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    """Pow with one of the exponents 0.5, 1, 2 and 3."""
    exponent = builder.required(node, 1)
    source = builder.activation(node)
    known = float(exponent.reshape(-1)[0]) if exponent.size == 1 else math.nan
    if known == 0.5:
        return builder.function(node, Function.SQRT)
    if known == 1:
        return source
    if known in (2, 3):
        result = with_activation(builder, node, Combine.MULTIPLY, source, source)
        return result if known == 2 else with_activation(builder, node, Combine.MULTIPLY, result, source)
    msg = f"its exponent is {known:g}, not 0.5, 1, 2 or 3"
    raise RefusedError(msg)


def negative(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    """-x."""
    return with_constant(builder, node, 0, Combine.MULTIPLY, np.array(-1, np.float32))


def reciprocal(builder: Builder, node: NodeProto, _: Attributes) -> Value:
    """1 / x."""
    return with_constant(builder, node, 1, Combine.DIVIDE, np.array(1, np.float32), builder.activation(node))


def cast(builder: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Cast of float32 activations to float32."""
    if attributes.get("to", TensorProto.FLOAT) != TensorProto.FLOAT:
        msg = f"it casts to the type {attributes['to']}, not to float32"
        raise RefusedError(msg)
    return builder.activation(node)


OPERATORS: dict[str, Callable[[Builder, NodeProto, Attributes], Value]] = {
    "Abs": partial(_plain, Function.ABS),
    "Add": arithmetic,
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "CastLike": cast,
    "Clip": clip,
    "Div": arithmetic,
    "Elu": elu,
    "Erf": partial(_plain, Function.ERF),
    "Exp": partial(_plain, Function.EXP),
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "LeakyRelu": leaky_relu,
    "Max": arithmetic,
    "Min": arithmetic,
    "Mish": partial(_plain, Function.MISH),
    "Mul": arithmetic,
    "Neg": negative,
    "PRelu": prelu,
    "Pow": power,
    "Reciprocal": reciprocal,
    "Relu": relu,
    "Sigmoid": partial(_plain, Function.SIGMOID),
    "Softplus": partial(_plain, Function.SOFTPLUS),
    "Sqrt": partial(_plain, Function.SQRT),
    "Sub": arithmetic,
    "Sum": arithmetic,
    "Swish": swish,
    "Tanh": partial(_plain, Function.TANH),
}
