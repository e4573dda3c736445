"""How operators are exported that PyTorch's exporter writes with the batch size or as scattering."""

from __future__ import annotations

from typing import Any

import torch
from onnxscript import opset20 as op
from onnxscript.function_libs.torch_lib.ops.core import aten_slice_scatter

_END = 2**63 - 1


def slice_scatter(images: Any, part: Any, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1) -> Any:
    """`aten.slice_scatter`, which assignments to a slice become, as a concatenation.

    The exporter scatters by indices, also where the slice is the whole: `x[:, :n] += y` assigns along the images first.

    Args:
        images: The tensor that is assigned to.
        part: The new values of the slice.
        dim: The axis.
        start: The first index; None for 0.
        end: The one after the last; None for all.
        step: The distance between indices.
    """
    first, last = start or 0, _END if end is None else end
    if not all(isinstance(number, int) for number in (first, last, step)) or step != 1:
        return aten_slice_scatter(images, part, dim, start, end, step)
    length = images.shape[dim]
    if first == 0 and (last == _END or (isinstance(length, int) and last >= length)):
        return op.Identity(part)
    if not isinstance(length, int) or first < 0 or last < 0:
        return aten_slice_scatter(images, part, dim, start, end, step)

    def between(low: int, high: int) -> Any:
        low_, high_, axis = (op.Constant(value_ints=[number]) for number in (low, high, dim))
        return op.Slice(images, low_, high_, axis)  # type: ignore[type-var]

    before = [between(0, first)] if first > 0 else []
    after = [between(last, length)] if last < length else []
    return op.Concat(*before, part, *after, axis=dim)


TRANSLATIONS: dict[Any, Any] = {torch.ops.aten.slice_scatter.default: slice_scatter}
"""By the operator, for `torch.onnx.export`."""
