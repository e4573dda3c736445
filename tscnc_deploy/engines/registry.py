"""Which engine kinds there are: the one place where a target becomes files, and files become an engine.

A new kind is a module that follows `EngineKind`, its name in `Target.engine`, and an entry in `_kind`. Modules are
imported when they are asked for, as some need packages that are optional.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.engines.base import Engine
from tscnc_deploy.engines.kind import EngineFiles, EngineKind, ExportAids
from tscnc_deploy.engines.target import Target, load_target, read_target, write_target
from tscnc_deploy.errors import InputError, StorageError
from tscnc_deploy.files import Read, read_file

if TYPE_CHECKING:
    from torch import nn

_TARGET = "target.json"
# What engines have no kernels for, by their kind and the architecture that needs them.
_NO_KERNELS = {("sparse-cpu", "vit-tiny"): "attention and layer norms"}


def export_engine(
    model: nn.Module,
    target: Target,
    folder: str | Path,
    *,
    input_shape: tuple[int, int, int],
    aids: ExportAids | None = None,
) -> EngineFiles:
    """Writes the engine of a target, and the target itself, so that the folder opens without the user's TOML.

    Args:
        model: Maps float32 images [N, C, H, W] in [0, 1] to logits [N, K]; not changed.
        target: What to write.
        folder: Where; made if it is not there.
        input_shape: (C, H, W).
        aids: See `ExportAids`.

    Raises:
        InputError: The model cannot be exported, or the precision of the written engine is not the target's.
        StorageError: The folder cannot be written.
        UnavailableError: Writing it needs a package or hardware that is missing.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder}: cannot be made: {error.strerror}"
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
        target: What it was written for; by default what the folder itself says.
        threads: CPU threads of one call; None leaves it to the runtime.
        rebuild: An engine that was built for other GPUs or by another version is built anew from the ONNX file beside
            it and compared with that file before it is used, as if its target were portable. TensorRT only.
        read: Gives the content of every file that is used.

    Raises:
        InputError: A file is missing, damaged or hostile, or the precision read back from it is not the target's.
        UnavailableError: This machine cannot run it; the message says what to install.
    """
    folder = Path(folder)
    if target is None:
        target = read_exported_target(folder, read)
    engine = _kind(target).open_engine(folder, target, threads=threads, rebuild=rebuild, read=read)
    if engine.spec.precision != target.precision:
        msg = f"{folder}: the engine computes in {engine.spec.precision}, the target asks for {target.precision}"
        raise InputError(msg)
    return engine


def check_architecture(arch: str, targets: Sequence[str]) -> None:
    """Refuses targets whose engine does not run an architecture, which otherwise only its export would tell.

    Args:
        arch: One of `names.ARCHITECTURES`.
        targets: See `load_target`.

    Raises:
        InputError: There are such targets; the message says how to leave them out.
    """
    reasons = {name: _NO_KERNELS.get((load_target(name).engine, arch)) for name in targets}
    refused = [
        f"target {name}: its engine has no kernels for the {what} of {arch}" for name, what in reasons.items() if what
    ]
    if refused:
        others = [name for name, what in reasons.items() if not what] or ["onnx-cpu"]
        options, listed = (" ".join(f"--target {name}" for name in others), ", ".join(f'"{name}"' for name in others))
        msg = "\n".join([*refused, f"name only those that do: {options}, or export.targets = [{listed}] in the recipe"])
        raise InputError(msg)


def can_export(target: Target) -> str | None:
    """Why this machine cannot write engines of a target, with the command that would help; None if it can."""
    return _kind(target).can_export(target)


def read_exported_target(folder: Path, read: Read = read_file) -> Target:
    """The target that an exported engine was written for.

    Raises:
        InputError: The folder holds none.
    """
    return read_target(folder / _TARGET, read)


def can_run(target: Target) -> str | None:
    """Why this machine cannot run engines of a target, with the command that would help; None if it can."""
    return _kind(target).can_run(target)


def engine_facts(folder: str | Path) -> dict[str, Any]:
    """What an exported engine says about itself without being opened, for records: JSON.

    Returns:
        "kind", "precision" and "bytes" (of the file that the engine opens), and for TensorRT "made_for" (the GPUs)
        and "build" (everything that is known of how it was built, see `tensorrt.facts.Facts`).

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
