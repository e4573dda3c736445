"""Masks learned as scores with frozen weights; shared by HYDRA and HARP."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tscnc_deploy.training.criteria.base import Masked
from tscnc_deploy.training.optim import learning_rate
from tscnc_deploy.tscnc import Masks, prunable_weights, weighted_layers

MOMENTUM = 0.9


class StraightThrough(Masked):
    """Each layer keeps the weights with the largest scores, and scores are trained instead of weights.

    The mask is a step function of the scores; the backward pass treats it as the identity, so a score's gradient is
    that of its mask entry, w * dL/dW~, also for removed weights (Ramanujan et al., "What's hidden in a randomly
    weighted neural network?", arXiv 1911.13299). Scores use SGD with momentum and a cosine schedule, as in both papers,
    whatever the network's optimiser, which trains only the norms. After the last step the masks are applied
    permanently, and a plain network is saved.
    """

    def __init__(self, model: nn.Module, *, steps: int, lr: float) -> None:
        """Args: `steps` is the number of training steps of the stage, `lr` the scores' peak learning rate."""
        self._steps, self._lr = steps, lr
        self._step = 0
        self._frozen = False
        self._scores = {name: initial_scores(weight) for name, weight in prunable_weights(model).items()}
        self._optimizer = torch.optim.SGD(self._learned(), lr=lr, momentum=MOMENTUM)
        super().__init__(model, self._select())

    @abstractmethod
    def _counts(self) -> Mapping[str, int]:
        """Number of weights that each layer currently keeps."""

    def _learned(self) -> list[Tensor]:
        """The trained parameters."""
        return list(self._scores.values())

    def _select(self) -> Masks:
        return Masks({name: keep_largest(self._scores[name].abs(), count) for name, count in self._counts().items()})

    def before_step(self, step: int) -> None:
        self._step = step
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(step, self._steps, peak=self._lr, schedule="cosine")

    def masked(self) -> AbstractContextManager[object]:
        return nullcontext() if self._frozen else self.masks.applied(self._model)

    def after_backward(self) -> None:
        for name, weight in prunable_weights(self._model).items():
            if weight.grad is not None:
                self._receive(name, weight.grad * weight.detach())
        for module in weighted_layers(self._model):
            for parameter in module.parameters():
                # Without a gradient, an optimiser skips it, including weight decay.
                parameter.grad = None

    def _receive(self, name: str, gradient: Tensor) -> None:
        """Receives the gradient of the loss with respect to a layer's mask."""
        self._scores[name].grad = gradient * self._scores[name].sign()

    def after_step(self) -> None:
        self._optimizer.step()
        self._frozen = self._step == self._steps - 1
        self.masks = self._select()
        if self._frozen:
            self.masks.apply_(self._model)

    def state_dict(self) -> dict[str, Any]:
        learned = [value.detach() for value in self._learned()]
        return super().state_dict() | {
            "learned": learned,
            "optimizer": self._optimizer.state_dict(),
            "frozen": self._frozen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for value, saved in zip(self._learned(), state["learned"], strict=True):
            value.copy_(saved)
        self._optimizer.load_state_dict(state["optimizer"])
        self._frozen = state["frozen"]


def initial_scores(weight: Tensor) -> Tensor:
    """HYDRA's scaled initialisation: proportional to the weights; the largest equals the uniform bound of He et al.

    Returns:
        w / max|w| * sqrt(6 / fan in), of the weight's shape.

    Source: Sehwag et al., arXiv 2002.10509.
    """
    values = weight.detach()
    largest = values.abs().max().clamp(min=torch.finfo(values.dtype).tiny)
    return values / largest * (6 / values[0].numel()) ** 0.5


def keep_largest(scores: Tensor, count: int) -> Tensor:
    """Mask of exactly the `count` largest scores of a layer."""
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[scores.flatten().topk(count).indices] = True
    return mask.view(scores.shape)
