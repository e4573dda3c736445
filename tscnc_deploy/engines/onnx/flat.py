"""Operators between images and logits whose gradient is zero or does not exist, so that no attack can follow it.

Rounding, comparisons and choices by value turn what they compute from into steps. A network that was trained by its
gradient in float32 has none of them. A rectifier, a clip or a maximum is flat only in part and does not count, nor does
a choice that does not depend on what the images show.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from onnx import ModelProto, NodeProto, TensorProto

from tscnc_deploy.engines.onnx.flow import attributes_of, computed_from, data_operands
from tscnc_deploy.engines.onnx.signature import signature_of

FLAT = {
    *("And", "ArgMax", "ArgMin", "Ceil", "ConvInteger", "DynamicQuantizeLinear", "Equal", "Floor", "Greater"),
    *("GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "MatMulInteger", "Mod", "NonZero", "Not", "OneHot"),
    *("Or", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "Round", "Shrink", "Sign", "ThresholdedRelu", "TopK"),
    "Xor",
}
"""Whatever they compute from. Of the operators that `differentiable` reads; others are refused."""
CHOOSING = {"Gather": 1, "GatherElements": 1, "GatherND": 1, "ScatterElements": 1, "ScatterND": 1, "Where": 0}
"""Operators that are flat in one operand, by its position: it chooses among the others."""
CASTS = {"Cast", "CastLike"}
"""Flat, but to float32 or float64."""
_PRECISE = (TensorProto.FLOAT, TensorProto.DOUBLE)


def flat_nodes(model: ModelProto, path: Path) -> Iterator[NodeProto]:
    """The nodes through which logits depend on images without a gradient.

    Args:
        model: A float32 model that `onnx.file` has read, its nodes in the order in which they compute.
        path: Its file, for messages.

    Raises:
        InputError: See `signature_of`.
    """
    graph, signature = model.graph, signature_of(model, path)
    shown, needed = computed_from(graph, signature.input), {signature.output}
    found = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            operands = dict(data_operands(node))
            if _is_flat(node, {place for place, name in operands.items() if name in shown}):
                found.append(node)
            needed.update(operands.values())
    return reversed(found)


def _is_flat(node: NodeProto, on_images: set[int]) -> bool:
    """Whether a node hides the gradient of an operand at one of these positions."""
    if not on_images:
        return False
    if node.op_type in CASTS:
        return attributes_of(node).get("to") not in _PRECISE
    return node.op_type in FLAT or CHOOSING.get(node.op_type) in on_images
