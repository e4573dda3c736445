"""Masks that do not change, for fine-tuning."""

from __future__ import annotations

from torch import nn

from tscnc_deploy.training.criteria.base import Masked
from tscnc_deploy.tscnc import Masks


class Frozen(Masked):
    """Fixed masks: removed weights are zero and stay zero."""

    def __init__(self, model: nn.Module, masks: Masks) -> None:
        super().__init__(model, masks)
        masks.apply_(model)

    def after_backward(self) -> None:
        self.masks.mask_gradients_(self._model)

    def after_step(self) -> None:
        # Momentum from before the freeze still moves removed weights.
        self.masks.apply_(self._model)
