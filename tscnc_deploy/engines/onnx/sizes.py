"""The sizes of all values of an ONNX graph, found from the file alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from onnx import ModelProto, TensorProto, helper, shape_inference

from tscnc_deploy.engines.onnx.signature import Signature
from tscnc_deploy.errors import InputError

Dims = tuple[int | None, ...]
"""The size of each axis; None where it is not known."""
# Constants that determine a shape are short; longer ones are replaced by their shape.
_SHORT = 1024


def sizes_of(model: ModelProto, signature: Signature, batch: int) -> dict[str, Dims]:
    """The sizes of all values for one batch size, as far as they can be known.

    Where ONNX's shape inference does not know them all, the nodes are followed one by one, see
    `differentiable.shapes`; that takes torch, which few files need.

    Args:
        model: A model that `onnx.file` has read.
        signature: Its input and output.
        batch: Number of images, unless the file has a fixed one.
    """
    try:
        graph = shape_inference.infer_shapes(outline(model, signature, batch), data_prop=True).graph
    except Exception:  # it raises many unrelated types, including C++ errors
        return {}
    found: dict[str, Dims] = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            found[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    if all(None not in found.get(name, (None,)) for node in model.graph.node for name in node.output if name):
        return found
    return {**found, **followed(model, signature, batch)}


def followed(model: ModelProto, signature: Signature, batch: int) -> Mapping[str, tuple[int, ...]]:
    """The sizes of all values for one batch size, if all operators are known; none otherwise.

    Args:
        model: A model that `onnx.file` has read.
        signature: Its input and output.
        batch: Number of images, unless the file has a fixed one.
    """
    from tscnc_deploy.engines.onnx.differentiable.shapes import shapes_of

    try:
        return shapes_of(model, signature, batch, Path())
    except InputError:
        return {}


def numbers_of(model: ModelProto, signature: Signature, batch: int) -> Mapping[str, list[float]]:
    """The few numbers that a graph stores or computes from sizes and constants, such as the bounds of a padding.

    Args:
        model: A model that `onnx.file` has read.
        signature: Its input and output.
        batch: Number of images, unless the file has a fixed one.
    """
    from tscnc_deploy.engines.onnx.differentiable.shapes import outlines_of

    try:
        values = outlines_of(model, signature, batch, Path())
    except InputError:
        return {}
    return {name: value.reshape(-1).tolist() for name, value in values.items() if not value.is_meta}


def outline(model: ModelProto, signature: Signature, batch: int = 1) -> ModelProto:
    """The graph for one batch, without the shapes that the file declares, with long constants replaced by shapes.

    Args:
        model: A model that `onnx.file` has read.
        signature: Its input and output.
        batch: Number of images, unless the file has a fixed one.
    """
    result = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = result.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    shape = [signature.batch or batch, *signature.input_shape]
    graph.input.append(helper.make_tensor_value_info(signature.input, TensorProto.FLOAT, shape))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SHORT:
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    for sparse in model.graph.sparse_initializer:
        graph.input.append(helper.make_tensor_value_info(sparse.values.name, TensorProto.FLOAT, list(sparse.dims)))
    graph.output.append(helper.make_empty_tensor_value_info(signature.output))
    return result
