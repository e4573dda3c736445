"""The engine kind "remote": a model on any inference server that speaks the Open Inference Protocol."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from tscnc_deploy.engines.base import Array, CheckedEngine, EngineSpec
from tscnc_deploy.engines.remote.connection import connect
from tscnc_deploy.engines.remote.endpoint import Endpoint
from tscnc_deploy.engines.remote.transport import TemporaryError
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped

Answer = TypeVar("Answer")

_ATTEMPTS = 6
_FIRST_PAUSE = 0.1
# Used when a server does not report its largest batch; Triton's metadata does not include it.
_BATCH = 8
_MAX_BATCH = 256


class RemoteEngine(CheckedEngine):
    """A served model as an engine; use it from one thread at a time.

    A request to a server that is busy or unreachable is tried up to six times, with pauses from 0.1 to 1.6 seconds.

    Args:
        url: See `Endpoint`.
        token: Bearer token; None sends none.
        rate: Maximum images per second; None for no limit.
        max_queries: Maximum number of images sent in total, retries included; None for no limit.
        timeout: Timeout of one request in seconds.

    Raises:
        InputError: Not an address, no server responds, or the model does not map images to logits.
        UnavailableError: gRPC is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        rate: float | None = None,
        max_queries: int | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.endpoint = Endpoint.parse(url)
        self._transport = connect(self.endpoint, token=token, timeout=timeout)
        self._rate = rate
        self._max_queries = max_queries
        self._free_at = 0.0
        self.queries = 0
        self.metadata = self._insist(self._transport.metadata)
        source, result = self._tensors()
        self._names = (source["name"], result["name"])
        parameters = self.metadata.get("parameters")
        self.said: dict[str, Any] = parameters if isinstance(parameters, dict) else {}
        super().__init__(
            EngineSpec(
                name=self.endpoint.model,
                kind="remote",
                input_shape=tuple(source["shape"][1:]),
                classes=result["shape"][1],
                precision=_text(self.said.get("precision")),
                provider=self.endpoint.address,
                batch_max=_batch(self.said.get("max_batch"), source["shape"][0]),
            )
        )

    def _run(self, images: Array) -> Array:
        def infer() -> Array:
            self._count(len(images))
            return self._transport.infer(images, self._names, self.spec.classes)

        return self._insist(infer)

    def _count(self, images: int) -> None:
        """Enforces the query limit and the rate."""
        if self._max_queries is not None and self.queries + images > self._max_queries:
            msg = (
                f"{self.endpoint.url}: {self.queries} of {self._max_queries} queries are used, and the next request "
                f"needs {images}; raise --max-queries, or reduce --budget or --samples"
            )
            raise InputError(msg)
        self.queries += images
        if self._rate:
            now = time.monotonic()
            time.sleep(max(self._free_at - now, 0))
            self._free_at = max(self._free_at, now) + images / self._rate

    def _insist(self, ask: Callable[[], Answer]) -> Answer:
        for attempt in range(_ATTEMPTS):
            try:
                return ask()
            except TemporaryError as error:
                last = error
            if attempt + 1 < _ATTEMPTS:
                time.sleep(_FIRST_PAUSE * 2**attempt)
        msg = f"{self.endpoint.url}: no response after {_ATTEMPTS} attempts: {last}"
        raise InputError(msg) from last

    def _tensors(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The one input and the one output."""
        found = []
        for key, dimensions in (("inputs", 4), ("outputs", 2)):
            tensors = self.metadata.get(key)
            first = tensors[0] if isinstance(tensors, list) and len(tensors) == 1 else None
            if not isinstance(first, dict) or not _is_tensor(first, dimensions):
                form = "[N, C, H, W]" if dimensions == 4 else "[N, K]"
                said = escaped(repr(tensors), 300)
                msg = f"{self.endpoint.url}: must have exactly one FP32 {form} as its {key}, but has {said}"
                raise InputError(msg)
            found.append(first)
        return found[0], found[1]


def _is_tensor(tensor: dict[str, Any], dimensions: int) -> bool:
    shape = tensor.get("shape")
    return (
        isinstance(tensor.get("name"), str)
        and tensor.get("datatype") == "FP32"
        and isinstance(shape, list)
        and len(shape) == dimensions
        and all(type(size) is int for size in shape)
        and all(0 < size <= 1 << 16 for size in shape[1:])
    )


def _batch(said: object, dimension: int) -> int:
    if dimension > 0:
        return min(dimension, _MAX_BATCH)
    return min(said, _MAX_BATCH) if type(said) is int and said > 0 else _BATCH


def _text(said: object) -> str:
    return said if isinstance(said, str) and len(said) < 100 and said.isprintable() else "unknown"
