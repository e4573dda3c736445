"""The error that ends a request, with its HTTP and gRPC status."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Why a request failed: the HTTP status and the name of the gRPC status."""

    BAD_REQUEST = (400, "INVALID_ARGUMENT")
    UNAUTHENTICATED = (401, "UNAUTHENTICATED")
    NOT_FOUND = (404, "NOT_FOUND")
    TOO_SLOW = (408, "DEADLINE_EXCEEDED")
    TOO_LARGE = (413, "INVALID_ARGUMENT")
    MISDIRECTED = (421, "INVALID_ARGUMENT")
    BUSY = (429, "RESOURCE_EXHAUSTED")
    FAILED = (500, "INTERNAL")
    UNAVAILABLE = (503, "UNAVAILABLE")
    DEADLINE = (504, "DEADLINE_EXCEEDED")

    @property
    def http(self) -> int:
        """The HTTP status."""
        return self.value[0]

    @property
    def grpc(self) -> str:
        """The gRPC status, the name of a member of `grpc.StatusCode`."""
        return self.value[1]


NO_MEMORY = "the server has not enough memory for this request; try again later"


class RequestError(Exception):
    """A request that gets an error instead of a response. Clients see the message, so it must not expose internals."""

    def __init__(self, message: str, reason: Reason = Reason.BAD_REQUEST) -> None:
        super().__init__(message)
        self.reason = reason
