"""Masks: which weights of a network are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn

from tscnc_deploy.tscnc.layers import prunable_weights


class Masks:
    """Boolean masks of a network's prunable weights, true where a weight is kept.

    A mask multiplies the weight once per training step instead of once per forward pass: inside `applied` the model
    contains W~ = W * Z, so autograd computes dL/dW~ for every weight, including masked ones. Outside, the model
    contains W, which the optimiser updates with that gradient. So masked weights continue to learn and can come back
    (the straight-through estimator).
    """

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        self._masks = {name: mask.bool() for name, mask in masks.items()}

    @classmethod
    def dense(cls, model: nn.Module) -> Masks:
        """Masks that keep everything."""
        return cls({name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable_weights(model).items()})

    @classmethod
    def of(cls, model: nn.Module) -> Masks:
        """The masks of a pruned model: false where a weight is exactly zero."""
        return cls({name: weight.detach() != 0 for name, weight in prunable_weights(model).items()})

    def __getitem__(self, name: str) -> Tensor:
        return self._masks[name]

    @cached_property
    def nonzero(self) -> int:
        """Number of weights kept."""
        return sum(int(mask.sum()) for mask in self._masks.values())

    @property
    def total(self) -> int:
        """Number of weights."""
        return sum(mask.numel() for mask in self._masks.values())

    @property
    def sparsity(self) -> float:
        """Share of weights removed, over all layers together."""
        return 1 - self.nonzero / self.total

    def state_dict(self) -> dict[str, Tensor]:
        """The masks by parameter name."""
        return dict(self._masks)

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Sets removed weights to zero permanently."""
        for name, weight in prunable_weights(model).items():
            weight.mul_(self._masks[name])

    @torch.no_grad()
    def mask_gradients_(self, model: nn.Module) -> None:
        """Clears the gradients of removed weights, so that an optimiser leaves them at zero."""
        for name, weight in prunable_weights(model).items():
            if weight.grad is not None:
                weight.grad.mul_(self._masks[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[dict[str, Tensor]]:
        """Context in which the masks are applied; yields the unmasked weights by name and restores them at the end."""
        weights = prunable_weights(model)
        dense = {name: weight.detach().clone() for name, weight in weights.items()}
        self.apply_(model)
        try:
            yield dense
        finally:
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.copy_(dense[name])
