"""Masks that are re-ranked while the sparsity increases, by TSCNC's saliency or any other score of the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor, nn

from tscnc_deploy.training.criteria.base import Masked
from tscnc_deploy.tscnc import (
    Masks,
    check_budget,
    cubic_sparsity,
    least_sparsity,
    prunable_weights,
    rank_globally,
    update_steps,
)

if TYPE_CHECKING:
    from tscnc_deploy.training.criteria.saliencies import Saliency
    from tscnc_deploy.training.loop import Training

# Scores every weight of the masked model, given the weights' values without masks.
Scorer = Callable[[dict[str, Tensor], int], dict[str, Tensor]]


class GradualPruning(Masked):
    """Masks that are re-ranked at each update of the cubic schedule; the last update freezes them."""

    def __init__(
        self,
        model: nn.Module,
        score: Scorer,
        *,
        steps: int,
        updates: int,
        sparsity: float,
        floor: float,
        pattern: str,
        regrow: bool,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        """Args: see `recipe.Prune` and `rank_globally`; `steps` is the number of training steps of the stage."""
        super().__init__(model, Masks.dense(model))
        self._score = score
        self._updates = {step: number for number, step in enumerate(update_steps(updates, steps), 1)}
        self._last = len(self._updates)
        shapes = {name: weight.shape for name, weight in prunable_weights(model).items()}
        check_budget(shapes, sparsity, floor=floor, pattern=pattern)
        # The pattern alone may remove more than the schedule; this happens at the first update.
        self._initial = least_sparsity(shapes, pattern)
        self._final, self._floor, self._pattern, self._regrow = sparsity, floor, pattern, regrow
        self._costs = costs
        self._frozen = False

    @classmethod
    def of(cls, training: Training, costs: Mapping[str, float] | None, saliency: Saliency) -> Self:
        """Creates it from the recipe of a training, with one of the saliencies per cost of a weight."""
        prune = training.recipe.prune
        return cls(
            training.model,
            partial(saliency, training),
            steps=training.steps,
            updates=prune.updates,
            sparsity=prune.sparsity,
            floor=prune.floor,
            pattern=prune.pattern,
            regrow=prune.regrow,
            costs=costs,
        )

    def before_step(self, step: int) -> None:
        if step not in self._updates:
            return
        update = self._updates[step]
        sparsity = cubic_sparsity(update / self._last, self._final, self._initial)
        with self.masks.applied(self._model) as weights:
            scores = self._score(weights, update)
        among = None if self._regrow else self.masks.state_dict()
        masks = rank_globally(
            scores, sparsity, floor=self._floor, pattern=self._pattern, costs=self._costs, among=among
        )
        self.masks = Masks(masks)
        self._frozen = update == self._last
        if self._frozen or not self._regrow:
            self.masks.apply_(self._model)

    def masked(self) -> AbstractContextManager[object]:
        return nullcontext() if self._frozen or not self._regrow else self.masks.applied(self._model)

    def after_backward(self) -> None:
        if self._frozen or not self._regrow:
            self.masks.mask_gradients_(self._model)

    def after_step(self) -> None:
        if self._frozen or not self._regrow:
            self.masks.apply_(self._model)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"frozen": self._frozen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._frozen = state["frozen"]
