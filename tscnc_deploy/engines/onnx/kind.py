"""The engine kind "onnxruntime": exports a model to ONNX files and opens them again, on a CPU or an NVIDIA GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.engines.kind import EngineFiles, ExportAids
from tscnc_deploy.engines.onnx.file import read_onnx, write_onnx
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.onnx.session import require
from tscnc_deploy.engines.target import Target
from tscnc_deploy.errors import UnavailableError
from tscnc_deploy.files import Read, read_file
from tscnc_deploy.names import DENSE

if TYPE_CHECKING:
    from torch import nn

_MODEL = "model.onnx"


def export_engine(
    model: nn.Module, target: Target, folder: Path, *, input_shape: tuple[int, int, int], aids: ExportAids
) -> EngineFiles:
    """Writes model.dense.onnx and model.onnx, which is sparse or 8-bit depending on the target; see `registry`."""
    # Opening an exported file must not import PyTorch, which takes seconds.
    from tscnc_deploy.engines.onnx.export import write_dense
    from tscnc_deploy.engines.onnx.int8 import write_int8
    from tscnc_deploy.engines.onnx.sparse import write_sparse

    files = EngineFiles(model=folder / _MODEL, graph=folder / _MODEL, dense=folder / DENSE)
    write_dense(model, files.dense, target, input_shape=input_shape, aids=aids)
    if target.precision == "int8":
        write_int8(files.dense, files.model, aids.calibration_for(target), runtime="onnxruntime")
    elif target.sparse:
        write_sparse(files.dense, files.model)
    else:
        write_onnx(read_onnx(files.dense), files.model)
    return files


def open_engine(
    folder: Path, target: Target, *, threads: int | None = None, rebuild: bool = False, read: Read = read_file
) -> OnnxRuntimeEngine:
    """Opens model.onnx, see `registry.open_engine`; `rebuild` has no effect on an ONNX file."""
    return OnnxRuntimeEngine(
        folder / _MODEL,
        name=target.name,
        provider=target.provider,
        threads=threads,
        batch_min=target.batch_min,
        batch_max=target.batch_max,
        read=read,
    )


def can_export(target: Target) -> str | None:
    """None, as ONNX files can be written on any machine, see `registry.can_export`."""
    return None


def can_run(target: Target) -> str | None:
    """Why this machine cannot use the target's provider, see `registry.can_run`."""
    try:
        require(target.provider)
    except UnavailableError as error:
        return str(error)
    return None


def facts(folder: Path) -> dict[str, Any]:
    """The size of the file, see `registry.engine_facts`."""
    return {"bytes": (folder / _MODEL).stat().st_size}
