"""HARP: each layer learns its share in addition to its scores; a penalty pushes the total towards the target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from tscnc_deploy.training.criteria.straight_through import StraightThrough
from tscnc_deploy.tscnc import apportion, check_budget, prunable_weights

if TYPE_CHECKING:
    from tscnc_deploy.training.loop import Training

# Initial share of each layer's weights, unless twice the target is more.
BEGINNING = 0.1
# The penalty's weight increases at every twentieth of the stage until the target is met, by this amount (the authors'
# value) if the stage is long enough.
PENALTY_STEP = 0.01
STAIRS = 20
# With fewer steps, most of the pruning would happen at the last one, without training after it.
ENOUGH_STEPS = 800
# The last of so many parts of the stage has the shares settled.
SETTLED = 5


class Harp(StraightThrough):
    """Learns how many weights each layer keeps, and which.

    A layer keeps the share floor + (1 - floor) * sigmoid(rate). A rate's gradient is the sum of the gradients of its
    layer's mask, as if each entry were the share itself; the penalty gamma * max(kept / target - 1, 0) is added to the
    loss. Gamma increases stepwise, in larger steps if the stage is short, until the target is met. Shares are real
    numbers that end close to the target, so for the last fifth of the steps they are scaled to exactly the number of
    weights of the sparsity, and only the scores are trained: if masks jumped at the last step, accuracy would drop to
    chance.

    Source: Zhao and Wressnegger, "Holistic adversarially robust pruning", ICLR 2023, arXiv 2412.14714. There the
    least share is a tenth of the target; here it is the recipe's floor. As there, filters may die.
    """

    def __init__(self, model: nn.Module, *, steps: int, sparsity: float, floor: float, lr: float) -> None:
        """Args: see `recipe.Prune`; `steps` is the number of training steps of the stage, `lr` that of the scores."""
        weights = prunable_weights(model)
        check_budget({name: weight.shape for name, weight in weights.items()}, sparsity, floor=floor)
        self._sizes = {name: weight.numel() for name, weight in weights.items()}
        self._total = sum(self._sizes.values())
        self._kept = self._total - round(sparsity * self._total)
        self._floor = floor
        beginning = min(max(BEGINNING, 2 * self._kept / self._total), 1.0)
        above = min(max((beginning - floor) / (1 - floor), 0.01), 0.99)
        # On the CPU, where the number of weights is needed at every step.
        self._rates = torch.full((len(self._sizes),), math.log(above / (1 - above)))
        self._gamma: float | None = None
        self._settled: dict[str, int] | None = None
        super().__init__(model, steps=steps, lr=lr)

    @classmethod
    def of(cls, training: Training) -> Self:
        """Creates it from the recipe of a training."""
        prune = training.recipe.prune
        return cls(training.model, steps=training.steps, sparsity=prune.sparsity, floor=prune.floor, lr=prune.score_lr)

    def _learned(self) -> list[Tensor]:
        return [*super()._learned(), self._rates]

    def _shares(self) -> Tensor:
        return self._floor + (1 - self._floor) * self._rates.sigmoid()

    def _counts(self) -> Mapping[str, int]:
        if self._settled is not None:
            return self._settled
        layers = zip(self._sizes.items(), self._shares().tolist(), strict=True)
        return {name: max(round(share * size), 1) for (name, size), share in layers}

    def before_step(self, step: int) -> None:
        super().before_step(step)
        if self._settled is None and step >= self._steps - max(self._steps // SETTLED, 1):
            sizes = list(self._sizes.values())
            least = [max(math.ceil(self._floor * size), 1) for size in sizes]
            counts = apportion(self._shares().tolist(), sizes, self._kept, least)
            self._settled = dict(zip(self._sizes, counts, strict=True))
            self.masks = self._select()

    def _excess(self) -> float:
        """Number of kept weights relative to the target, minus 1."""
        sizes = torch.tensor(list(self._sizes.values()))
        return float((self._shares() * sizes).sum()) / self._kept - 1

    def after_backward(self) -> None:
        weights = prunable_weights(self._model)
        # Before the gradients are cleared.
        slopes = torch.stack([_sum_of(weight) for weight in weights.values()]).cpu()
        super().after_backward()
        if self._settled is not None:
            self._rates.grad = None
            return
        if self._excess() > 0:
            sizes = torch.tensor(list(self._sizes.values()))
            slopes = slopes + self._penalty_weight() * sizes / self._kept
        sigmoid = self._rates.sigmoid()
        self._rates.grad = slopes * (1 - self._floor) * sigmoid * (1 - sigmoid)

    def after_step(self) -> None:
        super().after_step()
        if self._gamma is None and self._excess() <= 0:
            self._gamma = self._penalty_weight()

    def _penalty_weight(self) -> float:
        if self._gamma is not None:
            return self._gamma
        rise = PENALTY_STEP * max(ENOUGH_STEPS / self._steps, 1.0)
        return rise * (1 + self._step * STAIRS // self._steps)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"gamma": self._gamma, "settled": self._settled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._gamma, self._settled = state["gamma"], state["settled"]


def _sum_of(weight: nn.Parameter) -> Tensor:
    """The gradient of the loss with respect to a layer's share: the sum over its mask."""
    if weight.grad is None:
        return torch.zeros((), device=weight.device)
    return (weight.grad.float() * weight.detach().float()).sum()
