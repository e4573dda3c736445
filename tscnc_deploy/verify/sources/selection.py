"""Some of a model's logits, in another order."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Selection(nn.Module):
    """Logits [N, K] of a model -> logits [N, len(order)], the i-th of which was the order[i]-th."""

    order: Tensor

    def __init__(self, model: nn.Module, order: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("order", torch.tensor(order))

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)[:, self.order]
