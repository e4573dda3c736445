"""The engine kinds "tensorrt" and "tensorrt-rtx": one implementation over two modules of one interface.

An engine's folder holds model.dense.onnx (the twin's network), model.graph.onnx (what the engine computes, where that
is another file: half precision, 8 bits), model.engine (serialized) and engine.json (`facts.Facts`). A serialized engine
opens only with the version that built it and on the GPUs that it was built for; the ONNX files open anywhere, so that
it can be built anew from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.engines.base import Engine
from tscnc_deploy.engines.kind import EngineFiles, ExportAids
from tscnc_deploy.engines.target import Target
from tscnc_deploy.engines.trt import library
from tscnc_deploy.engines.trt.facts import Facts, read_facts
from tscnc_deploy.errors import UnavailableError
from tscnc_deploy.reading import Read, read_file

if TYPE_CHECKING:
    from torch import nn


def export_engine(
    model: nn.Module, target: Target, folder: Path, *, input_shape: tuple[int, int, int], aids: ExportAids
) -> EngineFiles:
    """Writes the ONNX files, the engine and engine.json, see `registry.export_engine`."""
    from tscnc_deploy.engines.half_onnx import write_half
    from tscnc_deploy.engines.int8_onnx import write_int8
    from tscnc_deploy.engines.onnx_export import export_onnx
    from tscnc_deploy.engines.trt.store import build_into

    if problem := can_export(target):
        msg = f"target {target.name}: cannot be built here: {problem}"
        raise UnavailableError(msg)
    dense, graph = folder / "model.dense.onnx", folder / "model.graph.onnx"
    export_onnx(model, dense, input_shape=input_shape, batch_example=target.batch_example)
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
    """Opens the engine, see `registry.open_engine`; `threads` is for engines on the CPU."""
    from tscnc_deploy.engines.trt.store import open_stored

    return open_stored(folder, target, rebuild=rebuild or target.portable, read=read)


def can_export(target: Target) -> str | None:
    """Why this machine cannot build engines of a target, see `registry.can_export`."""
    problem = library.library_problem(target.engine)
    if problem or target.capabilities or library.gpu_capability():
        return problem
    if target.engine == "tensorrt":
        return "tensorrt builds an engine on the GPU that runs it, and there is none; tensorrt-rtx needs none to build"
    return "its capabilities name no GPU, so it is built for this machine's, and there is none; name some, such as SM89"


def can_run(target: Target) -> str | None:
    """Why this machine cannot run engines of a target, see `registry.can_run`."""
    problem = library.library_problem(target.engine)
    if problem:
        return problem
    gpu = library.gpu_capability()
    if gpu is None:
        return "needs an NVIDIA GPU, and torch sees none"
    if target.capabilities and gpu not in target.capabilities and not target.portable:
        return f"this machine's GPU, {library.gpu_name()}, is {gpu}; add it to the target's capabilities"
    return None


def facts(folder: Path) -> dict[str, Any]:
    """The size of the engine, the GPUs that it is for, and how it was built, see `registry.engine_facts`."""
    found: Facts = read_facts(folder / "engine.json")
    return {
        "bytes": found.plan_bytes,
        "made_for": list(found.made_for),
        "build": found.model_dump(mode="json"),
    }
