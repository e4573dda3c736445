"""The interface of an engine kind: a module that writes its engine and opens it again."""

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
    """Paths of exported files; the folder that contains them can be moved.

    Attributes:
        model: The file that the engine opens.
        graph: The ONNX file that the engine computes, used to count its weights; may be `model` or `dense`.
        dense: The twin's network as a dense float32 ONNX file, for tools that do not support sparse initializers.
    """

    model: Path
    graph: Path
    dense: Path


def no_progress(done: int, total: int, label: str) -> None:
    """Reports nothing."""


@dataclass(frozen=True)
class ExportAids:
    """Optional inputs of an export; not every kind uses them.

    Attributes:
        calibration: Training images for int8 engines, float32 [N, C, H, W] in [0, 1]; other engines ignore them.
        dense: What `onnx.export.export_onnx` wrote of the model, to copy instead of exporting the model once more.
        timing_cache: File in which TensorRT keeps its measurements between builds; created if missing.
        progress: Called with the number of steps done, the total and a description of the current step.
    """

    calibration: Array | None = None
    dense: Path | None = None
    timing_cache: Path | None = None
    progress: Callable[[int, int, str], None] = no_progress

    def calibration_for(self, target: Target) -> Array:
        """The calibration images of an int8 target.

        Raises:
            InputError: There are none.
        """
        if self.calibration is None:
            msg = f"target {target.name}: int8 needs calibration images; give `ExportAids(calibration=...)`"
            raise InputError(msg)
        return self.calibration


class EngineKind(Protocol):
    """The functions that a module such as `onnx.kind` provides; `registry` documents them."""

    def export_engine(
        self, model: nn.Module, target: Target, folder: Path, *, input_shape: tuple[int, int, int], aids: ExportAids
    ) -> EngineFiles: ...

    def open_engine(
        self, folder: Path, target: Target, *, threads: int | None = None, rebuild: bool = False, read: Read = read_file
    ) -> Engine: ...

    def can_export(self, target: Target) -> str | None: ...

    def can_run(self, target: Target) -> str | None: ...

    def facts(self, folder: Path) -> dict[str, Any]: ...
