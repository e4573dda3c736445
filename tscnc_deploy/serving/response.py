"""A response as both transports write it: logits, or the top classes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tscnc_deploy.engines.base import Array
from tscnc_deploy.serving.request import Output


@dataclass(frozen=True, eq=False)
class InferResponse:
    """The response to an inference request.

    Attributes:
        model: Name of the model.
        version: Version of the model.
        id: ID of the request; empty if it had none.
        logits: float32 [N, K].
        output: The form in which the client wants them.
        classes: Names of the K classes.
    """

    model: str
    version: str
    id: str
    logits: Array
    output: Output
    classes: tuple[str, ...]

    @property
    def datatype(self) -> str:
        """FP32 for logits, BYTES for classes."""
        return "FP32" if self.output.top is None else "BYTES"

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K), or (N, number of requested classes)."""
        count, classes = self.logits.shape
        return count, classes if self.output.top is None else min(self.output.top, classes)

    def to_bytes(self) -> bytes:
        """Binary form: little-endian float32, or strings that follow their length in four bytes."""
        if self.output.top is None:
            return np.ascontiguousarray(self.logits, "<f4").tobytes()
        return b"".join(struct.pack("<I", len(text)) + text for text in self._ranked)

    def to_list(self) -> Array | list[str]:
        """Flat values for JSON."""
        if self.output.top is None:
            return np.ascontiguousarray(self.logits).reshape(-1)
        return [text.decode() for text in self._ranked]

    @cached_property
    def _ranked(self) -> list[bytes]:
        """LOGIT:INDEX:LABEL of the top classes of every image, best first, the form of the classification extension."""
        order = np.argsort(-self.logits, axis=1, kind="stable")[:, : self.shape[1]]
        return [
            f"{row[index]:f}:{index}:{self.classes[index]}".encode()
            for row, indices in zip(self.logits, order, strict=True)
            for index in indices
        ]
