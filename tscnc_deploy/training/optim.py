"""Optimisers, learning-rate schedules, and the weight average."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tscnc_deploy import recipe


def build_optimizer(model: nn.Module, settings: recipe.Train, lr: float) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over all parameters; biases and norms are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    # Fused: one pass over all weights instead of several over each.
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=True)
    nesterov = settings.nesterov and settings.momentum > 0
    return torch.optim.SGD(groups, lr=lr, momentum=settings.momentum, nesterov=nesterov, fused=True)


def learning_rate(step: int, steps: int, *, peak: float, schedule: str, warmup: float = 0.0) -> float:
    """Learning rate of one step, a pure function of its number, so that a resumed training needs no saved state.

    Args:
        step: From 0.
        steps: Number of steps in all.
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


def weight_average(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of the weights and batch-norm statistics, for evaluation."""
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)  # type: ignore[no-untyped-call]
    return average.eval()
