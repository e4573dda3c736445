"""Makes a traced graph plain: constants are stored, sizes are numbers, and weights keep their names.

The result depends on the batch size in as few places as possible, because every engine, and the differentiable reader,
supports fixed sizes and only some support sizes that are computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tscnc_deploy.engines.onnx.differentiable.shapes import shapes_of
from tscnc_deploy.engines.onnx.differentiable.step import steps_of, tensor_of
from tscnc_deploy.engines.onnx.file import array_of
from tscnc_deploy.engines.onnx.flow import computed_from
from tscnc_deploy.engines.onnx.signature import Signature
from tscnc_deploy.errors import InputError

if TYPE_CHECKING:
    import onnx_ir
    from torch import nn

# Elements of a result that is stored; repetitions of a small constant would make a large file.
_LARGEST = 1 << 22
# Two batch sizes, by which sizes that depend on the batch are told from others.
_BATCHES = (2, 3)


def weight_names(model: nn.Module, traced: onnx_ir.Model) -> dict[str, str]:
    """The names that a traced graph's constants get once it is folded, by those that it gives them.

    Linear layers on tokens are traced with a weight that is transposed first, which folding makes a constant of its
    own; of a weight that several layers share, tracing takes the last name, and this package the first.
    """
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first.setdefault(id(parameter), name)
    names = {name: first[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    for node in traced.graph:
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is not None and weight.is_initializer():
            names[str(node.outputs[0].name)] = names.get(str(weight.name), str(weight.name))
    return names


def name_weights(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Gives constants the names of the weights that they are; a weight that is stored both ways keeps both names.

    Args:
        graph: Changed in place.
        names: See `weight_names`.
    """
    read = {name for node in graph.node for name in node.input}
    wanted: dict[str, list[TensorProto]] = {}
    for tensor in graph.initializer:
        if tensor.name in read:
            wanted.setdefault(names.get(tensor.name, tensor.name), []).append(tensor)
    renamed: dict[str, str] = {}
    for name, tensors in wanted.items():
        alike = all(tensor.dims == tensors[0].dims and tensor.raw_data == tensors[0].raw_data for tensor in tensors)
        renamed |= {tensor.name: name for tensor in tensors} if alike else {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    kept = {renamed.get(tensor.name, tensor.name): tensor for tensor in graph.initializer}
    stored = []
    for name, tensor in kept.items():
        stored.append(TensorProto())
        stored[-1].CopyFrom(tensor)
        stored[-1].name = name
    del graph.initializer[:]
    graph.initializer.extend(stored)


def store_constants(graph: GraphProto) -> None:
    """Turns every constant into an initializer, where the code that rewrites types expects it."""
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        tensor = _value_of(node)
        if tensor is not None:
            graph.initializer.append(tensor)
            graph.initializer[-1].name = node.output[0]
            graph.node.remove(node)


def store_computed(model: ModelProto, source: str) -> None:
    """Turns what is computed from constants alone, such as a table of positions, into initializers.

    The exporter's own folding leaves large ones, and operators that it does not know.

    Args:
        model: Changed in place; its constants are initializers.
        source: Name of the images.
    """
    graph, path = model.graph, Path("the traced graph")
    kept = used_nodes(graph)
    del graph.node[:]
    graph.node.extend(kept)
    known = {tensor.name: tensor_of(array_of(tensor)) for tensor in graph.initializer}
    try:
        steps = list(steps_of(model, computed_from(graph, source), path))
    except InputError:  # an operator that the reader does not know
        return
    for node, step in zip(list(graph.node), steps, strict=True):
        if step.on_images or any(name not in known for name in step.inputs if name):
            continue
        try:
            with torch.no_grad():
                made = step.compute([known[name] if name else None for name in step.inputs], path)
        except InputError:
            continue
        if sum(tensor.numel() for tensor in made.values()) <= _LARGEST:
            known |= made
            graph.initializer.extend(numpy_helper.from_array(value.numpy(), name) for name, value in made.items())
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
