"""One HTTP request and its response, as an ASGI application sees them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from starlette.types import Message, Scope

# Bytes of a body that are kept before the application asks for them.
HIGH_WATER = 1 << 16
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = (b"connection", b"close")
_NO_BODY = frozenset({204, 304})


class Exchange:
    """The `receive` and `send` of one request; the connection adds the body while it arrives.

    Args:
        scope: The ASGI scope of the request.
        keep_alive: Whether the client keeps the connection for another request.
        expects_continue: Whether the client waits with the body until it is asked for it.
        write: Sends bytes to the client.
        drain: Waits until the client has read most of what was sent.
        changed: Called when the application has taken a part of the body, and when the response is complete.
    """

    def __init__(
        self,
        scope: Scope,
        *,
        keep_alive: bool,
        expects_continue: bool,
        write: Callable[[bytes], None],
        drain: asyncio.Event,
        changed: Callable[[Exchange], None],
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.received = False
        self.responded = False
        self._expects_continue = expects_continue
        self._write = write
        self._drain = drain
        self._changed = changed
        self._body = bytearray()
        self._delivered = False
        self._disconnected = False
        self._news = asyncio.Event()
        self._start: Message | None = None
        self._parts: list[bytes] = []

    @property
    def is_full(self) -> bool:
        """Whether no more of the body should be read from the client for now."""
        return len(self._body) > HIGH_WATER

    def add(self, data: bytes) -> None:
        """Adds a part of the body; it is dropped if the response is complete already."""
        if not self.responded:
            self._body += data
            self._news.set()

    def end(self) -> None:
        """The body is complete."""
        self.received = True
        self._news.set()

    def disconnect(self) -> None:
        """The client is gone."""
        self._disconnected = True
        self._body.clear()
        self._news.set()

    async def receive(self) -> Message:
        """See the ASGI specification."""
        if self._expects_continue and not (self.received or self._disconnected or self._start):
            self._expects_continue = False
            self._write(CONTINUE)
        while not (self._body or self._disconnected or self.responded or (self.received and not self._delivered)):
            self._news.clear()
            await self._news.wait()
        if self._disconnected or self.responded:
            return {"type": "http.disconnect"}
        message = {"type": "http.request", "body": bytes(self._body), "more_body": not self.received}
        self._body.clear()
        self._delivered = self.received
        self._changed(self)  # which may add more
        return message

    async def send(self, message: Message) -> None:
        """See the ASGI specification; head and body of the response are sent together.

        This takes one system call instead of two. It also prevents a deadlock in tritonclient's asynchronous HTTP
        client: the client keeps a connection busy from the head of a response until its caller asks for the body, and
        the caller may be waiting for the response to an earlier request, which waits for a connection.

        Raises:
            RuntimeError: The message does not follow the specification.
        """
        if message["type"] == "http.response.start" and self._start is None:
            self._start = message
        elif message["type"] == "http.response.body" and self._start is not None and not self.responded:
            self._parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._respond(self._start)
        else:
            msg = f"the ASGI message {message['type']!r} is not expected here"
            raise RuntimeError(msg)

    async def _respond(self, start: Message) -> None:
        if not self._drain.is_set():
            await self._drain.wait()
        body = b"".join(self._parts)
        self._parts.clear()
        # What is left of the body would have to be read before the next request.
        self.keep_alive = self.keep_alive and self.received
        headers = list(start.get("headers", ()))
        status = start["status"]
        if b"content-length" not in {name for name, _ in headers} and status not in _NO_BODY:
            headers.append((b"content-length", str(len(body)).encode()))
        if not self.keep_alive:
            headers.append(_CLOSE)
        self.responded = True
        self._body.clear()
        self._news.set()
        if not self._disconnected:
            self._write(head(status, headers) + (b"" if self.scope["method"] == "HEAD" else body))
        self._changed(self)


def head(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The head of a response.

    Raises:
        RuntimeError: A header would end its line.
    """
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
        msg = "a header of the response contains a line break"
        raise RuntimeError(msg)
    return b"%bdate: %b\r\n%b\r\n" % (_status_line(status), _date(int(time.time())), lines)


@lru_cache(maxsize=64)
def _status_line(status: int) -> bytes:
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


@lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
