"""The interface between the training loop and masks, and the case without masks."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

from tscnc_deploy.tscnc import Masks


class Sparsifier:
    """No masks: the network keeps all weights. Base class of those with masks."""

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
        """The state to save in a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a checkpoint."""


class Masked(Sparsifier):
    """A network with masks. After the last step, removed weights are zero in the model.

    Attributes:
        masks: The current masks, on the model's device.
    """

    def __init__(self, model: nn.Module, masks: Masks) -> None:
        self._model = model
        self.masks = masks

    @property
    def sparsity(self) -> float:  # type: ignore[override]
        """Share of weights removed so far."""
        return self.masks.sparsity

    def state_dict(self) -> dict[str, Any]:
        return {"masks": self.masks.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = next(self._model.parameters()).device
        self.masks = Masks({name: mask.to(device) for name, mask in state["masks"].items()})
