"""The engine kind "sparse-cpu" as `registry` sees it; its files are those of the kind "onnxruntime"."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.engines.kind import EngineFiles, ExportAids
from tscnc_deploy.engines.onnx import kind as onnxruntime
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.sparse_cpu.dispatch import write_dispatch
from tscnc_deploy.engines.sparse_cpu.engine import SparseCpuEngine
from tscnc_deploy.engines.sparse_cpu.library import instructions_for
from tscnc_deploy.engines.sparse_cpu.lowering import lower
from tscnc_deploy.engines.target import Target
from tscnc_deploy.errors import UnavailableError
from tscnc_deploy.files import Read, read_file

if TYPE_CHECKING:
    from torch import nn


def export_engine(
    model: nn.Module, target: Target, folder: Path, *, input_shape: tuple[int, int, int], aids: ExportAids
) -> EngineFiles:
    """Writes model.onnx, model.dense.onnx and dispatch.json, which lists how each layer will run and why.

    Does not need the compiled core: a machine that cannot run the engine can export it. See `registry.export_engine`.
    """
    files = onnxruntime.export_engine(model, target, folder, input_shape=input_shape, aids=aids)
    written = read_onnx(files.model)
    # Lowering finds unsupported operators now rather than on the machine that opens the file.
    write_dispatch(lower(written, files.model), folder / "dispatch.json")
    return files


def open_engine(
    folder: Path, target: Target, *, threads: int | None = None, rebuild: bool = False, read: Read = read_file
) -> SparseCpuEngine:
    """Opens model.onnx, see `registry.open_engine`; `rebuild` has no effect on an ONNX file."""
    return SparseCpuEngine(
        folder / "model.onnx",
        name=target.name,
        instructions=target.instructions,
        threads=threads,
        batch_min=target.batch_min,
        batch_max=target.batch_max,
        read=read,
    )


def can_export(target: Target) -> str | None:
    """None, as the files can be written on any machine, see `registry.can_export`."""
    return None


def facts(folder: Path) -> dict[str, Any]:
    """The size of the file, see `registry.engine_facts`."""
    return onnxruntime.facts(folder)


def can_run(target: Target) -> str | None:
    """Why this machine cannot run the target, see `registry.can_run`."""
    try:
        instructions_for(target.instructions)
    except UnavailableError as error:
        return str(error)
    return None
