"""Which values of an ONNX graph are computed from the images, and which operands only give sizes and axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from onnx import GraphProto, NodeProto, helper

_AXES = frozenset({1})
# Operands that say how large a result is, or along which axis an operator works: what they hold is not computed with.
_SHAPE_OPERANDS: Mapping[str, frozenset[int]] = {
    "CenterCropPad": _AXES,
    "Col2Im": frozenset({1, 2}),
    "ConstantOfShape": frozenset({0}),
    "CumSum": _AXES,
    "Expand": _AXES,
    "OneHot": _AXES,
    "Pad": frozenset({1, 3}),
    "Reshape": _AXES,
    "Resize": frozenset({1, 2, 3}),
    "Shape": frozenset({0}),
    "Size": frozenset({0}),
    "Slice": frozenset({1, 2, 3, 4}),
    "Split": _AXES,
    "Squeeze": _AXES,
    "Tile": _AXES,
    "TopK": _AXES,
    "Trilu": _AXES,
    "Unsqueeze": _AXES,
    "Upsample": _AXES,
}


def shape_operands(node: NodeProto) -> frozenset[int]:
    """Positions of the operands of a node that only give sizes, bounds and axes."""
    if node.op_type.startswith("Reduce"):
        return _AXES
    return _SHAPE_OPERANDS.get(node.op_type, frozenset())


def data_operands(node: NodeProto) -> Iterator[tuple[int, str]]:
    """Positions and names of the operands that a node computes with."""
    shapes = shape_operands(node)
    return ((place, name) for place, name in enumerate(node.input) if name and place not in shapes)


def computed_from(graph: GraphProto, source: str) -> set[str]:
    """Names of the values that are computed from a value, itself included; sizes of a value do not count."""
    found = {source}
    for node in graph.node:
        if any(name in found for _, name in data_operands(node)):
            found.update(name for name in node.output if name)
    return found


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The values of a node's attributes by name; those of an unknown type are left out."""
    found = {}
    for attribute in node.attribute:
        with suppress(ValueError):
            found[attribute.name] = helper.get_attribute_value(attribute)
    return found
