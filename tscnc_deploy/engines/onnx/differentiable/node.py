"""One node of a graph as its operator sees it, and the straight-through estimate of what has no gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# What numpy has and torch does not, or not with all operators.
_WIDER: dict[Any, Any] = {
    np.dtype(np.uint16): np.int32,
    np.dtype(np.uint32): np.int64,
    np.dtype(np.uint64): np.int64,
}


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
        outputs: Number of outputs that have a name, up to the last one.
        integral: Whether its first output holds integers, though they may be in floating point for their gradient.
    """

    op: str
    name: str
    opset: int
    attributes: Mapping[str, Any]
    outputs: int = 1
    integral: bool = False

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or a default if the node does not have it."""
        return self.attributes.get(name, default)

    def axis(self, rank: int, default: int) -> int:
        """The attribute `axis` for a tensor of this rank, counted from the first axis."""
        return axis_of(self.get("axis", default), rank)


Output = Tensor | Sequence[Tensor]
Operator = Callable[..., Output]
"""Called with the node and its inputs, each a tensor, or None where an optional one is absent."""


def tensor_of(array: NDArray[Any]) -> Tensor:
    """Numbers as torch computes with them: every float in float32, unsigned integers in wider signed ones."""
    if array.dtype.kind in "biu":
        return torch.from_numpy(array.astype(_WIDER.get(array.dtype, array.dtype)))
    with np.errstate(over="ignore"):
        return torch.from_numpy(array.astype(np.float32))  # also from those that numpy does not know, such as bfloat16


def straight_through(exact: Tensor, smooth: Tensor) -> Tensor:
    """The value of one tensor with the gradient of another (Bengio et al., arXiv 1308.3432)."""
    if not smooth.requires_grad:
        return exact
    # Not smooth + (exact - smooth), which is not the exact value, and not a number where one of them is infinite.
    return _StraightThrough.apply(exact.detach().to(smooth.dtype), smooth)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exact: Tensor, smooth: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def floating(x: Tensor) -> Tensor:
    """The same values in floating point."""
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def integral(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Integral values in a dtype of integers, or in floating point still if they have a gradient."""
    return x if x.requires_grad else x.to(dtype)


def integers(tensor: Tensor | None) -> list[int]:
    """The values of a tensor of sizes, bounds or axes; none for an absent one."""
    return [] if tensor is None else [int(value) for value in tensor.reshape(-1).tolist()]


def sizes(tensor: Tensor | None) -> list[int]:
    """The values of a tensor of sizes, none of them negative."""
    found = integers(tensor)
    if any(size < 0 for size in found):
        msg = f"the sizes {found} are negative"
        raise ValueError(msg)
    return found


def axis_of(axis: int, rank: int) -> int:
    """An axis of a tensor, counted from the first one; negative numbers count from the last."""
    if not -rank <= axis < rank:
        msg = f"there is no axis {axis} among {rank}"
        raise IndexError(msg)
    return axis % rank


def axes_of(node: Node, given: Tensor | None) -> list[int] | None:
    """The axes of a node: an input in newer operator sets, an attribute in older ones; None if there are none."""
    if given is not None:
        return integers(given)
    axes = node.get("axes")
    return None if axes is None else list(axes)


def refuse_outputs(node: Node, most: int = 1) -> None:
    """Refuses a node of which more than the first outputs are used."""
    if node.outputs > most:
        msg = f"output {most + 1} of {node.op}"
        raise UnsupportedError(msg)
