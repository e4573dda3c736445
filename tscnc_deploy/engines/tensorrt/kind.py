"""The engine kinds "tensorrt" and "tensorrt-rtx" for `registry`: one implementation for two libraries.

An engine's folder contains model.dense.onnx (the twin's network), model.graph.onnx (what the engine computes, if that
differs: half precision, 8 bits), model.engine (serialized) and engine.json (`facts.Facts`). A serialized engine opens
only with the version that built it and on the GPUs that it was built for. The ONNX files open anywhere, so the engine
can be rebuilt from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.engines.base import Engine
from tscnc_deploy.engines.kind import EngineFiles, ExportAids
from tscnc_deploy.engines.target import Target
from tscnc_deploy.engines.tensorrt.availability import can_export, can_run
from tscnc_deploy.engines.tensorrt.facts import Facts, read_facts
from tscnc_deploy.errors import UnavailableError
from tscnc_deploy.files import Read, read_file
from tscnc_deploy.names import DENSE

if TYPE_CHECKING:
    from torch import nn

__all__ = ["can_export", "can_run", "export_engine", "facts", "open_engine"]


def export_engine(
    model: nn.Module, target: Target, folder: Path, *, input_shape: tuple[int, int, int], aids: ExportAids
) -> EngineFiles:
    """Writes the ONNX files, the engine and engine.json, see `registry.export_engine`."""
    from tscnc_deploy.engines.onnx.export import write_dense
    from tscnc_deploy.engines.onnx.half import write_half
    from tscnc_deploy.engines.onnx.int8 import write_int8
    from tscnc_deploy.engines.tensorrt.store import build_into

    if problem := can_export(target):
        msg = f"target {target.name}: cannot be built here: {problem}"
        raise UnavailableError(msg)
    dense, graph = folder / DENSE, folder / "model.graph.onnx"
    write_dense(model, dense, target, input_shape=input_shape, aids=aids)
    match target.precision:
        case "fp16":
            write_half(dense, graph)
        case "int8":
            write_int8(dense, graph, aids.calibration_for(target), runtime="tensorrt")
        case _:
            graph = dense
    return EngineFiles(model=build_into(folder, graph, target, aids), graph=graph, dense=dense)


def open_engine(
    folder: Path, target: Target, *, threads: int | None = None, rebuild: bool = False, read: Read = read_file
) -> Engine:
    """Opens the engine, see `registry.open_engine`; `threads` only applies to CPU engines."""
    from tscnc_deploy.engines.tensorrt.store import open_stored

    return open_stored(folder, target, rebuild=rebuild or target.portable, read=read)


def facts(folder: Path) -> dict[str, Any]:
    """The size of the engine, the GPUs that it was built for, and how it was built, see `registry.engine_facts`."""
    found: Facts = read_facts(folder / "engine.json")
    return {
        "bytes": found.plan_bytes,
        "made_for": list(found.made_for),
        "build": found.model_dump(mode="json"),
    }
