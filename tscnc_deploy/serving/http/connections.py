"""The open HTTP connections: limits on their number and on how long one may be idle."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Droppable(Protocol):
    """A connection as `Connections` knows it."""

    def drop(self) -> None:
        """Closes the connection at once."""

    def shutdown(self) -> None:
        """Closes the connection after its last request."""


class Connections:
    """The connections of one server; knows which of them wait for their client, and for how long.

    Clients that open connections and send nothing, or little, or do not read what they are sent, cannot keep others
    out: at the limit, a new connection replaces the one that has been waiting the longest. A connection whose request
    is being processed is never closed.

    Args:
        max_open: Largest number of connections.
        idle_timeout: Seconds within which the head of the next request must arrive, and then its body.
    """

    def __init__(self, max_open: int, idle_timeout: float) -> None:
        self._max_open = max_open
        self._idle_timeout = idle_timeout
        self._open: set[Droppable] = set()
        self._waiting: dict[Droppable, float] = {}
        self._none_left = asyncio.Event()

    async def watch(self) -> None:
        """Closes connections that have been waiting for too long, until it is cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._idle_timeout / 2))
            latest = asyncio.get_running_loop().time() - self._idle_timeout
            while self._waiting and (first := next(iter(self._waiting.items())))[1] < latest:
                self._drop(first[0])

    async def shutdown(self, seconds: float) -> None:
        """Closes every connection after its last request, and those that are left after so many seconds."""
        for connection in list(self._open):
            connection.shutdown()
        if self._open:
            self._none_left.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._none_left.wait()
            except TimeoutError:
                for connection in list(self._open):
                    self._drop(connection)

    def opened(self, connection: Droppable) -> None:
        """Adds a connection, closing another one at the limit."""
        self._open.add(connection)
        self.start_waiting(connection)
        if len(self._open) > self._max_open:
            self._drop(next(iter(self._waiting)))

    def closed(self, connection: Droppable) -> None:
        """Removes a connection."""
        self._open.discard(connection)
        self.stop_waiting(connection)
        if not self._open:
            self._none_left.set()

    def start_waiting(self, connection: Droppable) -> None:
        """The connection now waits for its client."""
        self._waiting.pop(connection, None)  # moves it to the end
        self._waiting[connection] = asyncio.get_running_loop().time()

    def stop_waiting(self, connection: Droppable) -> None:
        """A complete request has arrived."""
        self._waiting.pop(connection, None)

    def _drop(self, connection: Droppable) -> None:
        self.stop_waiting(connection)
        connection.drop()
