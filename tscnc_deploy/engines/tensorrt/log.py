"""Collects what TensorRT logs: nothing is printed, relevant messages are kept."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

_KEPT = re.compile(r"^Layers:|\(Sparsity\)|^Total Activation Memory: ")
_MAX_ERRORS = 5


def new_logger(lib: ModuleType) -> Any:
    """A logger for a library: `errors` contains its errors, `kept` its messages about layers, sparsity and memory."""

    class Log(lib.ILogger):  # type: ignore[misc, name-defined]  # which class that is depends on the library
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self.kept: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= lib.ILogger.ERROR:
                self.errors.append(message)
            elif _KEPT.search(message):
                self.kept.append(message)

    return Log()


def reasons(log: Any) -> str:
    """The last errors of a logger from `new_logger`, on one line."""
    return "; ".join(" ".join(text.split()) for text in log.errors[-_MAX_ERRORS:]) or "it gives no reason"
