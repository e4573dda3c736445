"""The state of a training between two steps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tscnc_deploy.training.checkpoint import load_checkpoint, save_checkpoint
from tscnc_deploy.training.constraining import ConstraintTerm
from tscnc_deploy.training.criteria.base import Sparsifier
from tscnc_deploy.training.optim import WeightAverage
from tscnc_deploy.training.validation import Validation

# Writing a checkpoint takes up to a second; doing so more often would slow down training.
CHECKPOINT_SECONDS = 15.0


class TrainingState:
    """The state that a checkpoint must restore for a training to continue as if it had never stopped."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage | None,
        sparsifier: Sparsifier,
        constraint: ConstraintTerm | None,
    ) -> None:
        self.model, self.optimizer, self.average, self.sparsifier = model, optimizer, average, sparsifier
        self.constraint = constraint
        self.best: Validation | None = None
        self.best_weights: dict[str, Tensor] | None = None
        self.history: list[dict[str, Any]] = []
        self._written = time.monotonic()
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Moves to the first batch of an epoch."""
        self.epoch, self.batch, self.loss = epoch, 0, 0.0
        self._generators: tuple[Tensor, Tensor] | None = None

    def restore(self, order: torch.Generator, noise: torch.Generator) -> None:
        """Restores the epoch's generators if the checkpoint was written in the middle of the epoch."""
        if self._generators is not None:
            order.set_state(self._generators[0])
            noise.set_state(self._generators[1])

    def is_due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() - self._written > CHECKPOINT_SECONDS

    def save(self, path: Path, loss: float, order: torch.Generator, noise: torch.Generator) -> None:
        """Writes the state after a batch, with the sum of the epoch's losses so far."""
        saved = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "sparsifier": self.sparsifier.state_dict(),
            "constraint": self.constraint.state_dict() if self.constraint is not None else None,
            "best": vars(self.best) if self.best is not None else None,
            "best_weights": self.best_weights,
            "history": self.history,
            "position": (self.epoch, self.batch, loss),
            "generators": (order.get_state(), noise.get_state()),
        }
        save_checkpoint(path, saved)
        self._written = time.monotonic()

    def load(self, path: Path) -> None:
        """Restores the checkpoint if there is a readable one."""
        saved = load_checkpoint(path)
        if saved is None:
            return
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        self.sparsifier.load_state_dict(saved["sparsifier"])
        if self.constraint is not None:
            self.constraint.load_state_dict(saved["constraint"], next(self.model.parameters()).device)
        if saved["best"] is not None:
            self.best, self.best_weights = Validation(**saved["best"]), saved["best_weights"]
        self.history = saved["history"]
        self.epoch, self.batch, self.loss = saved["position"]
        self._generators = saved["generators"]
