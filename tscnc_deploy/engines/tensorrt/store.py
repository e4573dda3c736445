"""Engines on disk: written with their digest, opened only if it matches, rebuilt if they do not open."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from tscnc_deploy.digests import digest_of_bytes, digest_of_parts
from tscnc_deploy.engines.base import Engine
from tscnc_deploy.engines.kind import ExportAids
from tscnc_deploy.engines.onnx.file import parse_onnx
from tscnc_deploy.engines.onnx.limits import MAX_BYTES
from tscnc_deploy.engines.onnx.structure import overall_precision
from tscnc_deploy.engines.target import Target
from tscnc_deploy.engines.tensorrt import library
from tscnc_deploy.engines.tensorrt.availability import can_run
from tscnc_deploy.engines.tensorrt.facts import Facts, read_facts, write_facts
from tscnc_deploy.engines.tensorrt.log import new_logger
from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.files import Read, cache_folder, read_file, write_atomic
from tscnc_deploy.names import DENSE

_ENGINE, _FACTS, _GRAPH = "model.engine", "engine.json", "model.graph.onnx"
# Images for comparing a rebuilt engine with the ONNX file that it was built from.
_COMPARED = 32
_MAX_PLAN = 1 << 32


def build_into(folder: Path, graph: Path, target: Target, aids: ExportAids, read: Read = read_file) -> Path:
    """Builds the engine of an ONNX file and writes it, with engine.json, to a folder.

    Returns:
        The engine's file.

    Raises:
        InputError: See `builder.build`; or TensorRT chose another precision for a layer than the target's.
        UnavailableError: The library or GPU needed for the build is missing.
        StorageError: The folder cannot be written.
    """
    from tscnc_deploy.engines.tensorrt.builder import build

    built = build(graph, target, aids, read)
    _check_precision(built.facts, target, graph)
    path = folder / _ENGINE
    write_atomic(path, built.plan)
    write_facts(built.facts, folder / _FACTS)
    return path


def open_stored(folder: Path, target: Target, *, rebuild: bool, read: Read = read_file) -> Engine:
    """Opens the engine of a folder.

    Args:
        folder: The folder that `build_into` wrote to, with its ONNX files.
        target: Target that it was built for.
        rebuild: Whether to rebuild an engine that does not open here, see `_rebuilt`.
        read: Returns the content of a file; called for every file that is used.

    Raises:
        InputError: A file is missing or differs from the one that engine.json describes, or a rebuilt engine does not
            agree with its ONNX file.
        UnavailableError: The engine is truncated, or this machine lacks the library or GPU that it was built for.
    """
    facts = read_facts(folder / _FACTS, read)
    if facts.library != target.engine:
        msg = f"{folder}: {_FACTS} describes an engine for {facts.library}, but its target is for {target.engine}"
        raise InputError(msg)
    plan = read(folder / _ENGINE, _MAX_PLAN)
    problem = _damage(plan, facts, folder / _ENGINE)
    # `_mismatch` reports a GPU that it was not built for, with the fix.
    missing = can_run(target.model_copy(update={"portable": True}))
    if missing:
        msg = f"{folder / _ENGINE}: {f'{problem}; and ' if problem else ''}{_built(facts)}, not run here: {missing}"
        raise UnavailableError(msg)
    problem = problem or _mismatch(facts)
    if problem is None:
        return _opened(plan, facts, target, str(folder / _ENGINE))
    if rebuild:
        return _rebuilt(folder, target, facts, read)
    msg = (
        f"{folder / _ENGINE}: {problem}; to rebuild it for this machine from the ONNX file beside it, "
        "open it with rebuild=True (tscnc-deploy bench BUNDLE --rebuild)"
    )
    raise UnavailableError(msg)


def _opened(plan: bytes, facts: Facts, target: Target, source: str) -> Engine:
    from tscnc_deploy.engines.tensorrt.execution import TensorRTEngine

    return TensorRTEngine(plan, facts, target, source)


def _check_precision(facts: Facts, target: Target, graph: Path) -> None:
    precisions = [layer.precision for layer in facts.layers]
    if overall_precision(precisions) == target.precision:
        return
    ends = {0, len(precisions) - 1} if target.precision != "fp32" else set()
    allowed = {target.precision, "fp32"}
    wrong = [
        f"{layer.name} in {layer.precision}"
        for index, layer in enumerate(facts.layers)
        if layer.precision != target.precision and not (index in ends and layer.precision in allowed)
    ]
    msg = (
        f"{graph}: target {target.name} asks for {target.precision}, but {facts.library} {facts.version} computes "
        f"{len(wrong)} of {len(precisions)} layers in another precision: "
        f"{', '.join(wrong[:5])}{' and more' if wrong[5:] else ''}"
    )
    raise InputError(msg)


def _damage(plan: bytes, facts: Facts, path: Path) -> str | None:
    """Why a truncated file does not open; raises InputError if it is a different file."""
    if len(plan) < facts.plan_bytes:
        return f"is truncated: {len(plan)} of {facts.plan_bytes} bytes"
    if (digest := digest_of_bytes(plan)) != facts.plan:
        msg = f"{path}: is not the engine that {_FACTS} describes: its SHA-256 is {digest}, not {facts.plan}"
        raise InputError(msg)
    if facts.library == "tensorrt-rtx" and library.library_problem("tensorrt-rtx") is None:
        lib = library.load("tensorrt-rtx")
        log = new_logger(lib)
        _, diagnostics = lib.Runtime(log).get_engine_validity(plan)
        if diagnostics & int(lib.EngineInvalidityDiagnostics.MALFORMED_ENGINE):
            msg = f"{path}: is not an engine of tensorrt-rtx"
            raise InputError(msg)
    return None


def _built(facts: Facts) -> str:
    return f"built for {', '.join(facts.made_for)} with {facts.library} {facts.version}"


def _mismatch(facts: Facts) -> str | None:
    """Why a complete engine does not open with this machine's library and GPU; None if it does."""
    here = library.load(facts.library).__version__
    if facts.version != here:
        return f"{_built(facts)}, but {here} is installed: another version does not open it"
    gpu, name = str(library.gpu_capability()), library.gpu_name()
    match facts.hardware:
        case "ampere-and-newer":
            fits = int(gpu.removeprefix("SM")) >= 80
        case "this-gpu" if facts.library == "tensorrt":
            fits = (gpu, name) == (facts.made_for[0], facts.gpu)
        case _:
            fits = gpu in facts.made_for
    return (
        None
        if fits
        else f"{_built(facts)}{f' on {facts.gpu}' if facts.gpu else ''}, but this machine has {name} ({gpu})"
    )


def _rebuilt(folder: Path, target: Target, facts: Facts, read: Read) -> Engine:
    """The engine, rebuilt for this machine's GPU and compared with its ONNX file.

    It is kept in the user's cache folder under the digest of everything that determines it, after the comparison.
    """
    graph = folder / (_GRAPH if (folder / _GRAPH).exists() else DENSE)
    data = read(graph, MAX_BYTES)
    if digest_of_bytes(data) != facts.graph:
        msg = f"{graph}: is not the file that the engine was built from: its SHA-256 is {digest_of_bytes(data)}"
        raise InputError(msg)
    parse_onnx(data, graph)
    here = target.model_copy(update={"capabilities": (), "hardware": "this-gpu"})
    machine = (library.load(target.engine).__version__, library.gpu_capability(), library.gpu_name())
    place = cache_folder("engines") / digest_of_parts(
        graph=facts.graph, target=here.model_dump(mode="json"), machine=machine
    )
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=place.parent))
        try:
            build_into(draft, graph, here, ExportAids(), read)
            _compare(_from_cache(draft, here), folder / DENSE, target, read)
            if not place.is_dir():
                draft.rename(place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return _from_cache(place, here)


def _from_cache(place: Path, target: Target) -> Engine:
    facts = read_facts(place / _FACTS)
    plan = read_file(place / _ENGINE, _MAX_PLAN)
    problem = _damage(plan, facts, place / _ENGINE) or _mismatch(facts)
    if problem:
        msg = f"{place / _ENGINE}: {problem}; delete the folder {place} to rebuild it"
        raise UnavailableError(msg)
    return _opened(plan, facts, target, str(place / _ENGINE))


def _compare(engine: Engine, dense: Path, target: Target, read: Read) -> None:
    from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine

    images = np.random.default_rng(0).random((_COMPARED, *engine.spec.input_shape), np.float32)
    difference = float(np.abs(engine.logits(images) - OnnxRuntimeEngine(dense, read=read).logits(images)).max())
    if not difference <= target.tolerance:
        msg = (
            f"{dense}: a logit of the rebuilt engine differs by {difference:g} from this file; "
            f"the target's tolerance is {target.tolerance:g}"
        )
        raise InputError(msg)
