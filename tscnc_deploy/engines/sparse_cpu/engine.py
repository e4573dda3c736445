"""The engine: runs a sparse or dense ONNX file with the compiled core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tscnc_deploy.engines.base import Array, CheckedEngine, EngineSpec
from tscnc_deploy.engines.onnx.batch import require_independent_images
from tscnc_deploy.engines.onnx.file import parse_onnx
from tscnc_deploy.engines.onnx.limits import MAX_BYTES
from tscnc_deploy.engines.onnx.memory import largest_batch
from tscnc_deploy.engines.onnx.signature import signature_of
from tscnc_deploy.engines.onnx.structure import structure_of
from tscnc_deploy.engines.sparse_cpu.library import Core
from tscnc_deploy.engines.sparse_cpu.lowering import lower
from tscnc_deploy.engines.sparse_cpu.program import write_program
from tscnc_deploy.errors import InputError
from tscnc_deploy.files import Read, read_file
from tscnc_deploy.threads import thread_count


class SparseCpuEngine(CheckedEngine):
    """An ONNX file that runs without computing its zero weights.

    Logits are float32 and equal onnxruntime's up to the order of sums. The same images in the same batch give the same
    bits with the same number of threads and the same instruction set.

    Args:
        path: Sparse or dense file with one float32 input [batch, C, H, W] and one float32 output [batch, K].
        name: Name of the target; the file's name without its suffix by default.
        instructions: "auto", or one of `library.INSTRUCTIONS` to force it.
        threads: Threads of one call; None uses `threads.thread_count`.
        batch_min: Shorter batches are padded to this many images.
        batch_max: Longer batches are split, and shorter ones too if they would need too much memory, see `onnx.memory`.
            A file with a fixed batch size overrides both.
        read: Returns the file's content.

    Raises:
        InputError: The file is missing, truncated, malicious, not an ONNX file, not an image classifier, or contains an
            operator that this engine does not support; the message names the node and the target to use instead.
        UnavailableError: The core was not built, or the processor lacks the instruction set.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        instructions: str = "auto",
        threads: int | None = None,
        batch_min: int = 1,
        batch_max: int = 256,
        read: Read = read_file,
    ) -> None:
        self._path = Path(path)
        model = parse_onnx(read(self._path, MAX_BYTES), path)
        signature = signature_of(model, self._path)
        fits = largest_batch(model, signature, self._path)
        program = write_program(lower(model, self._path))
        require_independent_images(model, signature, self._path)
        try:
            self._core = Core(program, instructions, threads or thread_count())
        except InputError as error:
            msg = f"{self._path}: {error}"
            raise InputError(msg) from error
        batch = signature.batch
        super().__init__(
            EngineSpec(
                name=name or self._path.stem,
                kind="sparse-cpu",
                input_shape=signature.input_shape,
                classes=signature.classes,
                precision=structure_of(model).precision,
                provider=self._core.instructions,
                batch_min=batch or batch_min,
                batch_max=min(batch or batch_max, fits),
            )
        )

    def describe(self, images: int = 1) -> dict[str, Any]:
        """The core's steps to compute `images` images at once, which is a power of two up to the vector width."""
        return self._core.describe(images)

    def _run(self, images: Array) -> Array:
        try:
            return self._core.run(np.ascontiguousarray(images), self.spec.classes)
        except InputError as error:
            msg = f"{self._path}: a batch of {len(images)}: {error}"
            raise InputError(msg) from error
