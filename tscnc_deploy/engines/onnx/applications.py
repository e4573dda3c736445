"""Counts how often the stored weights of an ONNX graph are applied per image, which determines the MACs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from onnx import ModelProto, ValueInfoProto, helper, shape_inference

Shapes = Mapping[str, Sequence[int]]

# Constants up to this many elements may be shapes, whose values shape inference needs; others need only a type.
_SHAPE_ELEMENTS = 64


def applications(model: ModelProto, uses: Iterable[tuple[int, int, str]]) -> dict[str, int]:
    """For each stored weight, the pixels of its layer's output for one image; a linear layer has one.

    Each weight of a layer is applied once per pixel, padding included, as in `models.output_maps`. For a weight that
    several layers share, the counts of the layers are added.

    Args:
        model: A model that `onnx.file` has read.
        uses: See `structure.weight_uses`.

    Returns:
        Counts by weight name; a weight is missing if shape inference does not determine the shapes of its layers.
    """
    skeleton = _skeleton(model)
    images = [value.type.tensor_type.shape.dim for value in skeleton.graph.input[:1]]
    if not (images and images[0]):  # no input has a size
        return {}
    batch = images[0][0].dim_value
    shapes = _shapes(skeleton)
    counts: Counter[str] = Counter()
    unknown = set()
    for place, position, name in uses:
        node = model.graph.node[place]
        # A transposed convolution applies each weight to its input's pixels.
        sizes = shapes.get(node.input[0] if node.op_type == "ConvTranspose" else node.output[0])
        if sizes is None or len(sizes) < 2:
            unknown.add(name)
        elif node.op_type in ("Conv", "ConvTranspose"):
            counts[name] += math.prod(sizes[2:])
        else:
            # All axes but the one that comes from the weight: the last, or the one before it for a weight on the left.
            counts[name] += math.prod(sizes) // ((sizes[-1 if position == 1 else -2] or 1) * batch)
    return {name: count for name, count in counts.items() if name not in unknown}


def _shapes(model: ModelProto) -> Shapes:
    """Sizes of the tensors whose shapes can be inferred."""
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except (shape_inference.InferenceError, RuntimeError, ValueError):
        return {}
    found = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            found[value.name] = [dim.dim_value for dim in tensor.shape.dim]
    return found


def _skeleton(model: ModelProto) -> ModelProto:
    """The graph for one image, or its fixed batch, with weights replaced by their types."""
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    images = [_for_one_image(value) for value in graph.input if value.name not in stored]
    small = [tensor for tensor in graph.initializer if math.prod(tensor.dims) <= _SHAPE_ELEMENTS]
    large = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in graph.initializer
        if math.prod(tensor.dims) > _SHAPE_ELEMENTS
    ]
    sparse = [
        helper.make_tensor_value_info(tensor.values.name, tensor.values.data_type, tensor.dims)
        for tensor in graph.sparse_initializer
    ]
    # The outputs that the file declares may have another batch size.
    outputs = [
        helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, None) for value in graph.output
    ]
    light = helper.make_graph(graph.node, "shapes", [*images, *large, *sparse], outputs, initializer=small)
    return helper.make_model(light, ir_version=model.ir_version, opset_imports=model.opset_import)


def _for_one_image(value: ValueInfoProto) -> ValueInfoProto:
    tensor = value.type.tensor_type
    sizes = [dim.dim_value for dim in tensor.shape.dim]
    one = [(size or None) if place else (size or 1) for place, size in enumerate(sizes)]
    return helper.make_tensor_value_info(value.name, tensor.elem_type, one)
