"""What an engine kind is: one module that writes its engine and opens it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tscnc_deploy.engines.base import Array, Engine
from tscnc_deploy.engines.target import Target
from tscnc_deploy.errors import InputError
from tscnc_deploy.files import Read, read_file

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class EngineFiles:
    """Where an export put its files; the folder that holds them can be moved.

    Attributes:
        model: What the engine opens.
        graph: The ONNX file that the engine computes, whose weights can be counted; may be `model` or `dense`.
        dense: The twin's network as a dense float32 ONNX file, for tools that know no sparse initializers.
    """

    model: Path
    graph: Path
    dense: Path


def no_progress(done: int, total: int, label: str) -> None:
    """Reports nothing."""


@dataclass(frozen=True)
class ExportAids:
    """What helps an export, and is not needed by every kind.

    Attributes:
        calibration: Training images for engines in int8, float32 [N, C, H, W] in [0, 1]; others do not look at them.
        timing_cache: File in which TensorRT keeps its measurements between builds; made if it is not there.
        progress: Told the steps done, their number, and what is being done.
    """

    calibration: Array | None = None
    timing_cache: Path | None = None
    progress: Callable[[int, int, str], None] = no_progress

    def calibration_for(self, target: Target) -> Array:
        """The calibration images of a target in int8.

        Raises:
            InputError: There are none.
        """
        if self.calibration is None:
            msg = f"target {target.name}: int8 needs calibration images; give `ExportAids(calibration=...)`"
            raise InputError(msg)
        return self.calibration


class EngineKind(Protocol):
    """The functions of a module such as `onnx_runtime`; `registry` documents what callers rely on."""

    def export_engine(
        self, model: nn.Module, target: Target, folder: Path, *, input_shape: tuple[int, int, int], aids: ExportAids
    ) -> EngineFiles: ...

    def open_engine(
        self, folder: Path, target: Target, *, threads: int | None = None, rebuild: bool = False, read: Read = read_file
    ) -> Engine: ...

    def can_export(self, target: Target) -> str | None: ...

    def can_run(self, target: Target) -> str | None: ...

    def facts(self, folder: Path) -> dict[str, Any]: ...
