"""Saliency: the score by which weights are kept or removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from tscnc_deploy.tscnc.layers import prunable_weights


def magnitude(model: nn.Module) -> dict[str, Tensor]:
    """|w| of every prunable weight."""
    return {name: weight.detach().abs() for name, weight in prunable_weights(model).items()}


def random(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Uniform random scores, the baseline that any other saliency must beat."""
    return {
        name: torch.rand(weight.shape, generator=generator).to(weight.device)
        for name, weight in prunable_weights(model).items()
    }


def taylor(
    model: nn.Module, losses: Iterable[Callable[[], Tensor]], weights: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """First-order estimate of the increase in loss when a weight is removed: |w * dL/dw|, averaged over batches.

    With the loss on adversarial examples this is TSCNC's saliency (arXiv 2503.20454); with the loss on clean images it
    is the clean Taylor criterion (Molchanov et al., arXiv 1611.06440).

    Args:
        model: The network, with its current masks applied.
        losses: One callable per batch that runs the model and returns its scalar loss.
        weights: The values w to score, where they differ from the model's: a masked weight is zero in the model but may
            come back with another value.

    Returns:
        Scores >= 0 by parameter name, each with the shape of its weight.
    """
    parameters = prunable_weights(model)
    values = weights if weights is not None else {name: weight.detach() for name, weight in parameters.items()}
    scores = {name: torch.zeros_like(weight) for name, weight in values.items()}
    batches = 0
    for loss in losses:
        gradients = torch.autograd.grad(loss(), list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                scores[name] += (values[name] * gradient).abs()
        batches += 1
    return {name: score / max(batches, 1) for name, score in scores.items()}
