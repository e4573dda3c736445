"""Optimisers, learning-rate schedules, and the weight average."""

from __future__ import annotations

import copy
import math
from itertools import chain, compress
from typing import Any

import torch
from torch import Tensor, nn

from tscnc_deploy import recipe


def build_optimizer(model: nn.Module, settings: recipe.Train, lr: float) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over all parameters; biases and norms are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    # Fused: a single pass over all weights.
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=True)
    nesterov = settings.nesterov and settings.momentum > 0
    return torch.optim.SGD(groups, lr=lr, momentum=settings.momentum, nesterov=nesterov, fused=True)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in chain(model.parameters(), model.buffers())]


def learning_rate(step: int, steps: int, *, peak: float, schedule: str, warmup: float = 0.0) -> float:
    """Learning rate of a step, a pure function of its number, so that resuming needs no saved state.

    Args:
        step: From 0.
        steps: Total number of steps.
        peak: Largest rate.
        schedule: "constant", "cosine" (from the peak to zero), or "one-cycle" (Smith, arXiv 1708.07120: up from a
            25th of the peak over the share `warmup` of the steps, then down to zero, both along a cosine).
        warmup: See above.
    """
    if schedule == "constant":
        return peak
    position = step / steps
    if schedule == "one-cycle" and position < warmup:
        start = peak / 25
        return start + (peak - start) * (1 - math.cos(math.pi * position / warmup)) / 2
    begin = warmup if schedule == "one-cycle" else 0.0
    return peak * (1 + math.cos(math.pi * (position - begin) / (1 - begin))) / 2


class WeightAverage:
    """Exponential moving average of the weights and batch-norm statistics, for evaluation.

    Unlike `torch.optim.swa_utils.AveragedModel`, it counts updates in Python, which avoids synchronising with the GPU.

    Args:
        model: Model to average; its values at the first update are the initial average.
        decay: Weight of the old average at each update, in (0, 1).

    Attributes:
        module: The average, in eval mode.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).eval()
        self._decay, self._updates = decay, 0

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Updates the average with a model's current values."""
        means, values = _tensors(self.module), _tensors(model)
        averaged = [mean.is_floating_point() and self._updates > 0 for mean in means]
        for mean, value, averages in zip(means, values, averaged, strict=True):
            if not averages:
                mean.copy_(value)
        if any(averaged):
            torch._foreach_lerp_(
                list(compress(means, averaged)), list(compress(values, averaged)), weight=1 - self._decay
            )
        self._updates += 1

    def state_dict(self) -> dict[str, Any]:
        """The state to save in a checkpoint."""
        return {"module": self.module.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a checkpoint."""
        self.module.load_state_dict(state["module"])
        self._updates = state["updates"]
