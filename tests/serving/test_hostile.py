"""Bytes from clients that mean no good, over real sockets: never a 500, never a hang, and others are still served."""

from __future__ import annotations

import json
import random
import re
import socket
import struct
import time
from pathlib import Path

import pytest

from tests.serving.bundles import write_served
from tests.serving.running import serving

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")

INFER = "/v2/models/tiny/infer"
TENSOR = {"name": "images", "datatype": "FP32", "shape": [1, 1, 8, 8]}


def exchange(address, data, *, patience=10.0):
    """The head of what the server answers; after so many seconds the client says that it has no more to send."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=patience) as connection:
        connection.sendall(data)
        received = b""
        try:
            while b"\r\n\r\n" not in received and (chunk := connection.recv(65536)):
                received += chunk
        except TimeoutError:
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(10)
            received += connection.recv(65536)
        return received


def status(answer):
    found = re.match(rb"HTTP/1\.1 (\d{3})", answer)
    return int(found[1]) if found else None


def request(body, *, length=None, more="", path=INFER):
    length = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}\r\n".encode() + body


def binary(size=256, data=b"\0" * 256, header=None, **tensor):
    text = json.dumps({"inputs": [TENSOR | tensor | {"parameters": {"binary_data_size": size}}]}).encode()
    return request(text + data, more=f"Inference-Header-Content-Length: {len(text) if header is None else header}\r\n")


def good(address):
    return status(exchange(address, binary())) == 200


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (binary(), 200),
        (binary(header=10**18), 400),
        (binary(header="x"), 400),
        (binary(size=257), 400),
        (binary(data=b"\0" * 255), 400),
        (binary(shape=[2, 1, 8, 8]), 400),
        (binary(shape=[10**15, 1, 8, 8]), 400),
        (binary(shape=[-1, 1, 8, 8]), 400),
        (binary(data=b"\xff" * 256), 400),
        (request(b"{"), 400),
        (request(b"[" * 50_000), 400),
        (request(b"{}", length=10**12), 413),
        (request(b"{}", more="Content-Encoding: gzip\r\n"), 400),
        (request(b"{}", path="/v2/models/tiny/versions/9/infer"), 404),
        (request(b"{}", path="/v2/models/%00%ff/infer"), 404),
        (b"GET " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ],
)
def test_lies_get_4xx(server, data, expected):
    assert status(exchange(server.http, data)) == expected


def test_a_wrong_method_hears_which_are_right(server):
    for method, path, right in (("GET", INFER, b"POST"), ("TRACE", "/metrics", b"GET")):
        answer = exchange(server.http, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert right in re.search(rb"allow: (.*)\r\n", answer)[1].split(b", ")


def test_a_body_that_ends_early_gets_no_answer_of_the_model(server):
    answer = exchange(server.http, request(b"{}", length=1000), patience=0.1)
    assert status(answer) in (None, 400)
    assert good(server.http)


def test_a_chunked_body_is_cut_off_at_the_limit(tmp_path):
    with serving(write_served(tmp_path / "bundle"), "--max-body", "5000") as server:
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
        assert status(exchange(server.http, head + chunk * 2)) == 413
        assert good(server.http)


def mutations(count=250, seed=0):
    random_ = random.Random(seed)
    pieces = [b"\0", b"\xff", b"-1", b"1e999", b"null", b"{}", b"[]", b'"', b"\r\n", b"9" * 30, struct.pack("<f", -1)]
    for _ in range(count):
        data = bytearray(binary())
        for _ in range(random_.randint(1, 4)):
            place = random_.randrange(len(data))
            match random_.randrange(3):
                case 0:
                    data[place] = random_.randrange(256)
                case 1:
                    del data[place : place + random_.randint(1, 30)]
                case 2:
                    data[place:place] = random_.choice(pieces)
        yield bytes(data)


def test_mutated_requests_never_break_the_server(served_bundle, tmp_path):
    with serving(served_bundle, log=tmp_path / "log") as server:
        memory = Path(f"/proc/{server.process.pid}/statm")
        seen = set()
        for data in mutations(100, seed=1):
            exchange(server.http, data, patience=0.03)
        before = int(memory.read_text().split()[1]) if memory.exists() else 0
        for data in mutations():
            seen.add(status(exchange(server.http, data, patience=0.03)))
        after = int(memory.read_text().split()[1]) if memory.exists() else 0
        assert seen <= {None, 200, 400, 404, 405, 413}
        assert {200, 400} <= seen
        assert (after - before) * 4096 < 16 << 20
        assert good(server.http)
    assert (tmp_path / "log").read_text() == ""


def test_a_thousand_connections_that_say_nothing_stop_nobody(served_bundle):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    half = [b"", b"POST ", request(b"", length=256), b"GET /v2 HTTP/1.1\r\nHost:"]
    with serving(served_bundle) as server:
        host, port = server.http.split(":")
        connections = []
        try:
            for number in range(1000):
                connections.append(socket.create_connection((host, int(port)), timeout=10))
                connections[-1].sendall(half[number % 4])
            assert all(good(server.http) for _ in range(20))
        finally:
            for connection in connections:
                connection.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert good(server.http)


def test_what_was_answered_is_whole_when_the_server_is_killed(served_bundle):
    with serving(served_bundle, "--max-queue", "1000") as server:
        host, port = server.http.split(":")
        connections = [socket.create_connection((host, int(port)), timeout=10) for _ in range(200)]
        for connection in connections:
            connection.sendall(binary())
        while b'"outputs"' not in connections[0].recv(65536, socket.MSG_PEEK):
            time.sleep(0.001)
        server.process.kill()
        server.process.wait()
        answered = 0
        for connection in connections:
            received = b""
            try:
                while chunk := connection.recv(65536):
                    received += chunk
            except ConnectionError:
                pass
            connection.close()
            head, _, body = received.partition(b"\r\n\r\n")
            if body:
                assert status(head) == 200
                assert f"content-length: {len(body)}".encode() in head
                assert json.loads(body)["outputs"][0]["data"] == [0, 0, 0]
                answered += 1
        assert answered >= 1
