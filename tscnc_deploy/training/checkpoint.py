"""Checkpoints of a training in progress: either the last complete one is there, or none."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from tscnc_deploy.errors import StorageError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values beside the old checkpoint, then takes its place in one rename.

    Raises:
        StorageError: The disk is full or not writable; the old checkpoint stays.
        KeyboardInterrupt: So was the writing interrupted; the old checkpoint stays.
    """
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        # torch's zip writer turns a full disk into a RuntimeError of its own, and Ctrl-C as well.
        partial.unlink(missing_ok=True)
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        msg = f"{path}: cannot write the checkpoint: {error}; free some space and run the same command again"
        raise StorageError(msg) from error


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state that was saved, on the CPU, or None where there is no readable checkpoint."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError):
        return None
