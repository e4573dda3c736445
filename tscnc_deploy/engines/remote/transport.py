"""The interface of a connection from the engine kind "remote" to a server."""

from __future__ import annotations

from typing import Any, Protocol

from tscnc_deploy.engines.base import Array


class TemporaryError(Exception):
    """The server cannot respond now, but a retry may succeed."""


class Transport(Protocol):
    """One connection to a server, used by one thread at a time.

    Both methods raise TemporaryError if a retry may help, otherwise InputError.
    """

    def metadata(self) -> dict[str, Any]:
        """Metadata of the model: "inputs" and "outputs" with name, datatype and shape; HTTP returns more."""
        ...

    def infer(self, images: Array, tensors: tuple[str, str], classes: int) -> Array:
        """Logits [N, classes] of images; `tensors` holds the names of the input and the output."""
        ...
