"""Selects and reorders a model's logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Selection(nn.Module):
    """Maps logits [N, K] of a model to logits [N, len(order)]; column i is the model's column order[i]."""

    order: Tensor

    def __init__(self, model: nn.Module, order: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("order", torch.tensor(order))

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)[:, self.order]
