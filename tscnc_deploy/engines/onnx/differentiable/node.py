"""One node of a graph as its operator sees it, and the straight-through estimate of what has no gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

FEW = 1024
"""So many numbers are computed before anything is known about a graph; they may be sizes."""
_MOST_PLACES = 1 << 24


class UnsupportedError(Exception):
    """An operator, an attribute or a type of input that the reader does not compute; the message says which."""


@dataclass(frozen=True)
class Node:
    """A node without its inputs.

    Attributes:
        op: Name of the operator; those of onnxruntime begin with "com.microsoft.".
        name: Name of the node, for messages.
        opset: Version of the standard operators.
        attributes: Values by name; strings are str, tensors are `onnx.TensorProto`.
        outputs: Number of outputs that are used, up to the last one.
    """

    op: str
    name: str
    opset: int
    attributes: Mapping[str, Any]
    outputs: int = 1

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or a default if the node does not have it."""
        return self.attributes.get(name, default)


Output = Tensor | Sequence[Tensor]
Operator = Callable[..., Output]
"""Called with the node and its inputs, each a tensor, or None where an optional one is absent."""


def straight_through(exact: Tensor, smooth: Tensor) -> Tensor:
    """The value of one tensor with the gradient of another (Bengio et al., arXiv 1308.3432)."""
    if not smooth.requires_grad:
        return exact
    return smooth + (exact - smooth).detach()


def integers(tensor: Tensor | None) -> list[int]:
    """The values of a tensor of sizes, bounds or axes; none for an absent one."""
    return [] if tensor is None else [int(value) for value in tensor.reshape(-1).tolist()]


def axes_of(node: Node, given: Tensor | None) -> list[int] | None:
    """The axes of a node: an input in newer operator sets, an attribute in older ones; None if there are none."""
    if given is not None:
        return integers(given)
    axes = node.get("axes")
    return None if axes is None else list(axes)


def bounded(count: int) -> int:
    """A number of elements that an operator is about to make on the host.

    Raises:
        UnsupportedError: There are more than 16 million.
    """
    if count > _MOST_PLACES:
        msg = f"a result of {count} elements"
        raise UnsupportedError(msg)
    return count


def refuse_outputs(node: Node, most: int = 1) -> None:
    """Refuses a node of which more than the first outputs are used."""
    if node.outputs > most:
        msg = f"output {most + 1} of {node.op}"
        raise UnsupportedError(msg)
