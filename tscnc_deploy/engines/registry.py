"""The registry of engine kinds: exports a target to files and opens files as an engine.

To add a kind, write a module that implements `EngineKind`, add its name to `Target.engine` and an entry to `_kind`.
Modules are imported on demand because some need optional packages.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.engines.base import Engine
from tscnc_deploy.engines.kind import EngineFiles, EngineKind, ExportAids
from tscnc_deploy.engines.target import Target, read_target, write_target
from tscnc_deploy.errors import InputError, StorageError
from tscnc_deploy.files import Read, read_file

if TYPE_CHECKING:
    from torch import nn

_TARGET = "target.json"


def export_engine(
    model: nn.Module,
    target: Target,
    folder: str | Path,
    *,
    input_shape: tuple[int, int, int],
    aids: ExportAids | None = None,
) -> EngineFiles:
    """Writes the engine of a target and the target itself, so that the folder opens without the user's TOML file.

    Args:
        model: Maps float32 images [N, C, H, W] in [0, 1] to logits [N, K]; not changed.
        target: What to write.
        folder: Folder to write to; created if missing.
        input_shape: (C, H, W).
        aids: See `ExportAids`.

    Raises:
        InputError: The model cannot be exported, or the precision of the written engine differs from the target's.
        StorageError: The folder cannot be written.
        UnavailableError: A package or hardware that the export needs is missing.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder}: cannot be created: {error.strerror}"
        raise StorageError(msg) from error
    files = _kind(target).export_engine(model, target, folder, input_shape=input_shape, aids=aids or ExportAids())
    write_target(target, folder / _TARGET)
    return files


def open_engine(
    folder: str | Path,
    target: Target | None = None,
    *,
    threads: int | None = None,
    rebuild: bool = False,
    read: Read = read_file,
) -> Engine:
    """Opens an exported engine.

    Args:
        folder: What `export_engine` wrote.
        target: Target that it was written for; read from the folder by default.
        threads: CPU threads of one call; None uses `threads.thread_count`.
        rebuild: Rebuild an engine that was built for other GPUs or by another version from the ONNX file beside it,
            and compare the two before using it, as if its target were portable. TensorRT only.
        read: Returns the content of a file; called for every file that is used.

    Raises:
        InputError: A file is missing, damaged or malicious, or its actual precision differs from the target's.
        UnavailableError: This machine cannot run it; the message says what to install.
    """
    folder = Path(folder)
    if target is None:
        target = read_exported_target(folder, read)
    engine = _kind(target).open_engine(folder, target, threads=threads, rebuild=rebuild, read=read)
    if engine.spec.precision != target.precision:
        msg = f"{folder}: the engine computes in {engine.spec.precision}, but the target asks for {target.precision}"
        raise InputError(msg)
    return engine


def can_export(target: Target) -> str | None:
    """Why this machine cannot write engines of a target and which command fixes it; None if it can."""
    return _kind(target).can_export(target)


def read_exported_target(folder: Path, read: Read = read_file) -> Target:
    """The target that an exported engine was written for.

    Raises:
        InputError: The folder does not contain a target.
    """
    return read_target(folder / _TARGET, read)


def can_run(target: Target) -> str | None:
    """Why this machine cannot run engines of a target and which command fixes it; None if it can."""
    return _kind(target).can_run(target)


def engine_facts(folder: str | Path) -> dict[str, Any]:
    """Facts about an exported engine, as JSON, without opening it.

    Returns:
        "kind", "precision" and "bytes" (of the file that the engine opens), and for TensorRT "made_for" (the GPUs)
        and "build" (how it was built, see `tensorrt.facts.Facts`).

    Raises:
        InputError: A file is missing or damaged.
    """
    folder = Path(folder)
    target = read_target(folder / _TARGET)
    return {"kind": target.engine, "precision": target.precision} | _kind(target).facts(folder)


def _kind(target: Target) -> EngineKind:
    match target.engine:
        case "onnxruntime":
            from tscnc_deploy.engines.onnx import kind as onnxruntime

            return onnxruntime
        case "tensorrt" | "tensorrt-rtx":
            from tscnc_deploy.engines.tensorrt import kind as tensorrt

            return tensorrt
        case "sparse-cpu":
            from tscnc_deploy.engines.sparse_cpu import kind as sparse_cpu

            return sparse_cpu
