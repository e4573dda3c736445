"""HYDRA: the same share in every layer, with scores learned from the adversarial loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from torch import nn

from tscnc_deploy.training.criteria.straight_through import StraightThrough
from tscnc_deploy.tscnc import apportion, prunable_weights

if TYPE_CHECKING:
    from tscnc_deploy.training.loop import Training


class Hydra(StraightThrough):
    """One-shot pruning: every layer has the target sparsity from the first step to the last.

    As in the paper, all layers have the same ratio and filters may die; rounding is distributed so that the total
    number of zeros is exact.

    Source: Sehwag et al., "HYDRA: pruning adversarially robust neural networks", arXiv 2002.10509.
    """

    def __init__(self, model: nn.Module, *, steps: int, sparsity: float, lr: float) -> None:
        """Args: see `recipe.Prune`; `steps` is the number of training steps of the stage, `lr` that of the scores."""
        sizes = {name: weight.numel() for name, weight in prunable_weights(model).items()}
        total = sum(sizes.values())
        one_each = [1] * len(sizes)
        counts = apportion(one_each, list(sizes.values()), total - round(sparsity * total), one_each)
        self._kept = dict(zip(sizes, counts, strict=True))
        super().__init__(model, steps=steps, lr=lr)

    @classmethod
    def of(cls, training: Training) -> Self:
        """Creates it from the recipe of a training."""
        prune = training.recipe.prune
        return cls(training.model, steps=training.steps, sparsity=prune.sparsity, lr=prune.score_lr)

    def _counts(self) -> Mapping[str, int]:
        return self._kept
