"""Accepts connections. With TLS, the number of those that are still in their handshake is limited."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

_log = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections that may wait to be accepted."""
# Each takes 60 kB until it ends, normally after a few round trips.
_MOST_HANDSHAKES = 128
_HANDSHAKE_SECONDS = 10.0
# Before another try, if there is no file descriptor left.
_RETRY_SECONDS = 0.1


class Listening:
    """Accepts connections from a socket until it is closed.

    A connection counts for the server's limit on connections once its handshake is done. Until then, clients that open
    connections and send nothing cannot keep others out either: at the limit, a new connection replaces the one whose
    handshake began first.

    Args:
        listener: Bound and listening; belongs to this object from now on.
        protocol: Makes the protocol of each connection.
        context: Enables TLS.
    """

    def __init__(
        self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol], context: ssl.SSLContext | None
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._context = context
        self._server: asyncio.Server | None = None
        self._accepting: asyncio.Task[None] | None = None
        # In the order in which they began.
        self._handshakes: dict[asyncio.Task[None], None] = {}

    async def start(self) -> None:
        """Begins to accept connections."""
        loop = asyncio.get_running_loop()
        if self._context is None:
            self._server = await loop.create_server(self._protocol, sock=self._listener, backlog=BACKLOG)
        else:
            self._listener.setblocking(False)
            self._accepting = loop.create_task(self._accept())

    def close(self) -> None:
        """Accepts no more connections; those that are open stay so, but for unfinished handshakes."""
        if self._server:
            self._server.close()
        if self._accepting:
            self._accepting.cancel()
            self._listener.close()
        for handshake in list(self._handshakes):
            handshake.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # no descriptor is left, or the client is gone already
                _log.warning("a connection cannot be accepted: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if len(self._handshakes) >= _MOST_HANDSHAKES:
                first = next(iter(self._handshakes))
                # At once, since it ends only when the loop comes round.
                del self._handshakes[first]
                first.cancel()
            handshake = loop.create_task(self._shake_hands(accepted))
            self._handshakes[handshake] = None
            handshake.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _shake_hands(self, accepted: socket.socket) -> None:
        # Whatever is wrong with it is the client's fault or the network's, and the connection is closed.
        with suppress(OSError, TimeoutError):
            try:
                await asyncio.get_running_loop().connect_accepted_socket(
                    self._protocol, accepted, ssl=self._context, ssl_handshake_timeout=_HANDSHAKE_SECONDS
                )
            except BaseException:
                accepted.close()
                raise
