"""Heads, URLs and trailers without an end, measured in the server's memory and time; see also test_connections."""

from __future__ import annotations

import json
import socket
import time
from contextlib import contextmanager

import pytest

from tests.serving.servers import peak_memory, processor_seconds, serving
from tests.serving.wire import INFER, binary, good, request, status

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")

MB = 1 << 20
GET = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


@pytest.fixture(scope="module")
def locked(served_bundle, tmp_path_factory):
    """A server that requires a token, so that nothing here can be due to a client that it trusts."""
    log = tmp_path_factory.mktemp("locked") / "log"
    with serving(served_bundle, log=log, TSCNC_SERVE_TOKEN="s3cret") as server:
        yield server
    assert log.read_text() == ""


@contextmanager
def cheap(server, *, most=8 * MB, seconds=1.0):
    """Fails if the server's memory grew by more, or if it took more processor time."""
    before, started = peak_memory(server), processor_seconds(server)
    yield
    assert peak_memory(server) - before < most
    assert processor_seconds(server) - started < seconds


def flood(address, start, piece, total):
    """Sends a request that never ends, as far as the server lets it; the first response, and how much was sent."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        sent = 0
        try:
            connection.sendall(start)
            while sent < total:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
                connection.settimeout(0.5)  # for the rest, where the server keeps the connection
        except OSError:
            pass
        return received, sent


@pytest.mark.parametrize(
    ("start", "piece", "expected"),
    [
        (GET, b"X-Long: " + b"a" * 60_000 + b"\r\n", 431),
        (GET, b"".join(b"x-%d: y\r\n" % number for number in range(8000)), 431),
        (GET, b"a:\r\n" * 16_000, 431),
        (GET + b"X-Value: ", b"v" * 65_536, 431),
        (GET, b"n" * 65_536, 431),
        (b"GET /", b"p" * 65_536, 414),
        (b"GET /?", b"q=1&" * 16_384, 414),
    ],
    ids=["long headers", "many headers", "tiny headers", "one value", "one name", "path", "query"],
)
def test_a_head_without_an_end_is_refused_before_it_is_kept(locked, start, piece, expected):
    with cheap(locked):
        received, _ = flood(locked.http, start, piece, 40 * MB)
    assert status(received) == expected
    assert b"connection: close" in received
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]


def test_a_hundred_clients_with_endless_heads_cost_no_more_than_what_one_may_send(locked):
    with cheap(locked, most=24 * MB, seconds=3.0):
        for _ in range(100):
            received, _ = flood(locked.http, GET, b"X: " + b"a" * 16_000 + b"\r\n", MB)
            assert status(received) == 431


@pytest.mark.parametrize(
    ("rest", "piece"),
    [(b"1\r\n{\r\n0\r\n", b"X-Trailer: " + b"t" * 8000 + b"\r\n"), (b"1;", b"e" * 65_536)],
    ids=["trailers", "chunk extension"],
)
def test_trailers_and_extensions_without_an_end_are_refused(server, rest, piece):
    with cheap(server):
        received, _ = flood(server.http, CHUNKED + rest, piece, 40 * MB)
    assert status(received) == 431


def test_trailers_are_no_headers(server):
    trailer = b"0\r\nHost: evil.example\r\nAuthorization: Bearer x\r\n\r\n"
    with socket.create_connection(tuple(server.http.split(":")), timeout=20) as connection:
        connection.sendall(CHUNKED + b"2\r\n{}\r\n" + trailer)
        assert status(connection.recv(65536)) == 400  # as "inputs" is missing
        connection.sendall(binary())
        assert status(connection.recv(65536)) == 200


@pytest.mark.parametrize(("length", "expected"), [(8000, 404), (8193, 414)])
def test_the_longest_url(server, length, expected):
    head = b"GET /" + b"p" * (length - 1) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert status(flood(server.http, head, b"", 0)[0]) == expected


@pytest.mark.parametrize(("length", "expected"), [(16_000, 200), (16_400, 431)])
def test_the_longest_head(server, length, expected):
    lines = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 1000) for number in range(15))
    rest = b"X-Rest: " + b"a" * (length - len(GET) - len(lines) - 10) + b"\r\n"
    assert status(flood(server.http, GET + lines + rest + b"\r\n", b"", 0)[0]) == expected


@pytest.mark.parametrize(("count", "expected"), [(99, 200), (100, 431)])
def test_the_largest_number_of_headers(server, count, expected):
    lines = b"".join(b"X-%d: a\r\n" % number for number in range(count))  # besides Host
    assert status(flood(server.http, GET + lines + b"\r\n", b"", 0)[0]) == expected


def test_requests_before_an_endless_one_are_answered(server):
    received, _ = flood(server.http, binary() + binary() + GET, b"X: " + b"a" * 60_000 + b"\r\n", MB)
    assert [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]] == [200, 200, 431]


def test_a_client_that_asks_for_ever_and_never_reads_is_not_served_for_ever(server):
    host, port = server.http.split(":")
    with cheap(server, most=16 * MB, seconds=4.0), socket.create_connection((host, int(port)), timeout=1) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        latest = time.monotonic() + 20
        with pytest.raises(OSError):  # a timeout, or the end of the connection
            while time.monotonic() < latest:
                connection.sendall(b"GET /v2/models/tiny HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        assert good(server.http)


def test_too_many_requests_at_once_end_the_connection(server):
    received, _ = flood(server.http, b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 40, b"", 0)
    found = [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert found == [200] * 9 + [429]


def test_a_body_that_is_refused_ends_the_connection(server):
    started = time.monotonic()
    # More than fits into the second for which the connection is still read from.
    most = 200_000 * MB
    received, sent = flood(server.http, request(b"", length=10**12), b"x" * 65_536, most)
    assert status(received) == 413
    assert b"connection: close" in received
    assert sent < most
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\nHost: localhost\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)  # fmt: skip
def test_what_is_not_http_is_400(server, data):
    assert status(flood(server.http, data, b"", 0)[0]) == 400


def test_an_upgrade_that_is_not_offered_is_answered_in_http(server):
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    received, _ = flood(server.http, GET + upgrade, b"", 0)
    assert status(received) == 200
    assert b"connection: close" in received


def test_http_1_0_is_answered_and_closed(server):
    received, _ = flood(server.http, b"GET /v2 HTTP/1.0\r\nHost: localhost\r\n\r\n", b"", 0)
    assert status(received) == 200
    assert b"connection: close" in received


def test_responses_are_dated(server):
    received, _ = flood(server.http, GET + b"Connection: close\r\n\r\n", b"", 0)
    assert b"\r\ndate: " in received
    assert b" GMT\r\n" in received
