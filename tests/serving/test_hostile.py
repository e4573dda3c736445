"""Bytes from clients that mean no good, over real sockets: never a 500, never a hang, and others are still served."""

from __future__ import annotations

import random
import re
import struct
from pathlib import Path

import pytest

from tests.serving.bundles import write_served
from tests.serving.running import serving
from tests.serving.wire import INFER, binary, exchange, good, request, status

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")


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
