"""The prunable parameters of a model, and the matrix of a weight."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that sparsity refers to: those of convolutions and linear layers.

    Args:
        model: Any module. Biases and the parameters of norms are not prunable, because they are few and important.

    Returns:
        Parameters by name in the model ("layer1.0.conv1.weight"), in the order of `named_modules`.
    """
    weights: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weights[f"{name}.weight" if name else "weight"] = cast(nn.Parameter, module.weight)
    return weights


def as_matrix(weight: Tensor) -> Tensor:
    """The matrix [out, in * kh * kw] of a layer's weight [out, in, kh, kw] or [out, in]."""
    return weight.reshape(weight.shape[0], -1)
