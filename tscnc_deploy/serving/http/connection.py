"""An HTTP/1.1 connection: httptools parses it, and an ASGI application responds to one request after the other."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, cast
from urllib.parse import unquote

import httptools
import orjson
from starlette.types import ASGIApp, Scope

from tscnc_deploy.serving.http.connections import Connections
from tscnc_deploy.serving.http.exchange import Exchange, head

_log = logging.getLogger(__name__)

MAX_URL = 8 << 10
"""Longest URL in bytes."""
MAX_HEAD = 16 << 10
"""Longest head of a request in bytes, and longest sequence of bytes that are neither head nor body."""
MAX_HEADERS = 100
"""Largest number of headers of a request."""
# Requests that a client may send before it has the response to the first one. Each may have 100 headers, of which
# Python makes some 8 kB, on each of thousands of connections.
_MAX_PIPELINED = 8
# How long a connection is read from after its last response, so that the client sees it before the connection is reset.
_LINGER_SECONDS = 1.0
# How long idle connections are kept when the server stops. A request that was on its way is still processed, and the
# response tells the client that the connection closes.
_LEAVE_SECONDS = 0.5


class Connection(asyncio.Protocol):
    """One connection.

    Nothing that a client sends is kept without a limit: the head is measured while it arrives, trailers and chunk
    extensions are dropped, and a body is read only as fast as the application takes it.

    Args:
        application: The ASGI application.
        connections: All connections of the server.
    """

    def __init__(self, application: ASGIApp, connections: Connections) -> None:
        self._application = application
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport = cast(asyncio.Transport, None)
        self._endpoints: dict[str, Any] = {}
        # Requests whose heads have arrived, the one being processed first; the body of the last one may be arriving.
        self._exchanges: deque[Exchange] = deque()
        self._latest: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._drain = asyncio.Event()
        self._drain.set()
        self._held = b""
        self._paused = False
        # The last request has arrived; what follows is dropped.
        self._ended = False
        self._refusal: tuple[int, str] | None = None
        self._leaving = False
        self._closed = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = False
        self._head_bytes = 0
        self._progress = False
        # Bytes since the last progress: since a head was complete, or a part of a body arrived.
        self._unproductive = 0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        secure = transport.get_extra_info("sslcontext") is not None
        self._endpoints = {
            "scheme": "https" if secure else "http",
            "server": _address(transport.get_extra_info("sockname")),
            "client": _address(transport.get_extra_info("peername")),
        }
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        for exchange in self._exchanges:
            exchange.disconnect()
        self._drain.set()
        self._held = b""
        self._connections.closed(self)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._held = self._held + data if self._held else data
        self._parse()

    def pause_writing(self) -> None:
        self._drain.clear()
        self._connections.start_waiting(self)

    def resume_writing(self) -> None:
        self._drain.set()
        if self._is_busy():
            self._connections.stop_waiting(self)

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._url, self._headers, self._head_bytes, self._in_head = b"", [], len(b"GET  HTTP/1.1\r\n"), True

    def on_url(self, url: bytes) -> None:
        if len(self._url) + len(url) > MAX_URL:
            self._refuse(414, f"the URL may have at most {MAX_URL} bytes")
        else:
            self._url += url
            self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head or self._refusal:  # a trailer, which no call of the protocol has
            return
        self._head_bytes += len(name) + len(value) + len(b": \r\n")
        if len(self._headers) == MAX_HEADERS or self._head_bytes > MAX_HEAD:
            self._refuse(431, f"a request may have at most {MAX_HEADERS} headers and {MAX_HEAD} bytes of them")
        else:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head, self._progress = False, True
        if self._ended or self._refusal:
            return
        if len(self._exchanges) > _MAX_PIPELINED:
            self._refuse(429, f"at most {_MAX_PIPELINED} requests may wait on one connection")
            return
        if (scope := self._scope()) is None:
            self._refuse(400, "the URL of the request is not valid")
            return
        if not self._is_busy():
            self._connections.start_waiting(self)
        self._latest = Exchange(
            scope,
            # The rest of a request that asks for another protocol is not HTTP to the parser.
            keep_alive=self._parser.should_keep_alive()
            and not (self._parser.should_upgrade() or scope["http_version"] == "1.0" or self._leaving),
            expects_continue=any(
                name == b"expect" and value.lower() == b"100-continue" for name, value in self._headers
            ),
            write=self._transport.write,
            drain=self._drain,
            changed=self._changed,
        )
        self._exchanges.append(self._latest)
        if len(self._exchanges) == 1:
            self._start()

    def on_body(self, body: bytes) -> None:
        self._progress = True
        if self._latest:
            self._latest.add(body)

    def on_message_complete(self) -> None:
        self._progress = True
        if self._latest is None or self._refusal:
            return
        self._latest.end()
        self._ended = self._ended or not self._latest.keep_alive
        if self._is_busy():
            self._connections.stop_waiting(self)

    # What the server calls.

    def drop(self) -> None:
        """Closes the connection at once; close() could wait for a client that does not read."""
        self._transport.abort()

    def shutdown(self) -> None:
        """Closes the connection after its last request, including one that is on its way."""
        if self._exchanges:
            self._leaving = True
            self._exchanges[-1].keep_alive = False
        elif self._leaving:
            self._transport.close()
        else:
            self._leaving = True
            self._loop.call_later(_LEAVE_SECONDS, self.shutdown)

    # The rest.

    def _parse(self) -> None:
        """Parses what has arrived, unless requests are waiting: then it stays in the kernel's buffers."""
        while self._held and not self._ended and len(self._exchanges) <= 1 and not self._is_full():
            data, self._held = self._held, b""
            self._progress = False
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                self._ended = True
            except httptools.HttpParserCallbackError:
                _log.exception("internal error in the parser's callbacks")
                self._refuse(500, "internal error; see the log of the server")
            except httptools.HttpParserError:
                if not self._ended:
                    self._refuse(400, "this is not a request in HTTP/1.1")
            self._unproductive = 0 if self._progress else self._unproductive + len(data)
            if self._unproductive > MAX_HEAD:
                self._refuse(431, f"a request may have at most {MAX_HEAD} bytes of headers and trailers")
            if self._refusal:
                self._stop_parsing()
        self._pause_or_resume()

    def _stop_parsing(self) -> None:
        """After the responses to the requests that have arrived completely, the refusal is the last response."""
        self._ended = True
        self._held = b""
        if self._exchanges and not self._exchanges[-1].received:
            self._exchanges.pop().disconnect()
        if not self._exchanges:
            self._send_refusal()

    def _scope(self) -> Scope | None:
        """The ASGI scope of the request whose head is complete; None if its URL is not valid."""
        try:
            url = httptools.parse_url(self._url)
            path = (url.path or b"/").decode("ascii")
        except (httptools.HttpParserError, UnicodeDecodeError):
            return None
        if url.host:  # the form for proxies, whose host counts instead of the header
            return None
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": self._parser.get_http_version(),
            "method": self._parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path or b"/",
            "query_string": url.query or b"",
            "root_path": "",
            "headers": self._headers,
            **self._endpoints,
        }

    def _start(self) -> None:
        exchange = self._exchanges[0]
        self._task = self._loop.create_task(self._run(exchange))

    async def _run(self, exchange: Exchange) -> None:
        try:
            await self._application(exchange.scope, exchange.receive, exchange.send)
        except Exception:
            _log.exception("the HTTP application failed")
        if not exchange.responded and self._exchanges and exchange is self._exchanges[0]:
            self.drop()  # a part of a response would be worse than none

    def _changed(self, exchange: Exchange) -> None:
        """The application has taken a part of the body, or completed the response."""
        if self._closed or not self._exchanges or exchange is not self._exchanges[0]:
            return
        if exchange.responded:
            self._exchanges.popleft()
            if not exchange.keep_alive:
                self._close(linger=not exchange.received)
                return
            if self._exchanges:
                self._start()
                if not self._is_busy():
                    self._connections.start_waiting(self)
            elif self._refusal:
                self._send_refusal()
                return
            else:
                self._connections.start_waiting(self)
        self._parse()

    def _is_busy(self) -> bool:
        """Whether the request being processed has arrived completely."""
        return bool(self._exchanges) and self._exchanges[0].received

    def _is_full(self) -> bool:
        return self._latest is not None and not self._latest.responded and self._latest.is_full

    def _pause_or_resume(self) -> None:
        pause = not self._ended and (bool(self._held) or len(self._exchanges) > 1 or self._is_full())
        if pause != self._paused and not self._transport.is_closing():
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _refuse(self, status: int, message: str) -> None:
        self._refusal = self._refusal or (status, message)

    def _send_refusal(self) -> None:
        """Sends the error for a request that is not parsed any further, and closes."""
        assert self._refusal
        status, message = self._refusal
        body = orjson.dumps({"error": message})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        self._transport.write(head(status, [*headers, (b"connection", b"close")]) + body)
        self._close(linger=True)

    def _close(self, *, linger: bool) -> None:
        """Closes after the last response; a client that is still sending would otherwise see a reset in its place."""
        self._ended = True
        self._held = b""
        self._exchanges.clear()
        self._connections.start_waiting(self)
        if not (linger and self._transport.can_write_eof()):
            self._transport.close()
            return
        self._pause_or_resume()
        self._transport.write_eof()
        self._loop.call_later(_LINGER_SECONDS, self._transport.abort)


def _address(found: Any) -> tuple[str, int] | None:
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) else None
