"""Checks the outputs of a classifier: logits, one row per image, always with the same number of classes."""

from __future__ import annotations

from torch import Tensor

from tscnc_deploy.errors import InputError


def as_logits(answer: object, rows: int, classes: int | None = None) -> Tensor:
    """Converts the output to float32 logits [N, K].

    Args:
        answer: Output of a model or a function.
        rows: N, the number of input images.
        classes: K, if it is already known.

    Raises:
        InputError: It is not a tensor, or has another shape.
    """
    if not isinstance(answer, Tensor):
        msg = f"logits must be a tensor [{rows}, {classes or 'K'}], not {type(answer).__name__}"
        raise InputError(msg)
    if answer.ndim != 2 or len(answer) != rows or classes not in (None, answer.shape[1]):
        msg = f"logits must have the shape [{rows}, {classes or 'K'}], not {list(answer.shape)}"
        raise InputError(msg)
    return answer.float()
