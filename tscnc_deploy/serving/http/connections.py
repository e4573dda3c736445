"""HTTP connections with limits that uvicorn does not have: on their number, and on how long one may be idle."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_CONTINUE = b"HTTP/1.1 100 "
# How long idle connections are kept when the server stops. A request that was on its way is still processed, and the
# response tells the client that the connection closes.
_LINGER_SECONDS = 0.5


class Connections:
    """The connections of one server; knows which of them wait for a request or the rest of one, and for how long.

    Clients that open connections and send nothing, or little, cannot keep others out: at the limit, a new connection
    replaces the one that has been waiting the longest. A connection whose request is being processed is never closed.

    Args:
        max_open: Largest number of connections.
        idle_timeout: Seconds within which the head of the next request must arrive, and then its body.
    """

    def __init__(self, max_open: int, idle_timeout: float) -> None:
        self._max_open = max_open
        self._idle_timeout = idle_timeout
        self._open = 0
        self._waiting: dict[_Connection, float] = {}

    def protocol(self, *args: Any, **options: Any) -> asyncio.Protocol:
        """A new connection; for `uvicorn.Config(http=...)`."""
        return _Connection(self, *args, **options)

    async def watch(self) -> None:
        """Closes connections that have been waiting for too long, until it is cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._idle_timeout / 2))
            latest = asyncio.get_running_loop().time() - self._idle_timeout
            while self._waiting and (first := next(iter(self._waiting.items())))[1] < latest:
                self._drop(first[0])

    def opened(self, connection: _Connection) -> None:
        """Adds a connection, closing another one at the limit."""
        self._open += 1
        self.start_waiting(connection)
        if self._open > self._max_open:
            self._drop(next(iter(self._waiting)))

    def closed(self, connection: _Connection) -> None:
        """Removes a connection."""
        self._open -= 1
        self.stop_waiting(connection)

    def start_waiting(self, connection: _Connection) -> None:
        """The connection now waits for its client."""
        self._waiting.pop(connection, None)  # moves it to the end
        self._waiting[connection] = asyncio.get_running_loop().time()

    def stop_waiting(self, connection: _Connection) -> None:
        """A complete request has arrived."""
        self._waiting.pop(connection, None)

    def _drop(self, connection: _Connection) -> None:
        self.stop_waiting(connection)
        connection.transport.abort()  # close() could wait for a client that does not read


class _Connection(HttpToolsProtocol):
    """A connection that tells `Connections` when it waits for its client."""

    def __init__(self, connections: Connections, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connections = connections
        self._leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._whole_responses = _WholeResponses(transport)
        super().connection_made(self._whole_responses)  # type: ignore[arg-type]
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.closed(self)
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        self._connections.start_waiting(self)
        super().on_headers_complete()
        self.cycle.keep_alive = self.cycle.keep_alive and not self._leaving

    def on_message_complete(self) -> None:
        if not self.cycle.response_complete:
            self._connections.stop_waiting(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._whole_responses.flush()
        if not self.pipeline:
            self._connections.start_waiting(self)
        super().on_response_complete()

    def shutdown(self) -> None:
        """Closes the connection after its last request, including one that is on its way."""
        if self._leaving or (self.cycle and not self.cycle.response_complete):
            super().shutdown()
        else:
            self._leaving = True
            self.loop.call_later(_LINGER_SECONDS, self.shutdown)


class _WholeResponses:
    """A transport that sends the head of a response together with its body, which uvicorn writes separately.

    This halves the system calls. It also prevents a deadlock in tritonclient's asynchronous HTTP client: the client
    keeps a connection busy from the head of a response until its caller asks for the body, and the caller may be
    waiting for the response to an earlier request, which waits for a connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends the data, or holds it back if it is the head of a response."""
        if data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n") and not data.startswith(_CONTINUE):
            self._head += data
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def flush(self) -> None:
        """Sends a head without a body."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Sends what has been held back, and closes."""
        self.flush()
        self._transport.close()
