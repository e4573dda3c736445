"""How often the stored weights of an ONNX graph are applied to one image: what their multiply-adds follow from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from onnx import ModelProto, ValueInfoProto, helper, shape_inference

Shapes = Mapping[str, Sequence[int]]

# Constants up to this many elements may be shapes, which shape inference has to see; of others the type is enough.
_SHAPE_ELEMENTS = 64


def applications(model: ModelProto, uses: Iterable[tuple[int, int, str]]) -> dict[str, int]:
    """For each stored weight, the pixels of its layer's output for one image; a linear layer has one.

    Each weight of a layer is applied once to each of them, padding included, as `models.output_maps` counts. What
    several layers share is applied by all of them.

    Args:
        model: What `onnx_file` has read.
        uses: See `structure.weight_uses`.

    Returns:
        Counts by the weight's name; a weight is missing if the shapes of its layers do not follow from the graph.
    """
    skeleton = _skeleton(model)
    images = [value.type.tensor_type.shape.dim for value in skeleton.graph.input[:1]]
    if not (images and images[0]):  # it takes nothing that has a size
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
            # All axes but the one that the weight brings: the last, or the one before it for a weight on the left.
            counts[name] += math.prod(sizes) // ((sizes[-1 if position == 1 else -2] or 1) * batch)
    return {name: count for name, count in counts.items() if name not in unknown}


def _shapes(model: ModelProto) -> Shapes:
    """Sizes of the tensors whose sizes follow from the graph."""
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
    """The graph for one image, or its fixed batch, with the types of the weights in place of their values."""
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
    # What the file says of its outputs may name another batch.
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
