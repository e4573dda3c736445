"""The input and the output of an image classifier's ONNX file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto, TensorProto, ValueInfoProto

from tscnc_deploy.engines.onnx.limits import MAX_ELEMENTS
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped


@dataclass(frozen=True)
class Signature:
    """One float32 input [batch, C, H, W], one float32 output [batch, K].

    Attributes:
        input: Name of the input.
        output: Name of the output.
        input_shape: (C, H, W).
        classes: K.
        batch: The only batch size that the file takes; None if it takes any.
    """

    input: str
    output: str
    input_shape: tuple[int, int, int]
    classes: int
    batch: int | None


def signature_of(model: ModelProto, path: Path) -> Signature:
    """Reads the signature of a model.

    Args:
        model: A model that `onnx.file` has read.
        path: Name of its file, for messages.

    Raises:
        InputError: It has other inputs or outputs.
    """
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    images = _sizes("input", "[batch, channels, height, width]", inputs, 4, path)
    logits = _sizes("output", "[batch, classes]", graph.output, 2, path)
    channels, height, width = images[1:]
    return Signature(inputs[0].name, graph.output[0].name, (channels, height, width), logits[1], images[0] or None)


def _sizes(role: str, form: str, values: Sequence[ValueInfoProto], rank: int, path: Path) -> list[int]:
    if len(values) == 1:
        tensor = values[0].type.tensor_type
        sizes = [dim.dim_value for dim in tensor.shape.dim]  # 0 where it is dynamic
        fixed = [size for position, size in enumerate(sizes) if size or position]
        possible = all(size > 0 for size in fixed) and math.prod(fixed) <= MAX_ELEMENTS
        if tensor.elem_type == TensorProto.FLOAT and len(sizes) == rank and possible:
            return sizes
    found = ", ".join(described(value) for value in values) or "none"
    msg = f"{path}: must have one {role}, float32 {form} with only the batch size dynamic, but has {found}"
    raise InputError(msg)


def described(value: ValueInfoProto) -> str:
    """Name, type and sizes of an input or output, for messages."""
    tensor = value.type.tensor_type
    kind = "float32" if tensor.elem_type == TensorProto.FLOAT else f"of type {tensor.elem_type}"
    # A name from an untrusted file must not send control characters to the terminal.
    sizes = [escaped(dim.dim_param) or dim.dim_value or "?" for dim in tensor.shape.dim]
    return f"{value.name!a} {kind} [{', '.join(map(str, sizes))}]"
