"""Matrix products, and attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tscnc_deploy.engines.onnx.differentiable.node import Node, Operator, UnsupportedError, refuse_outputs


def _matmul(_: Node, a: Tensor, b: Tensor) -> Tensor:
    wider = torch.promote_types(a.dtype, b.dtype)
    return torch.matmul(a.to(wider), b.to(wider))


def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Gemm: alpha * A' * B' + beta * C."""
    a = a.t() if node.get("transA", 0) else a
    b = b.t() if node.get("transB", 0) else b
    product = torch.matmul(a, b)
    if (alpha := node.get("alpha", 1.0)) != 1:
        product = alpha * product
    if c is None:
        return product
    beta = node.get("beta", 1.0)
    return product + (c if beta == 1 else beta * c)


def _einsum(node: Node, *operands: Tensor) -> Tensor:
    return torch.einsum(node.get("equation").replace(" ", ""), *operands)


def _attention(
    node: Node, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *cached: Tensor | None
) -> Tensor:
    refuse_outputs(node)
    if any(given is not None for given in cached):
        msg = "Attention with a cache"
        raise UnsupportedError(msg)
    flat = query.ndim == 3
    if flat:
        query, key, value = (
            _split_heads(x, heads)
            for x, heads in (
                (query, node.get("q_num_heads")),
                (key, node.get("kv_num_heads")),
                (value, node.get("kv_num_heads")),
            )
        )
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scale = node.get("scale") or 1 / math.sqrt(query.shape[-1])
    scores = torch.matmul(query * math.sqrt(scale), key.transpose(-1, -2) * math.sqrt(scale))
    if cap := node.get("softcap", 0.0):
        scores = cap * torch.tanh(scores / cap)
    if node.get("is_causal", 0):
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    mixed = torch.matmul(scores.softmax(-1), value)
    return mixed.transpose(1, 2).flatten(2) if flat else mixed


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


OPERATORS: dict[str, Operator] = {"Attention": _attention, "Einsum": _einsum, "Gemm": gemm, "MatMul": _matmul}
