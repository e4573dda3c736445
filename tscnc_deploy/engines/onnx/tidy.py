"""Makes a traced graph plain: constants are stored, sizes are numbers, and weights keep their names.

The result depends on the batch size in as few places as possible, because every engine, and the differentiable reader,
supports fixed sizes and only some support sizes that are computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tscnc_deploy.engines.onnx.differentiable.shapes import shapes_of
from tscnc_deploy.engines.onnx.signature import Signature
from tscnc_deploy.errors import InputError

if TYPE_CHECKING:
    import onnx_ir

# Two batch sizes, by which sizes that depend on the batch are told from others.
_BATCHES = (2, 3)


def transposed_weights(model: onnx_ir.Model) -> dict[str, str]:
    """The stored weights that a graph transposes, by the name of the result: how linear layers on tokens are traced."""
    return {
        str(node.outputs[0].name): str(node.inputs[0].name)
        for node in model.graph
        if node.op_type == "Transpose" and node.inputs[0] is not None and node.inputs[0].is_initializer()
    }


def name_weights(graph: GraphProto, transposed: Mapping[str, str]) -> None:
    """Gives transposed weights that were stored as such, [in, out], the names of the weights.

    Args:
        graph: Changed in place.
        transposed: See `transposed_weights`.
    """
    read = Counter(name for node in graph.node for name in node.input)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    names = {made: weight for made, weight in transposed.items() if made in stored and not read[weight]}
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
    replaced = {names.get(name, name): tensor for name, tensor in stored.items() if name not in names.values()}
    tensors = []
    for name, tensor in replaced.items():
        tensors.append(TensorProto())
        tensors[-1].CopyFrom(tensor)
        tensors[-1].name = name
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def store_constants(graph: GraphProto) -> None:
    """Turns every constant into an initializer, where the code that rewrites types expects it."""
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        tensor = _value_of(node)
        if tensor is not None:
            graph.initializer.append(tensor)
            graph.initializer[-1].name = node.output[0]
            graph.node.remove(node)


def fix_sizes(model: ModelProto, signature: Signature) -> None:
    """Replaces sizes that are computed by numbers where only the batch size of the result varies.

    A graph with an operator that the differentiable reader lacks keeps its sizes.
    """
    try:
        few, more = (shapes_of(model, signature, batch, Path("the traced graph")) for batch in _BATCHES)
    except InputError:
        return
    stored = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        first, second = few.get(node.output[0]), more.get(node.output[0])
        if node.op_type != "Reshape" or first is None or second is None or node.input[1] in stored or 0 in first:
            continue
        varying = [place for place, size in enumerate(first) if size != second[place]]
        if len(varying) > 1:
            continue
        shape = [-1 if place in varying else size for place, size in enumerate(first)]
        name = f"{node.output[0]}_shape"
        model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
        node.input[1] = name


def drop_casts(graph: GraphProto) -> None:
    """Removes conversions of float32 constants to the dtype of float32 activations."""
    single = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    names = {node.output[0]: node.input[0] for node in graph.node if _converts_nothing(node, single)}
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)


def used_nodes(graph: GraphProto) -> list[NodeProto]:
    """The nodes that the outputs depend on, in order."""
    used = {output.name for output in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if used.intersection(node.output):
            used.update(node.input)
            nodes.append(node)
    return nodes[::-1]


def _converts_nothing(node: NodeProto, single: Iterable[str]) -> bool:
    # A model in float32 has no activations of another floating-point type.
    return node.op_type == "CastLike" and node.input[0] in single


def _value_of(node: NodeProto) -> TensorProto | None:
    (attribute,) = node.attribute
    value = helper.get_attribute_value(attribute)
    match attribute.name:
        case "value":
            return TensorProto.FromString(value.SerializeToString())
        case "value_int" | "value_ints":
            return numpy_helper.from_array(np.array(value, np.int64))
        case "value_float" | "value_floats":
            return numpy_helper.from_array(np.array(value, np.float32))
    return None
