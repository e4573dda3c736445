"""Computes how much memory a network needs per image, before running it.

A few bytes of ONNX can request any amount of memory: a padding of a billion pixels, a shape to fill, a tensor to
repeat. Shapes are inferred from the file alone, and the elements that are alive at the same time are counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from onnx import ModelProto, TensorProto, helper, shape_inference

from tscnc_deploy.engines.onnx.file import MAX_ELEMENTS
from tscnc_deploy.engines.onnx.signature import Signature
from tscnc_deploy.errors import InputError

MAX_ALIVE = 1 << 26
"""Limit on the elements that are alive at the same time in one call; 256 MB as float32."""
# Constants that determine a shape are short; longer ones are replaced by their shape.
_SHORT = 1024
# The size of their results depends on the values of their inputs, so it is known only if those are constants.
_SIZED_BY_VALUES = {
    *("CenterCropPad", "Compress", "ConstantOfShape", "Expand", "NonZero", "OneHot", "Pad", "Range", "Reshape"),
    *("Resize", "Slice", "Tile", "Unique", "Upsample", "MaxUnpool", "Col2Im", "BlackmanWindow", "HammingWindow"),
    *("HannWindow", "DFT", "STFT", "MelWeightMatrix", "AffineGrid", "RandomNormal", "RandomUniform", "Multinomial"),
    *("SplitToSequence", "StringSplit", "ImageDecoder"),
}


def largest_batch(model: ModelProto, signature: Signature, path: Path) -> int:
    """The largest number of images for which at most `MAX_ALIVE` elements are alive at the same time.

    Args:
        model: A model that `onnx.file` has read.
        signature: Its input and output.
        path: Its file, for messages.

    Raises:
        InputError: Not even one image fits (or the fixed batch of the file does not fit into `MAX_ELEMENTS`), or the
            size of a result cannot be determined without running the model.
    """
    sizes = dict(_sizes(model, signature, path))
    for node in model.graph.node:
        if node.op_type in _SIZED_BY_VALUES and any(name and name not in sizes for name in node.output):
            msg = f"{path}: node {node.name!r} ({node.op_type}): its size cannot be known before running it"
            raise InputError(msg)
    alive = max(_alive(model, sizes), default=0)
    limit = MAX_ALIVE if signature.batch is None else MAX_ELEMENTS
    if alive > limit:
        images = "one image" if signature.batch is None else f"its {signature.batch} images"
        msg = f"{path}: needs {alive} elements in memory for {images}; at most {limit} are allowed"
        raise InputError(msg)
    return signature.batch or limit // max(alive, 1)


def _sizes(model: ModelProto, signature: Signature, path: Path) -> Iterator[tuple[str, int]]:
    """Number of elements of every computed value whose shape is known."""
    try:
        inferred = shape_inference.infer_shapes(outline(model, signature), data_prop=True)
    except Exception as error:  # it raises many unrelated types, including C++ errors
        msg = f"{path}: shape inference failed: {' '.join(str(error).split())}"
        raise InputError(msg) from error
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            yield value.name, math.prod(max(dim.dim_value, 0) for dim in tensor.shape.dim)


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


def _alive(model: ModelProto, sizes: dict[str, int]) -> Iterator[int]:
    """Number of elements that are alive while each node runs, in file order."""
    last = {name: place for place, node in enumerate(model.graph.node) for name in (*node.output, *node.input)}
    alive = 0
    for place, node in enumerate(model.graph.node):
        alive += sum(sizes.get(name, 0) for name in node.output)
        yield alive
        ending = {name for name in (*node.input, *node.output) if last[name] == place}
        alive -= sum(sizes.get(name, 0) for name in ending)
