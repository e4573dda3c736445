"""The ONNX operators that the sparse CPU engine supports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onnx import NodeProto

from tscnc_deploy.engines.sparse_cpu import moves, pointwise, tokens
from tscnc_deploy.engines.sparse_cpu.builder import Builder
from tscnc_deploy.engines.sparse_cpu.convolutions import average_pool, conv, gemm, max_pool
from tscnc_deploy.engines.sparse_cpu.values import Value

Operator = Callable[[Builder, NodeProto, Mapping[str, Any]], Value | list[Value]]

OPERATORS: Mapping[str, Operator] = {
    "AveragePool": average_pool,
    "Conv": conv,
    "Gemm": gemm,
    "MaxPool": max_pool,
    **moves.OPERATORS,
    **pointwise.OPERATORS,
    **tokens.OPERATORS,
}
