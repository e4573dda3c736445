"""Attention in operators that every engine has.

PyTorch's exporter knows its fused operator for four dimensions only, and computes the scale and the shape of the
transposed keys in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn import functional as F


@contextmanager
def plain_attention() -> Iterator[None]:
    """Context in which `F.scaled_dot_product_attention` is written out, where it has neither groups nor causality."""
    original = F.scaled_dot_product_attention

    def plain(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, **others: Any,
    ) -> Tensor:  # fmt: skip
        if is_causal or dropout_p or any(others.values()):
            return original(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **others)
        scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
        if attn_mask is not None and not attn_mask.is_floating_point():
            scores = scores.masked_fill(~attn_mask, float("-inf"))
        elif attn_mask is not None:
            scores = scores + attn_mask
        return scores.softmax(-1) @ value

    F.scaled_dot_product_attention = plain  # type: ignore[assignment]
    try:
        yield
    finally:
        F.scaled_dot_product_attention = original
