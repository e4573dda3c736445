"""How much memory a network needs for an image, known before it is run.

A few bytes of ONNX can ask for any amount: a padding of a billion pixels, a shape to be filled, a tensor to be
repeated. Shapes are inferred from the file alone, and what is alive at once is counted.
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
"""Numbers that may be alive at once in one call; 256 MB as float32."""
# What decides a shape is short; longer constants are replaced by their shape alone.
_SHORT = 1024
# Their results are as large as the values of their inputs say, so nothing is known of them unless those are constants.
_SIZED_BY_VALUES = {
    *("CenterCropPad", "Compress", "ConstantOfShape", "Expand", "NonZero", "OneHot", "Pad", "Range", "Reshape"),
    *("Resize", "Slice", "Tile", "Unique", "Upsample", "MaxUnpool", "Col2Im", "BlackmanWindow", "HammingWindow"),
    *("HannWindow", "DFT", "STFT", "MelWeightMatrix", "AffineGrid", "RandomNormal", "RandomUniform", "Multinomial"),
    *("SplitToSequence", "StringSplit", "ImageDecoder"),
}


def largest_batch(model: ModelProto, signature: Signature, path: Path) -> int:
    """The largest number of images for which at most `MAX_ALIVE` numbers are alive at once.

    Args:
        model: What `onnx_file` has read.
        signature: Its input and output.
        path: Its file, for messages.

    Raises:
        InputError: Not even one image fits (or the fixed batch of the file does not fit into `MAX_ELEMENTS`), or a
            result is of a size that only running it would tell.
    """
    sizes = dict(_sizes(model, signature, path))
    for node in model.graph.node:
        if node.op_type in _SIZED_BY_VALUES and any(name and name not in sizes for name in node.output):
            msg = f"{path}: node {node.name!r} ({node.op_type}): its size cannot be known before it is run"
            raise InputError(msg)
    alive = max(_alive(model, sizes), default=0)
    limit = MAX_ALIVE if signature.batch is None else MAX_ELEMENTS
    if alive > limit:
        images = "one image" if signature.batch is None else f"its {signature.batch} images"
        msg = f"{path}: needs {alive} numbers at once for {images}; at most {limit} are allowed"
        raise InputError(msg)
    return signature.batch or limit // max(alive, 1)


def _sizes(model: ModelProto, signature: Signature, path: Path) -> Iterator[tuple[str, int]]:
    """Number of elements of every computed value whose shape is known."""
    try:
        inferred = shape_inference.infer_shapes(_outline(model, signature), data_prop=True)
    except Exception as error:  # errors of many families, those of its C++ part among them
        msg = f"{path}: the shapes of its results cannot be inferred: {' '.join(str(error).split())}"
        raise InputError(msg) from error
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            yield value.name, math.prod(max(dim.dim_value, 0) for dim in tensor.shape.dim)


def _outline(model: ModelProto, signature: Signature) -> ModelProto:
    """The graph for one batch, without what the file claims of shapes, and with long constants by their shape alone."""
    outline = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = outline.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    shape = [signature.batch or 1, *signature.input_shape]
    graph.input.append(helper.make_tensor_value_info(signature.input, TensorProto.FLOAT, shape))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SHORT:
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    for sparse in model.graph.sparse_initializer:
        graph.input.append(helper.make_tensor_value_info(sparse.values.name, TensorProto.FLOAT, list(sparse.dims)))
    graph.output.append(helper.make_empty_tensor_value_info(signature.output))
    return outline


def _alive(model: ModelProto, sizes: dict[str, int]) -> Iterator[int]:
    """How many elements are alive while each node runs, in the order of the file."""
    last = {name: place for place, node in enumerate(model.graph.node) for name in (*node.output, *node.input)}
    alive = 0
    for place, node in enumerate(model.graph.node):
        alive += sum(sizes.get(name, 0) for name in node.output)
        yield alive
        ending = {name for name in (*node.input, *node.output) if last[name] == place}
        alive -= sum(sizes.get(name, 0) for name in ending)
