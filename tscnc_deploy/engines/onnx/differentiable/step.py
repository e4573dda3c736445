"""The nodes of a graph, each with what it reads and writes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import AttributeProto, ModelProto, helper
from torch import Tensor

from tscnc_deploy.engines.onnx.differentiable.node import Node, UnsupportedError
from tscnc_deploy.engines.onnx.differentiable.node import tensor_of as tensor_of
from tscnc_deploy.engines.onnx.differentiable.operators import OPERATORS
from tscnc_deploy.engines.onnx.flow import shape_operands
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped

_STANDARD = ("", "ai.onnx")
# Operands of which the numbers are read, besides those of `shape_operands`.
_READ = {
    "Clip": frozenset({1, 2}),
    "Dropout": frozenset({1, 2}),
    "NonZero": frozenset({0}),
    "Pad": frozenset({1, 2, 3}),
    "Range": frozenset({0, 1, 2}),
}


@dataclass(frozen=True)
class Step:
    """One node.

    Attributes:
        node: Its operator and attributes.
        inputs: Names of what it reads; empty where an optional input is absent.
        outputs: Names of what it writes; empty where nothing reads it.
        sizes: Positions of the inputs that are sizes, bounds or axes, whose numbers are read.
        on_images: Whether it computes with what the images show.
        ends: Names that no later node reads.
    """

    node: Node
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
            found = OPERATORS[self.node.op](self.node, *operands)
        except UnsupportedError as error:
            msg = f"{self.where(path)}: {error} is not supported"
            raise InputError(msg) from error
        except Exception as error:  # torch and numpy raise many unrelated types for operands that do not fit
            msg = f"{self.where(path)}: {' '.join(str(error).split()) or type(error).__name__}"
            raise InputError(msg) from error
        # Operators that pass on what they read give no tensor if it is absent.
        every = found if isinstance(found, (list, tuple)) else (found,)
        results = [tensor for tensor in every if isinstance(tensor, Tensor)]
        if self.node.outputs > len(results):
            msg = f"{self.where(path)}: has {self.node.outputs} outputs, but computes {len(results)}"
            raise InputError(msg)
        return {name: tensor for name, tensor in zip(self.outputs, results, strict=False) if name}


def steps_of(model: ModelProto, on_images: Collection[str], path: Path) -> Iterator[Step]:
    """The nodes of a model in order.

    Args:
        model: A model that `onnx.file` has read.
        on_images: Names of the values that are computed from what the images show, see `flow.computed_from`.
        path: Its file, for messages.

    Raises:
        InputError: An operator is not supported, a size depends on what the images show, or a value is written twice.
    """
    opset = max((entry.version for entry in model.opset_import if entry.domain in _STANDARD), default=0)
    written: set[str] = set()
    for node in model.graph.node:
        op = node.op_type if node.domain in _STANDARD else f"{node.domain}.{node.op_type}"
        used = max((place + 1 for place, name in enumerate(node.output) if name), default=0)
        if op not in OPERATORS:
            msg = f"{path}: node {escaped(node.name)!r} ({escaped(op)}): gradients of this operator are not supported"
            raise InputError(msg)
        sizes = shape_operands(node) | _READ.get(op, frozenset())
        known = any(name in on_images for name in node.output)
        ours = Node(op, node.name, opset, _attributes(node.attribute), used)
        step = Step(ours, tuple(node.input), tuple(node.output), sizes, known)
        read = [step.inputs[place] for place in sorted(sizes) if place < len(step.inputs)]
        if not step.only_measures and (shown := [name for name in read if name in on_images]):
            msg = f"{step.where(path)}: the size {escaped(shown[0])!r} depends on what the images show"
            raise InputError(msg)
        names = [name for name in step.outputs if name]
        if twice := [name for place, name in enumerate(names) if name in written or name in names[:place]]:
            msg = f"{step.where(path)}: writes {escaped(twice[0])!r}, which is written before"
            raise InputError(msg)
        written.update(names)
        yield step


def _attributes(attributes: Sequence[AttributeProto]) -> dict[str, Any]:
    values = ((each.name, helper.get_attribute_value(each)) for each in attributes)
    return {name: value.decode(errors="replace") if isinstance(value, bytes) else value for name, value in values}
