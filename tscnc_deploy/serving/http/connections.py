"""HTTP connections with bounds that uvicorn does not set: how many there are, and how long one may say nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_CONTINUE = b"HTTP/1.1 100 "
# How long an idle connection is kept when the server stops: what its client has just sent is answered, and the answer
# tells it to go elsewhere.
_LINGER_SECONDS = 0.5


class Connections:
    """The connections of one server; those that wait for a request or the rest of it, the longest waiting first.

    Nobody is kept out by strangers who open connections and say nothing, or little: where there are too many, the one
    that has waited for longest makes room; one whose request is being answered never does.

    Args:
        most: Connections at a time.
        patience: Seconds until the head of the next request must have come, and then until its body must have.
    """

    def __init__(self, most: int, patience: float) -> None:
        self._most = most
        self._patience = patience
        self._open = 0
        self._waiting: dict[_Connection, float] = {}

    def protocol(self, *args: Any, **options: Any) -> asyncio.Protocol:
        """A new connection; for `uvicorn.Config(http=...)`."""
        return _Connection(self, *args, **options)

    async def watch(self) -> None:
        """Closes what has waited for too long, until it is cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._patience / 2))
            latest = asyncio.get_running_loop().time() - self._patience
            while self._waiting and (first := next(iter(self._waiting.items())))[1] < latest:
                self._drop(first[0])

    def opened(self, connection: _Connection) -> None:
        """Counts a connection, and makes room for it."""
        self._open += 1
        self.waits(connection)
        if self._open > self._most:
            self._drop(next(iter(self._waiting)))

    def closed(self, connection: _Connection) -> None:
        """No longer counts a connection."""
        self._open -= 1
        self.asks(connection)

    def waits(self, connection: _Connection) -> None:
        """From now on the connection waits for its client."""
        self._waiting.pop(connection, None)  # to the end
        self._waiting[connection] = asyncio.get_running_loop().time()

    def asks(self, connection: _Connection) -> None:
        """A request has come, all of it."""
        self._waiting.pop(connection, None)

    def _drop(self, connection: _Connection) -> None:
        self.asks(connection)
        connection.transport.abort()  # to close it could wait for a client that does not read


class _Connection(HttpToolsProtocol):
    """One of them."""

    def __init__(self, connections: Connections, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connections = connections
        self._leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._whole = _WholeAnswers(transport)
        super().connection_made(self._whole)  # type: ignore[arg-type]
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.closed(self)
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        self._connections.waits(self)
        super().on_headers_complete()
        self.cycle.keep_alive = self.cycle.keep_alive and not self._leaving

    def on_message_complete(self) -> None:
        if not self.cycle.response_complete:
            self._connections.asks(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._whole.flush()
        if not self.pipeline:
            self._connections.waits(self)
        super().on_response_complete()

    def shutdown(self) -> None:
        """Lets the last request finish, also one that is on its way."""
        if self._leaving or (self.cycle and not self.cycle.response_complete):
            super().shutdown()
        else:
            self._leaving = True
            self.loop.call_later(_LINGER_SECONDS, self.shutdown)


class _WholeAnswers:
    """A transport that sends the head of an answer together with its body, which uvicorn writes one after the other.

    That is half the system calls. And clients of tritonclient's asynchronous kind wait for ever where the two come
    apart: they keep a connection from the head of an answer until somebody asks for its body, while that somebody may
    wait for an answer to an earlier request, which waits for the connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends the data, or keeps it if it is the head of an answer."""
        if data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n") and not data.startswith(_CONTINUE):
            self._head += data
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def flush(self) -> None:
        """Sends a head that no body follows."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Sends what is left, and closes."""
        self.flush()
        self._transport.close()
