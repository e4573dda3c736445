"""What a classifier may answer: logits, a row per image, always of as many classes."""

from __future__ import annotations

from torch import Tensor

from tscnc_deploy.errors import InputError


def as_logits(answer: object, rows: int, classes: int | None = None) -> Tensor:
    """The answer as float32 logits [N, K].

    Args:
        answer: Whatever a model or a function gave back.
        rows: N, the number of images it was given.
        classes: K, where it is known already.

    Raises:
        InputError: It is no tensor, or one of another shape.
    """
    if not isinstance(answer, Tensor):
        msg = f"logits must be a tensor [{rows}, {classes or 'K'}], not {type(answer).__name__}"
        raise InputError(msg)
    if answer.ndim != 2 or len(answer) != rows or classes not in (None, answer.shape[1]):
        msg = f"logits must have the shape [{rows}, {classes or 'K'}], not {list(answer.shape)}"
        raise InputError(msg)
    return answer.float()
