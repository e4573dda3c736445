"""What the engine kind "remote" asks of a connection to a server."""

from __future__ import annotations

from typing import Any, Protocol

from tscnc_deploy.engines.base import Array


class TemporaryError(Exception):
    """The server cannot answer now, and may later."""


class Transport(Protocol):
    """One connection to a server, used by one thread at a time.

    Both methods raise TemporaryError, or InputError for what will not change.
    """

    def metadata(self) -> dict[str, Any]:
        """What the server says of the model: "inputs" and "outputs" with name, datatype and shape; HTTP says more."""
        ...

    def infer(self, images: Array, tensors: tuple[str, str], classes: int) -> Array:
        """Logits [N, classes] of images; `tensors` are the names of input and output."""
        ...
