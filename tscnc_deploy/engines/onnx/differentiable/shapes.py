"""The shapes of all values of a graph, found without computing any of them.

Every node is computed on torch's meta device, which has shapes and no numbers. Only numbers that determine shapes are
computed: few of them, and one by one. So the sizes that exporters compute at run time, with Shape, Gather, Concat and
Range, are known beforehand, and nothing that a file says makes this package allocate memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from onnx import ModelProto
from torch import Tensor

from tscnc_deploy.engines.onnx.differentiable.node import FEW
from tscnc_deploy.engines.onnx.differentiable.step import Step, steps_of, tensor_of
from tscnc_deploy.engines.onnx.file import array_of
from tscnc_deploy.engines.onnx.flow import computed_from
from tscnc_deploy.engines.onnx.limits import MAX_ELEMENTS
from tscnc_deploy.engines.onnx.signature import Signature
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped


def shapes_of(model: ModelProto, signature: Signature, batch: int, path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every value, initialisers included.

    Args:
        model: A model that `onnx.file` has read.
        signature: Its input and output.
        batch: Number of images, unless the file has a fixed one.
        path: Its file, for messages.

    Raises:
        InputError: An operator is not supported or its operands do not fit, a size depends on what the images show, or
            a value has more elements than an ONNX file can contain.
    """
    values: dict[str, Tensor] = {
        signature.input: torch.empty(signature.batch or batch, *signature.input_shape, device="meta")
    }
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= FEW:
            values[tensor.name] = tensor_of(array_of(tensor))
        else:
            values[tensor.name] = tensor_of(array_of(tensor).reshape(-1)[:1]).to("meta").new_empty(list(tensor.dims))
    for sparse in model.graph.sparse_initializer:
        values[sparse.values.name] = torch.empty(list(sparse.dims), device="meta")
    shapes = {name: tuple(tensor.shape) for name, tensor in values.items()}
    with torch.no_grad():
        for step in steps_of(model, computed_from(model.graph, signature.input), path):
            found = _outlined(step, values, path)
            for name, tensor in found.items():
                if tensor.numel() > MAX_ELEMENTS:
                    msg = f"{step.where(path)}: its result of the shape {list(tensor.shape)} is too large"
                    raise InputError(msg)
                shapes[name] = tuple(tensor.shape)
            values.update(found)
    return shapes


def _outlined(step: Step, values: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The results on the meta device, or with their numbers if those are few and known."""
    operands: list[Tensor | None] = []
    for place, name in enumerate(step.inputs):
        if name and name not in values:
            msg = f"{step.where(path)}: reads {escaped(name)!r} before it is computed"
            raise InputError(msg)
        given = values[name] if name else None
        if place in step.sizes and given is not None and given.is_meta and not step.only_measures:
            msg = f"{step.where(path)}: its size cannot be known before running it"
            raise InputError(msg)
        operands.append(given)
    outlines = [
        given if given is None or place in step.sizes else given.to("meta") for place, given in enumerate(operands)
    ]
    found = step.compute(outlines, path)
    known = all(given is None or not given.is_meta or step.only_measures for given in operands)
    if known and sum(tensor.numel() for tensor in found.values()) <= FEW:
        return step.compute(operands, path)
    return {name: tensor.to("meta") for name, tensor in found.items()}
