"""The nodes of a graph, each with its operator and with what it reads and writes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, helper
from torch import Tensor

from tscnc_deploy.engines.onnx.differentiable.node import Node, Operator, UnsupportedError
from tscnc_deploy.engines.onnx.differentiable.operators import OPERATORS
from tscnc_deploy.engines.onnx.flow import shape_operands
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped

_STANDARD = ("", "ai.onnx")
# Operands of which the numbers are read, besides those of `shape_operands`.
_READ = {"Dropout": frozenset({1, 2}), "Pad": frozenset({1, 2, 3}), "Range": frozenset({0, 1, 2})}
# What torch and numpy raise for operands that do not fit.
_MISFITS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class Step:
    """One node.

    Attributes:
        node: Its operator and attributes.
        operator: The function that computes it.
        inputs: Names of what it reads; empty where an optional input is absent.
        outputs: Names of what it writes; empty where nothing reads it.
        sizes: Positions of the inputs that are sizes, bounds or axes, whose numbers are read.
        on_images: Whether it computes with what the images show.
        ends: Names that no later node reads.
    """

    node: Node
    operator: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sizes: frozenset[int]
    on_images: bool
    ends: tuple[str, ...] = ()

    @property
    def only_measures(self) -> bool:
        """Whether it reads the size of its input, and nothing else."""
        return self.node.op in ("Shape", "Size")

    def where(self, path: Path) -> str:
        """The file and the node, for messages."""
        return f"{path}: node {escaped(self.node.name)!r} ({escaped(self.node.op)})"

    def compute(self, operands: Sequence[Tensor | None], path: Path) -> dict[str, Tensor]:
        """The outputs by name.

        Raises:
            InputError: The operator does not support its attributes or operands, or the operands do not fit.
        """
        try:
            found = self.operator(self.node, *operands)
        except UnsupportedError as error:
            msg = f"{self.where(path)}: {error} is not supported"
            raise InputError(msg) from error
        except _MISFITS as error:
            msg = f"{self.where(path)}: {' '.join(str(error).split()) or type(error).__name__}"
            raise InputError(msg) from error
        results = [found] if isinstance(found, Tensor) else list(found)
        return {name: tensor for name, tensor in zip(self.outputs, results, strict=False) if name}


def steps_of(model: ModelProto, on_images: Collection[str], path: Path) -> Iterator[Step]:
    """The nodes of a model in order.

    Args:
        model: A model that `onnx.file` has read.
        on_images: Names of the values that are computed from what the images show, see `flow.computed_from`.
        path: Its file, for messages.

    Raises:
        InputError: An operator is not supported, or a size depends on what the images show.
    """
    opset = max((entry.version for entry in model.opset_import if entry.domain in _STANDARD), default=0)
    for node in model.graph.node:
        op = node.op_type if node.domain in _STANDARD else f"{node.domain}.{node.op_type}"
        used = max((place + 1 for place, name in enumerate(node.output) if name), default=0)
        ours = Node(op, node.name, opset, {each.name: _attribute(each) for each in node.attribute}, used)
        if op not in OPERATORS:
            msg = f"{path}: node {escaped(node.name)!r} ({escaped(op)}): gradients of this operator are not supported"
            raise InputError(msg)
        sizes = shape_operands(node) | _READ.get(op, frozenset())
        known = any(name in on_images for name in node.output)
        step = Step(ours, OPERATORS[op], tuple(node.input), tuple(node.output), sizes, known)
        read = [step.inputs[place] for place in sorted(sizes) if place < len(step.inputs)]
        if not step.only_measures and (shown := [name for name in read if name in on_images]):
            msg = f"{step.where(path)}: the size {escaped(shown[0])!r} depends on what the images show"
            raise InputError(msg)
        yield step


def tensor_of(array: NDArray[Any]) -> Tensor:
    """Numbers as torch computes with them: every float in float32, unsigned integers in wider signed ones."""
    if array.dtype.kind not in "biu":  # floats, also those that numpy does not know, such as bfloat16
        return torch.from_numpy(array.astype(np.float32))
    wider: dict[Any, Any] = {
        np.dtype(np.uint16): np.int32,
        np.dtype(np.uint32): np.int64,
        np.dtype(np.uint64): np.int64,
    }
    return torch.from_numpy(array.astype(wider.get(array.dtype, array.dtype)))


def _attribute(attribute: AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    return value.decode(errors="replace") if isinstance(value, bytes) else value
