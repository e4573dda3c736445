"""The operators, one function each, in files by what they do."""

from __future__ import annotations

from tscnc_deploy.engines.onnx.differentiable.node import Operator
from tscnc_deploy.engines.onnx.differentiable.operators import (
    activations,
    contrib,
    convolutions,
    elementwise,
    layout,
    linear,
    norms,
    pooling,
    quantised,
    reductions,
    resizing,
    selection,
)

OPERATORS: dict[str, Operator] = {
    **activations.OPERATORS,
    **contrib.OPERATORS,
    **convolutions.OPERATORS,
    **elementwise.OPERATORS,
    **layout.OPERATORS,
    **linear.OPERATORS,
    **norms.OPERATORS,
    **pooling.OPERATORS,
    **quantised.OPERATORS,
    **reductions.OPERATORS,
    **resizing.OPERATORS,
    **selection.OPERATORS,
}
"""By the operator's name; those of onnxruntime have the prefix "com.microsoft."."""
