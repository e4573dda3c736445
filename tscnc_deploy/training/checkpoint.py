"""Atomic checkpoints of a training in progress: there is either a complete one or none."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from tscnc_deploy.errors import StorageError
from tscnc_deploy.files import open_atomic


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values to a temporary file, then replaces the old checkpoint with one rename.

    Raises:
        StorageError: The disk is full or not writable; the old checkpoint stays.
        KeyboardInterrupt: Writing was interrupted; the old checkpoint stays.
    """
    try:
        with open_atomic(path) as file:
            torch.save(state, file)
    except (StorageError, RuntimeError) as error:
        # torch's zip writer raises its own RuntimeError for a full disk, and also for Ctrl-C.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        reason = error.__cause__ or error
        msg = f"{path}: cannot write the checkpoint: {reason}; free some space and run the same command again"
        raise StorageError(msg) from error


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The saved state, on the CPU, or None if there is no readable checkpoint."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError):
        return None
