"""The term lambda * L_CC of the objective: its gradient, and an adaptive lambda."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from tscnc_deploy.recipe import Recipe
from tscnc_deploy.tscnc import Constraint, layer_weights, prunable_weights

# Smoothing of the norms, over about ten measurements, because single batches differ by a factor of two.
SMOOTHING = 0.9


class ConstraintTerm:
    """Adds the constraint's gradient to that of the loss every `interval` steps, with lambda scaled by `interval`.

    With a share instead of a fixed lambda, lambda = share * |grad L_E| / |grad L_CC|, both Euclidean norms over all
    prunable weights, smoothed over time: the strength of the constraint is then a fixed fraction of that of the
    adversarial loss, independent of the network, its size and the progress of training.
    """

    def __init__(self, constraint: Constraint, *, weight: float, share: float | None, interval: int) -> None:
        self.constraint = constraint
        self._weight, self._share, self._interval = weight, share, interval
        # Smoothed norms of the gradients of L_E and L_CC; on the device, so that no step waits for them.
        self._norms: Tensor | None = None

    @classmethod
    def of(cls, recipe: Recipe, stage: str) -> Self | None:
        """Creates it from the recipe for a stage; None if the recipe has no constraint."""
        settings = recipe.constrain
        if stage not in settings.stages or settings.constraint == "none" or settings.weight == 0:
            return None
        constraint = Constraint(settings.constraint, settings.tau, settings.jitter)
        return cls(constraint, weight=settings.weight, share=settings.gradient_share, interval=settings.interval)

    def add_gradients(self, model: nn.Module, step: int) -> None:
        """Adds to the loss's gradients of the weights of a masked model, at the steps that are due."""
        if step % self._interval:
            return
        weights = list(prunable_weights(model).values())
        value = self.constraint(layer_weights(model).values())
        if self._share is None:
            (self._weight * self._interval * value).backward()  # type: ignore[no-untyped-call]
            return
        gradients = torch.autograd.grad(value, weights)
        reached = [(weight.grad, extra) for weight, extra in zip(weights, gradients, strict=True)]
        losses = [gradient for gradient, _ in reached if gradient is not None]
        norms = torch.stack([_norm(losses), _norm(gradients)])
        self._norms = norms if self._norms is None else SMOOTHING * self._norms + (1 - SMOOTHING) * norms
        factor = self._interval * self._adapted(self._norms)
        for gradient, extra in reached:
            if gradient is not None:
                gradient.add_(factor * extra)

    @property
    def weight(self) -> float | None:
        """The last applied lambda; None before an adaptive lambda is first applied."""
        if self._share is None:
            return self._weight
        return None if self._norms is None else float(self._adapted(self._norms))

    def _adapted(self, norms: Tensor) -> Tensor:
        # A constraint with a zero gradient, such as kaporin's if kappa is 1, has no effect whatever its weight.
        return (self._share or 0.0) * norms[0] / norms[1].clamp(min=torch.finfo(norms.dtype).tiny)

    def state_dict(self) -> dict[str, Any]:
        """The state to save in a checkpoint."""
        return {"norms": self._norms}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Continues from a checkpoint."""
        self._norms = None if state["norms"] is None else state["norms"].to(device)


def _norm(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor.float()) for tensor in tensors]))
