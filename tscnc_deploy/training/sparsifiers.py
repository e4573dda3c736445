"""How masks live through a training: not at all, frozen, or re-ranked while the sparsity rises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from tscnc_deploy.tscnc import (
    Masks,
    check_budget,
    cubic_sparsity,
    least_sparsity,
    prunable_weights,
    rank_globally,
)

# Scores every weight of the masked model; given are the weights' values outside the masks.
Scorer = Callable[[dict[str, Tensor], int], dict[str, Tensor]]


class Dense:
    """No masks: the network keeps all its weights. Base of those that have some."""

    sparsity = 0.0

    def before_step(self, step: int) -> None:
        """Called before every step, counted from 0 over the whole stage."""

    def masked(self) -> AbstractContextManager[object]:
        """The context of forward and backward passes and of evaluations."""
        return nullcontext()

    def after_backward(self) -> None:
        """Called between the backward pass and the optimiser's step."""

    def after_step(self) -> None:
        """Called after the optimiser's step."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a checkpoint."""


class Frozen(Dense):
    """Fixed masks: removed weights are zero and stay zero."""

    def __init__(self, model: nn.Module, masks: Masks) -> None:
        self._model = model
        self.masks = masks
        masks.apply_(model)

    @property
    def sparsity(self) -> float:  # type: ignore[override]
        """Share of weights removed."""
        return self.masks.sparsity

    def after_backward(self) -> None:
        self.masks.mask_gradients_(self._model)

    def after_step(self) -> None:
        # Momentum from before the freeze still moves removed weights.
        self.masks.apply_(self._model)


class Growing(Dense):
    """Masks that are ranked anew at each update of the cubic schedule; the last update freezes them."""

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
        self._model = model
        self._score = score
        self._updates = {step: number for number, step in enumerate(_spread(updates, steps), 1)}
        self._last = len(self._updates)
        shapes = {name: weight.shape for name, weight in prunable_weights(model).items()}
        check_budget(shapes, sparsity, floor=floor, pattern=pattern)
        # What the pattern removes by itself goes with the first update; the schedule has no way around it.
        self._initial = least_sparsity(shapes, pattern)
        self._final, self._floor, self._pattern, self._regrow = sparsity, floor, pattern, regrow
        self._costs = costs
        self._frozen = False
        self.masks = Masks.dense(model)

    @property
    def sparsity(self) -> float:  # type: ignore[override]
        """Share of weights removed so far."""
        return self.masks.sparsity

    def before_step(self, step: int) -> None:
        if step not in self._updates:
            return
        update = self._updates[step]
        sparsity = cubic_sparsity(update / self._last, self._final, self._initial)
        with self.masks.applied(self._model) as weights:
            scores = self._score(weights, update)
        self.masks = Masks(rank_globally(scores, sparsity, floor=self._floor, pattern=self._pattern, costs=self._costs))
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
        return {"masks": self.masks.state_dict(), "frozen": self._frozen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = next(self._model.parameters()).device
        self.masks = Masks({name: mask.to(device) for name, mask in state["masks"].items()})
        self._frozen = state["frozen"]


def _spread(updates: int, steps: int) -> list[int]:
    """Steps at which updates happen: evenly from the first step, so that training follows the last one too."""
    updates = min(updates, steps)
    return [index * steps // updates for index in range(updates)]
