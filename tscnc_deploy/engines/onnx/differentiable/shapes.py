"""The shapes of all values of a graph, found without computing any of them.

Every node is computed on torch's meta device, which has shapes and no numbers. Only numbers that determine shapes are
computed: few of them, and one by one. So the sizes that exporters compute at run time, with Shape, Gather, Concat and
Range, are known beforehand, and nothing that a file says makes this package allocate memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from onnx import ModelProto
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tscnc_deploy.engines.onnx.differentiable.node import UnsupportedError, tensor_of
from tscnc_deploy.engines.onnx.differentiable.step import Step, steps_of
from tscnc_deploy.engines.onnx.file import array_of
from tscnc_deploy.engines.onnx.flow import computed_from
from tscnc_deploy.engines.onnx.limits import MAX_ALIVE, MAX_ELEMENTS
from tscnc_deploy.engines.onnx.signature import Signature
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped

# So many numbers of one value are computed; they may be sizes.
_FEW = 1024


class _Outline(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses operators of torch whose results, also those inside of one node, are too large.

    Args:
        limit: Most elements of one result.

    Attributes:
        largest: The most elements of one result until now.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0
        self._limit = limit

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
        if self.largest > self._limit:
            msg = f"{self.largest} elements at once"
            raise UnsupportedError(msg)
        return found


def shapes_of(model: ModelProto, signature: Signature, batch: int, path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every value, initialisers included; see `outlines_of`."""
    return {name: tuple(tensor.shape) for name, tensor in outlines_of(model, signature, batch, path).items()}


def outlines_of(model: ModelProto, signature: Signature, batch: int, path: Path) -> dict[str, Tensor]:
    """Every value, initialisers included, as a tensor of its shape and dtype; few have their numbers.

    Args:
        model: A model that `onnx.file` has read.
        signature: Its input and output.
        batch: Number of images, unless the file has a fixed one.
        path: Its file, for messages.

    Raises:
        InputError: An operator is not supported or its operands do not fit, a size depends on what the images show, or
            a value has too many elements.
    """
    values: dict[str, Tensor] = {
        signature.input: torch.empty(signature.batch or batch, *signature.input_shape, device="meta")
    }
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _FEW:
            values[tensor.name] = tensor_of(array_of(tensor))
        else:
            values[tensor.name] = tensor_of(array_of(tensor).reshape(-1)[:1]).to("meta").new_empty(list(tensor.dims))
    for sparse in model.graph.sparse_initializer:
        values[sparse.values.name] = torch.empty(list(sparse.dims), device="meta")
    # What the file holds may also be transposed.
    stored = max((tensor.numel() for name, tensor in values.items() if name != signature.input), default=0)
    limit = MAX_ELEMENTS if signature.batch else max(MAX_ALIVE * batch, stored)
    alike: dict[object, list[Tensor]] = {}
    with torch.no_grad():
        for step in steps_of(model, computed_from(model.graph, signature.input), path):
            values.update(_outlined(step, values, alike, path, limit))
    return values


def _outlined(
    step: Step, values: Mapping[str, Tensor], alike: dict[object, list[Tensor]], path: Path, limit: int
) -> dict[str, Tensor]:
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
    known = all(given is None or not given.is_meta or step.only_measures for given in operands)
    # Long chains are of nodes that are alike, and the meta device takes a millisecond for some operators.
    key = None if known else (step.node.op, repr(step.node.attributes), step.node.outputs, *map(_described, operands))
    if key is not None and key in alike:
        return {name: tensor for name, tensor in zip(step.outputs, alike[key], strict=False) if name}
    outlines = [
        given if given is None or place in step.sizes else given.to("meta") for place, given in enumerate(operands)
    ]
    with torch.device("meta"), _Outline(limit) as outline:
        found = {name: tensor.to("meta") for name, tensor in step.compute(outlines, path).items()}
    if known and outline.largest <= _FEW:
        return step.compute(operands, path)
    if key is not None and all(step.outputs):
        alike[key] = list(found.values())
    return found


def _described(operand: Tensor | None) -> object:
    """What of an operand determines the shapes of the results."""
    if operand is None:
        return None
    numbers = () if operand.is_meta else tuple(operand.reshape(-1).tolist())
    return operand.dtype, tuple(operand.shape), numbers
