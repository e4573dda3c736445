"""Inference over HTTP, the call that clients make thousands of times per second."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import Receive, Scope, Send

from tscnc_deploy.open_inference import HEADER_LENGTH
from tscnc_deploy.serving.errors import Reason, RequestError
from tscnc_deploy.serving.http.codec import parse_body, write_body
from tscnc_deploy.serving.response import InferResponse
from tscnc_deploy.serving.service import LoadedModel, Service

CLIENT_GONE = 499
# Processing a request for a client that has disconnected is cheaper than watching the connection for this long.
_UNWATCHED_SECONDS = 0.02
# Bytes of all bodies that are arriving, unless the largest one needs more.
_MAX_ARRIVING = 64 << 20


class HttpInfer:
    """An ASGI application for a route with the parameters "name" and, optionally, "version".

    Uses plain ASGI: Starlette's requests and responses would double the cost of the code here.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._bodies = _Bodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request.

        Raises:
            RequestError: The request is invalid or cannot be processed.
        """
        headers = dict(scope["headers"])
        limit = self._service.limits.max_body
        max_bytes = limit or self._find(scope).validator.max_body
        body = await self._body(headers, receive, max_bytes)
        # No await from here until the request is queued, so that a reload cannot close this version in between.
        loaded = self._find(scope)
        length = headers.get(_HEADER_LENGTH)
        parsed = parse_body(body, None if length is None else length.decode("latin-1"), loaded.validator, limit)
        response = await _while_connected(receive, self._service.infer(loaded, parsed))
        if response is None:
            await _send(send, CLIENT_GONE, [], b"")
            return
        data, json_length = write_body(response)
        if json_length is None:
            await _send(send, 200, [(b"content-type", b"application/json")], data)
        else:
            sizes = (_HEADER_LENGTH, str(json_length).encode())
            await _send(send, 200, [(b"content-type", b"application/octet-stream"), sizes], data)

    def _find(self, scope: Scope) -> LoadedModel:
        parameters = scope["path_params"]
        return self._service.find(parameters["name"], parameters.get("version", ""))

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, max_bytes: int) -> bytes | bytearray:
        """Reads the body, keeping at most `max_bytes` in memory.

        Raises:
            RequestError: The body is too long, too slow or compressed, or the client disconnected.
        """
        if headers.get(b"content-encoding", b"identity") != b"identity":
            msg = "Content-Encoding is not supported; send the body uncompressed"
            raise RequestError(msg)
        too_large = f"the body may have at most {max_bytes} bytes"
        if int(headers.get(b"content-length", b"0")) > max_bytes:
            raise RequestError(too_large, Reason.TOO_LARGE)
        seconds = self._service.limits.body_timeout
        # Grown in place, as pieces of many bodies would leave holes between them.
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(seconds) as arriving:
                with self._bodies.counted(arriving):
                    while more:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            msg = "the body ended before its Content-Length"
                            raise RequestError(msg)
                        chunk, more = message.get("body", b""), message.get("more_body", False)
                        if len(body) + len(chunk) > max_bytes:
                            more = True
                            raise RequestError(too_large, Reason.TOO_LARGE)
                        if not (body or more):
                            return chunk
                        body += chunk
                        self._bodies.add(arriving, len(chunk), max(_MAX_ARRIVING, 4 * max_bytes))
        except TimeoutError:
            msg = f"the body did not arrive within {seconds:g} seconds, or before newer ones took its memory"
            raise RequestError(msg, Reason.TOO_SLOW) from None
        finally:
            if more:  # the error refers to this frame, and would keep the body until the next garbage collection
                body.clear()
        return body


_HEADER_LENGTH = HEADER_LENGTH.lower().encode()


class _Bodies:
    """The bodies that are arriving, which together have a limit; at the limit, the oldest one makes room.

    So clients that send all but the last byte of many bodies take neither the memory nor the place of others.
    """

    def __init__(self) -> None:
        self._bytes: dict[asyncio.Timeout, int] = {}
        self._total = 0

    @contextmanager
    def counted(self, arriving: asyncio.Timeout) -> Iterator[None]:
        """Context in which a body arrives; the timeout ends it."""
        self._bytes[arriving] = 0
        try:
            yield
        finally:
            self._remove(arriving)

    def add(self, arriving: asyncio.Timeout, count: int, limit: int) -> None:
        """Counts bytes of a body; ends the oldest bodies if all have more than `limit` bytes."""
        if arriving not in self._bytes:  # it is being ended
            return
        self._bytes[arriving] += count
        self._total += count
        while self._total > limit:
            oldest = next(iter(self._bytes))
            self._remove(oldest)
            oldest.reschedule(asyncio.get_running_loop().time())

    def _remove(self, arriving: asyncio.Timeout) -> None:
        self._total -= self._bytes.pop(arriving, 0)


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, InferResponse]) -> InferResponse | None:
    """The response, or None if the client disconnects first, which cancels the work."""
    loop = asyncio.get_running_loop()
    watches: list[asyncio.Task[None]] = []

    async def watch() -> None:
        await receive()  # after the whole body, the next message is the disconnection
        connected.reschedule(loop.time())

    timer = loop.call_later(_UNWATCHED_SECONDS, lambda: watches.append(loop.create_task(watch())))
    try:
        async with asyncio.timeout(None) as connected:
            return await work
    except TimeoutError:
        return None
    finally:
        timer.cancel()
        for task in watches:
            task.cancel()


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], data: bytes) -> None:
    length = (b"content-length", str(len(data)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": data})
