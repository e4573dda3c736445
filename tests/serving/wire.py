"""Requests as bytes, and what a server sends back, over plain sockets."""

from __future__ import annotations

import json
import re
import socket

INFER = "/v2/models/tiny/infer"
TENSOR = {"name": "images", "datatype": "FP32", "shape": [1, 1, 8, 8]}


def exchange(address, data, *, patience=10.0):
    """The head of the response; after `patience` seconds the client signals that it has no more to send."""
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


def status(response):
    found = re.match(rb"HTTP/1\.1 (\d{3})", response)
    return int(found[1]) if found else None


def request(body, *, length=None, more="", path=INFER):
    length = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}\r\n".encode() + body


def binary(size=256, data=b"\0" * 256, header=None, **tensor):
    text = json.dumps({"inputs": [TENSOR | tensor | {"parameters": {"binary_data_size": size}}]}).encode()
    return request(text + data, more=f"Inference-Header-Content-Length: {len(text) if header is None else header}\r\n")


def good(address):
    return status(exchange(address, binary())) == 200


# Where a client may stop in the middle of a request.
HALVES = (b"", b"POST ", request(b"", length=256), b"GET /v2 HTTP/1.1\r\nHost:")
