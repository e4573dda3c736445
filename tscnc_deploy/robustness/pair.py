"""An engine and its twin as a single victim, for searches for differences between them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tscnc_deploy.robustness.victims import EngineVictim


class PairVictim:
    """Combines the engine's and the twin's logits, with the twin's gradient; only engine queries are counted.

    Args:
        victim: The engine and its twin.
        combine: Maps the engine's and the twin's logits, float32 [N, K] each, to logits float32 [N, M].
    """

    has_gradient = True

    def __init__(self, victim: EngineVictim, combine: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.victim = victim
        self.combine = combine
        self.device = victim.device

    @property
    def queries(self) -> int:
        return self.victim.queries

    def logits(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.differentiable(images)

    def differentiable(self, images: Tensor) -> Tensor:
        return self.combine(*self.victim.both(images))
