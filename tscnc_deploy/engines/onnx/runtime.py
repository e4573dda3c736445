"""An ONNX file that onnxruntime runs, on a CPU or an NVIDIA GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tscnc_deploy.engines.base import Array, CheckedEngine, EngineSpec
from tscnc_deploy.engines.onnx.batch import needs_single_images, require_independent_images
from tscnc_deploy.engines.onnx.file import CONTRIB, parse_onnx
from tscnc_deploy.engines.onnx.limits import MAX_BYTES
from tscnc_deploy.engines.onnx.memory import largest_batch
from tscnc_deploy.engines.onnx.session import CPU, one_line, open_session
from tscnc_deploy.engines.onnx.signature import signature_of
from tscnc_deploy.engines.onnx.structure import structure_of
from tscnc_deploy.errors import InputError
from tscnc_deploy.files import Read, read_file

_FEW = 32


class OnnxRuntimeEngine(CheckedEngine):
    """An ONNX file opened by onnxruntime.

    Args:
        path: Sparse or dense file with one float32 input [batch, C, H, W] and one float32 output [batch, K].
        name: Name of the target; the file's name without its suffix by default.
        provider: "CPUExecutionProvider" or "CUDAExecutionProvider"; there is no fallback to another one.
        threads: Threads of one call; None uses `threads.thread_count`.
        batch_min: Shorter batches are padded to this many images.
        batch_max: Longer batches are split, and shorter ones too if they would need too much memory, see `onnx.memory`.
            A file with a fixed batch size overrides both. A dynamically quantised file is given one image at a time.
        read: Returns the file's content.
        contrib: Whether the file may contain operators of onnxruntime's own, whose sizes and axes are known only in
            part: it is given at most 32 images at a time, and its independence of batches shows only by trying.

    Raises:
        InputError: The file is missing, truncated, malicious or not an ONNX file, has other inputs or outputs, or
            gives an image an answer that depends on the other images of the batch, see `onnx.batch`.
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
        contrib: bool = False,
    ) -> None:
        self._path = Path(path)
        data = read(self._path, MAX_BYTES)
        model = parse_onnx(data, path, contrib=contrib)
        self._signature = signature_of(model, self._path)
        known = all(node.domain != CONTRIB for node in model.graph.node)
        fits = largest_batch(model, self._signature, self._path) if known else _FEW
        self._session = open_session(data, self._path, provider, threads)
        if known:
            require_independent_images(model, self._signature, self._path)
        single = needs_single_images(model, self._signature, self._path)
        if single:
            batch_min = fits = 1
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
                single_images=single,
            )
        )

    def _run(self, images: Array) -> Array:
        try:
            (logits,) = self._session.run(
                [self._signature.output], {self._signature.input: np.ascontiguousarray(images)}
            )
        except Exception as error:  # onnxruntime's exceptions have no common base class
            msg = f"{self._path}: onnxruntime cannot run it on a batch of {len(images)}: {one_line(error)}"
            raise InputError(msg) from error
        if logits.shape != (len(images), self.spec.classes):
            expected = [len(images), self.spec.classes]
            msg = f"{self._path}: returned logits of the shape {list(logits.shape)} instead of {expected}"
            raise InputError(msg)
        return logits
