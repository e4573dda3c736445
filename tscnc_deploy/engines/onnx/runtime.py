"""The engine kind "onnxruntime": exports a model to ONNX files and opens them again, on a CPU or an NVIDIA GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tscnc_deploy.engines.base import Array, CheckedEngine, EngineSpec
from tscnc_deploy.engines.kind import EngineFiles, ExportAids
from tscnc_deploy.engines.onnx.file import MAX_BYTES, parse_onnx, read_onnx, write_onnx
from tscnc_deploy.engines.onnx.memory import largest_batch
from tscnc_deploy.engines.onnx.session import CPU, one_line, open_session, require
from tscnc_deploy.engines.onnx.signature import signature_of
from tscnc_deploy.engines.onnx.structure import structure_of
from tscnc_deploy.engines.target import Target
from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.files import Read, read_file

if TYPE_CHECKING:
    from torch import nn

_MODEL = "model.onnx"


class OnnxRuntimeEngine(CheckedEngine):
    """An ONNX file opened by onnxruntime.

    Args:
        path: Sparse or dense file with one float32 input [batch, C, H, W] and one float32 output [batch, K].
        name: Name of the target; the file's name without its suffix by default.
        provider: "CPUExecutionProvider" or "CUDAExecutionProvider"; no other is used in its place.
        threads: Threads of one call; None takes one per physical core.
        batch_min: Shorter batches are padded to this many images.
        batch_max: Longer batches are split, and sooner where they would take too much memory, see `onnx_memory`. A file
            with a fixed batch size overrides both.
        read: Gives the file's content.

    Raises:
        InputError: The file is missing, no ONNX file, truncated, hostile, or has other inputs or outputs.
        UnavailableError: The provider does not work on this machine; the message says what to install.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        provider: str = CPU,
        threads: int | None = None,
        batch_min: int = 1,
        batch_max: int = 256,
        read: Read = read_file,
    ) -> None:
        self._path = Path(path)
        data = read(self._path, MAX_BYTES)
        model = parse_onnx(data, path)
        self._signature = signature_of(model, self._path)
        fits = largest_batch(model, self._signature, self._path)
        self._session = open_session(data, self._path, provider, threads)
        batch = self._signature.batch
        super().__init__(
            EngineSpec(
                name=name or self._path.stem,
                kind="onnxruntime",
                input_shape=self._signature.input_shape,
                classes=self._signature.classes,
                precision=structure_of(model).precision,
                provider=provider,
                batch_min=batch or batch_min,
                batch_max=min(batch or batch_max, fits),
            )
        )

    def _run(self, images: Array) -> Array:
        try:
            (logits,) = self._session.run(
                [self._signature.output], {self._signature.input: np.ascontiguousarray(images)}
            )
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            msg = f"{self._path}: onnxruntime cannot run it on a batch of {len(images)}: {one_line(error)}"
            raise InputError(msg) from error
        if logits.shape != (len(images), self.spec.classes):
            expected = [len(images), self.spec.classes]
            msg = f"{self._path}: gave logits of the shape {list(logits.shape)} instead of {expected}"
            raise InputError(msg)
        return logits


def export_engine(
    model: nn.Module, target: Target, folder: Path, *, input_shape: tuple[int, int, int], aids: ExportAids
) -> EngineFiles:
    """Writes model.dense.onnx and model.onnx, the sparse or 8-bit form as the target says, see `registry`."""
    # Opening an exported file needs no PyTorch, which takes seconds to import.
    from tscnc_deploy.engines.onnx.export import export_onnx
    from tscnc_deploy.engines.onnx.int8 import write_int8
    from tscnc_deploy.engines.onnx.sparse import write_sparse

    files = EngineFiles(model=folder / _MODEL, graph=folder / _MODEL, dense=folder / "model.dense.onnx")
    export_onnx(model, files.dense, input_shape=input_shape, batch_example=target.batch_example)
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
    """Opens model.onnx as the target says, see `registry.open_engine`; an ONNX file needs no rebuilding."""
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
    """Nothing: ONNX files are written anywhere, see `registry.can_export`."""
    return None


def can_run(target: Target) -> str | None:
    """Why this machine cannot run the target's provider, see `registry.can_run`."""
    try:
        require(target.provider)
    except UnavailableError as error:
        return str(error)
    return None


def facts(folder: Path) -> dict[str, Any]:
    """The size of the file, see `registry.engine_facts`."""
    return {"bytes": (folder / _MODEL).stat().st_size}
