"""Computes how much memory a network needs per image, before running it.

A few bytes of ONNX can request any amount of memory: a padding of a billion pixels, a shape to fill, a tensor to
repeat. Shapes are inferred from the file alone, and the elements that are alive at the same time are counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from onnx import ModelProto

from tscnc_deploy.engines.onnx.limits import MAX_ALIVE, MAX_ELEMENTS
from tscnc_deploy.engines.onnx.signature import Signature
from tscnc_deploy.engines.onnx.sizes import sizes_of
from tscnc_deploy.errors import InputError

# The size of their results depends on the values of their inputs, so it is known only if those are constants.
_SIZED_BY_VALUES = {
    *("CenterCropPad", "Compress", "ConstantOfShape", "Expand", "NonZero", "OneHot", "Pad", "Range", "Reshape"),
    *("Resize", "Slice", "Tile", "Unique", "Upsample", "MaxUnpool", "Col2Im", "BlackmanWindow", "HammingWindow"),
    *("HannWindow", "DFT", "STFT", "MelWeightMatrix", "AffineGrid", "RandomNormal", "RandomUniform", "Multinomial"),
    *("SplitToSequence", "StringSplit", "ImageDecoder"),
}

# Operators whose result has as many elements as their first operand.
_MOVING = frozenset({"Cast", "DequantizeLinear", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


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
    known = sizes_of(model, signature, 1)
    if not known:
        msg = f"{path}: shape inference failed, so its memory cannot be bounded"
        raise InputError(msg)
    sizes = {
        name: math.prod(size or 0 for size in known[name])
        for node in model.graph.node
        for name in node.output
        if None not in known.get(name, (None,))
    }
    for node in model.graph.node:
        if node.op_type in _SIZED_BY_VALUES and any(name and name not in sizes for name in node.output):
            msg = f"{path}: node {node.name!r} ({node.op_type}): its size cannot be known before running it"
            raise InputError(msg)
    return require_memory(model, sizes, signature, path)


def require_memory(model: ModelProto, sizes: Mapping[str, int], signature: Signature, path: Path) -> int:
    """The largest number of images, as in `largest_batch`, from the numbers of elements of all values for one batch.

    Raises:
        InputError: Not even one image fits.
    """
    moved = _moved(model)
    counted = {name: 0 if name in moved else size for name, size in sizes.items()}
    alive = max(_alive(model, counted), default=0)
    limit = MAX_ALIVE if signature.batch is None else MAX_ELEMENTS
    if alive > limit:
        images = "one image" if signature.batch is None else f"its {signature.batch} images"
        msg = f"{path}: needs {alive} elements in memory for {images}; at most {limit} are allowed"
        raise InputError(msg)
    return signature.batch or limit // max(alive, 1)


def _moved(model: ModelProto) -> set[str]:
    """What is a stored tensor in another type or shape, once for each tensor and operator.

    It has as many elements as the file holds, however large that is.
    """
    roots = {tensor.name: tensor.name for tensor in model.graph.initializer}
    moved: dict[tuple[str, str], str] = {}
    for node in model.graph.node:
        if node.op_type in _MOVING and len(node.output) == 1 and node.input[0] in roots:
            roots[node.output[0]] = roots[node.input[0]]
            moved.setdefault((roots[node.input[0]], node.op_type), node.output[0])
    return set(moved.values())


def _alive(model: ModelProto, sizes: Mapping[str, int]) -> Iterator[int]:
    """Number of elements that are alive while each node runs, in file order."""
    last = {name: place for place, node in enumerate(model.graph.node) for name in (*node.output, *node.input)}
    alive = 0
    for place, node in enumerate(model.graph.node):
        alive += sum(sizes.get(name, 0) for name in node.output)
        yield alive
        ending = {name for name in (*node.input, *node.output) if last[name] == place}
        alive -= sum(sizes.get(name, 0) for name in ending)
