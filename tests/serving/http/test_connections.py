"""HTTP as it goes over the wire."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager

import numpy as np
import pytest

from tests.serving.bundles import SHAPE, expected
from tests.serving.wire import INFER, binary, status

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")


@contextmanager
def connection(address):
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as made:
        yield made


def image(number):
    return np.full((1, *SHAPE), number / 16, np.float32)


def test_head_and_body_of_a_response_come_together(server):
    with connection(server.http) as client:
        for _ in range(20):
            client.sendall(binary())
            head, _, body = client.recv(65536).partition(b"\r\n\r\n")
            assert f"content-length: {len(body)}".encode() in head
            assert body


def test_a_response_that_is_a_head_alone_is_sent(server):
    with connection(server.http) as client:
        for _ in range(2):
            client.sendall(b"HEAD /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            response = client.recv(65536)
            assert status(response) == 200
            assert response.endswith(b"\r\n\r\n")


def test_a_client_may_wait_to_be_asked_for_its_body(server):
    head, _, body = binary().partition(b"\r\n\r\n")
    with connection(server.http) as client:
        client.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert status(client.recv(65536)) == 200


def test_requests_that_do_not_wait_are_answered_in_order(server):
    with connection(server.http) as client:
        asked = b"".join(binary(data=image(number).tobytes()) for number in range(8))
        last = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        client.sendall(asked + last)
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    responses = [part.partition(b"\r\n\r\n") for part in received.split(b"HTTP/1.1 ")[1:]]
    assert [int(head[:3]) for head, _, _ in responses] == [200] * 8 + [400]
    logits = [json.loads(body)["outputs"][0]["data"] for _, _, body in responses[:-1]]
    np.testing.assert_allclose(logits, [expected(image(number))[0] for number in range(8)], rtol=1e-5)
