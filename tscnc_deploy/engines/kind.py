"""What an engine kind is: one module that writes its engine and opens it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tscnc_deploy.engines.base import Engine
from tscnc_deploy.engines.target import Target

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class EngineFiles:
    """Where an export put its files; the folder that holds them can be moved.

    Attributes:
        model: What the engine opens.
        dense: The same network as a dense ONNX file, for tools that know no sparse initializers.
    """

    model: Path
    dense: Path


class EngineKind(Protocol):
    """The functions of a module such as `onnx_runtime`; `registry` documents what callers rely on."""

    def export_engine(
        self, model: nn.Module, target: Target, folder: Path, *, input_shape: tuple[int, int, int]
    ) -> EngineFiles: ...

    def open_engine(self, folder: Path, target: Target, *, threads: int | None = None) -> Engine: ...

    def can_run(self, target: Target) -> str | None: ...
