"""The messages that are arriving, which together have a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from tscnc_deploy.serving.errors import Reason, RequestError

# Bytes of all messages that are arriving, unless four of the largest need more.
_MAX_ARRIVING = 64 << 20
# How long a message waits for others to arrive before it takes the place of the oldest.
_PATIENCE = 1.0


class Arriving:
    """Reads messages, only so many at a time: gRPC keeps what has arrived of each, and tells nobody how much that is.

    Clients that send all but the last byte of many messages keep nobody out: whoever has waited for a second takes the
    place of the message that has been arriving for the longest.

    Args:
        largest: Bytes of the largest message.
        seconds: Seconds within which a message must arrive.
    """

    def __init__(self, largest: int, seconds: float) -> None:
        self._places = asyncio.Semaphore(max(_MAX_ARRIVING // largest, 4))
        self._seconds = seconds
        # In the order in which they began.
        self._reads: dict[asyncio.Timeout, None] = {}

    async def read(self, requests: AsyncIterator[bytes]) -> bytes:
        """The only message of a call.

        Raises:
            RequestError: There is none, or it does not arrive in time.
        """
        await self._take_place()
        try:
            async with asyncio.timeout(self._seconds) as arriving:
                self._reads[arriving] = None
                try:
                    return await anext(requests)
                finally:
                    self._reads.pop(arriving, None)
        except TimeoutError:
            msg = f"the message did not arrive within {self._seconds:g} seconds, or before newer ones took its memory"
            raise RequestError(msg, Reason.TOO_SLOW) from None
        except StopAsyncIteration:
            msg = "the call has no message"
            raise RequestError(msg) from None
        finally:
            self._places.release()

    async def _take_place(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._places.acquire()
        except TimeoutError:
            if self._reads:
                oldest = next(iter(self._reads))
                del self._reads[oldest]
                oldest.reschedule(asyncio.get_running_loop().time())
            await self._places.acquire()
