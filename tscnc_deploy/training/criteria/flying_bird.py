"""Flying Bird: sparse from the first step on; weights are moved to where the gradient is large."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from tscnc_deploy.training.criteria.base import Masked
from tscnc_deploy.training.criteria.straight_through import keep_largest
from tscnc_deploy.tscnc import Masks, apportion, check_budget, magnitude, prunable_weights, update_steps

if TYPE_CHECKING:
    from tscnc_deploy.training.loop import Training

# Share of a layer's weights that is exchanged at the first update; it decays to zero along a cosine, as in the paper.
EXCHANGED = 0.5


class FlyingBird(Masked):
    """Each layer keeps its number of weights; at each update the smallest weights are replaced by others.

    An update drops a share of each layer's weights by magnitude and regrows as many where the gradient of the
    adversarial loss is largest, with the value zero unless they were dropped in the same update. Weights are
    distributed over layers by the Erdos-Renyi kernel (Evci et al., arXiv 1911.11134); small layers are dense. The paper
    starts with random masks; here there is a trained network, so the first masks are by magnitude within each layer.

    Source: Chen et al., "Sparsity winning twice: better robust generalization from more efficient training",
    arXiv 2202.09844 (Flying Bird; the sparsity of Flying Bird+ moves, and so cannot end at a target).
    """

    def __init__(self, model: nn.Module, *, steps: int, updates: int, sparsity: float, floor: float) -> None:
        """Args: see `recipe.Prune`; `steps` is the number of training steps of the stage."""
        shapes = {name: weight.shape for name, weight in prunable_weights(model).items()}
        check_budget(shapes, sparsity, floor=floor)
        sizes = [shape.numel() for shape in shapes.values()]
        shares = [sum(shape) / shape.numel() for shape in shapes.values()]
        least = [max(math.ceil(floor * size), 1) for size in sizes]
        counts = apportion(shares, sizes, sum(sizes) - round(sparsity * sum(sizes)), least)
        scores = magnitude(model)
        masks = {name: keep_largest(scores[name], count) for name, count in zip(shapes, counts, strict=True)}
        super().__init__(model, Masks(masks))
        self.masks.apply_(model)
        self._steps = steps
        self._exchanges = set(update_steps(updates, steps)[1:])
        self._step = 0
        self._gradients: dict[str, Tensor] = {}

    @classmethod
    def of(cls, training: Training) -> Self:
        """Creates it from the recipe of a training."""
        prune = training.recipe.prune
        return cls(
            training.model, steps=training.steps, updates=prune.updates, sparsity=prune.sparsity, floor=prune.floor
        )

    def before_step(self, step: int) -> None:
        self._step = step

    def after_backward(self) -> None:
        if self._step in self._exchanges:
            weights = prunable_weights(self._model)
            self._gradients = {n: w.grad.detach().abs() for n, w in weights.items() if w.grad is not None}
        self.masks.mask_gradients_(self._model)

    def after_step(self) -> None:
        self.masks.apply_(self._model)
        if self._step in self._exchanges:
            share = EXCHANGED * (1 + math.cos(math.pi * self._step / self._steps)) / 2
            self.masks = self._exchanged(share)
            self.masks.apply_(self._model)
            self._gradients = {}

    @torch.no_grad()
    def _exchanged(self, share: float) -> Masks:
        masks = {}
        for name, weight in prunable_weights(self._model).items():
            mask = self.masks[name]
            count = int(mask.sum())
            exchanged = round(share * count)
            stays = mask & keep_largest(weight.abs().masked_fill(~mask, -1), count - exchanged)
            comes = keep_largest(self._gradients[name].masked_fill(stays, -1), exchanged)
            masks[name] = stays | comes
        return Masks(masks)
