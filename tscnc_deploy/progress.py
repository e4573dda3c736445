"""The interface through which long work reports its progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

# Names of the bounds of robust accuracy, given the images evaluated so far.
BOUNDS = ("robust at least", "at most")


class Progress(Protocol):
    """Receives the progress of a build, `verify` or `check`; the command line shows it as bars or plain lines."""

    def start(self, stage: str, position: int, stages: int) -> None:
        """A stage begins; `position` counts from 1."""

    def step(self, done: int, total: int, figures: Mapping[str, float], label: str = "", detail: str = "") -> None:
        """Called after steps of the stage (or of its part `label`), with figures such as loss or robust accuracy.

        The detail describes the current activity, such as the name of an attack.
        """

    def finish(self, stage: str, *, cached: bool, seconds: float) -> None:
        """A stage has ended or was reused."""
