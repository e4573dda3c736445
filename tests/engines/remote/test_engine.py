"""The engine kind "remote" against our own server, and against servers that misbehave."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tests.serving.bundles import SHAPE, expected, write_served
from tests.serving.servers import serving
from tscnc_deploy.engines.remote.endpoint import Endpoint, is_url
from tscnc_deploy.engines.remote.engine import RemoteEngine
from tscnc_deploy.errors import InputError

IMAGES = np.random.default_rng(0).random((40, *SHAPE), np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")
    with serving(write_served(tmp_path_factory.mktemp("served") / "bundle"), TSCNC_SERVE_TOKEN="s3cret") as running:
        yield running


@pytest.fixture
def address(server):
    return lambda scheme: f"{scheme}://{getattr(server, scheme)}/v2/models/tiny"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_served_model_is_an_engine(address, scheme):
    engine = RemoteEngine(address(scheme), token="s3cret")
    assert (engine.spec.name, engine.spec.kind, engine.spec.input_shape, engine.spec.classes) == (
        "tiny", "remote", SHAPE, 3,
    )  # fmt: skip
    np.testing.assert_allclose(engine.logits(IMAGES), expected(IMAGES), rtol=1e-6)
    assert engine.logits(IMAGES[:0]).shape == (0, 3)
    assert engine.queries == 40


def test_over_http_it_knows_the_largest_batch_and_what_protects_the_model(address):
    engine = RemoteEngine(address("http"), token="s3cret")
    assert (engine.spec.batch_max, engine.spec.precision) == (16, "fp32")
    assert engine.said["robust"]["accuracy"] == 0.75


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_refusals_are_bad_input(address, scheme):
    with pytest.raises(InputError, match="bearer token"):
        RemoteEngine(address(scheme))
    with pytest.raises(InputError, match="is not served here"):
        RemoteEngine(address(scheme).replace("tiny", "other"), token="s3cret")


def test_no_more_queries_than_allowed_are_sent(address):
    engine = RemoteEngine(address("http"), token="s3cret", max_queries=20)
    engine.logits(IMAGES[:16])
    with pytest.raises(InputError, match="16 of 20 queries are used, and the next request needs 5"):
        engine.logits(IMAGES[:5])
    assert len(engine.logits(IMAGES[:4])) == 4


def test_the_rate_is_kept(address):
    engine = RemoteEngine(address("http"), token="s3cret", rate=160)
    started = time.monotonic()
    engine.logits(IMAGES)  # 16 + 16 + 8 images: the last batch may go after 32 / 160 seconds
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost", "http://localhost/v2/models/", "http://localhost:99999/v2/models/a", "ftp://x/v2/models/a",
        "http:///v2/models/a", "http://u:p@x/v2/models/a", "http://x/v2/models/a?b=c", "http://x/v2/models/a b",
        "http://x/v2/models/a/versions", "http://x\n/v2/models/a", "http://[::1/v2/models/a",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(url):
    with pytest.raises(InputError, match="not the address of a model; write http://HOST:PORT/v2/models/NAME"):
        Endpoint.parse(url)


def test_addresses():
    assert Endpoint.parse("grpc://localhost/v2/models/a/versions/3") == Endpoint(
        "grpc://localhost/v2/models/a/versions/3", "grpc", "localhost", 8001, "a", "3"
    )
    assert Endpoint.parse("http://[::1]:8000/v2/models/a").address == "[::1]:8000"
    assert is_url("grpcs://x")
    assert not is_url("runs/digits")
    assert not is_url("C://x")


METADATA = {
    "name": "m",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, *SHAPE]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
}


@pytest.fixture
def scripted():
    """Starts a server that gives prepared answers, (status, headers, body) each, one after the other."""
    servers = []

    def start(*answers):
        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, body = left.pop(0)
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/v2/models/m"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def said(document):
    return 200, {}, json.dumps(document).encode()


def logits(array, shape=None, **changes):
    output = {"name": "y", "datatype": "FP32", "shape": shape or list(array.shape)} | changes
    text = json.dumps({"outputs": [output]}).encode()
    return 200, {"Inference-Header-Content-Length": str(len(text))}, text + array.tobytes()


BUSY = (503, {}, b"busy")
ANSWER = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_busy_server_is_asked_again(scripted):
    engine = RemoteEngine(scripted(BUSY, said(METADATA), (429, {}, b""), logits(ANSWER)))
    assert engine.logits(IMAGES[:2]).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert engine.queries == 4


def test_nobody_there(monkeypatch):
    monkeypatch.setattr("tscnc_deploy.engines.remote.engine._FIRST_PAUSE", 0.001)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=r"no response after 6 attempts: .*refused"):
        RemoteEngine(f"http://127.0.0.1:{port}/v2/models/m")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, {}, b"<html>"), "the response is not a JSON object"),
        (said([1]), "the response is not a JSON object"),
        (said({}), "must have exactly one FP32"),
        (said(METADATA | {"inputs": METADATA["inputs"] * 2}), "as its inputs"),
        (said(METADATA | {"outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, -1]}]}), "as its outputs"),
        ((404, {}, b"\x1b[31mno such model"), r"request failed with 404: \\x1b\[31mno such model"),
        ((200, {}, b" " * (2 << 20)), "the response exceeds"),
    ],
)
def test_servers_of_another_kind_are_refused(scripted, answer, words):
    with pytest.raises(InputError, match=words):
        RemoteEngine(scripted(answer))


@pytest.mark.parametrize(
    "answer",
    [
        logits(ANSWER, [3, 3]),
        logits(ANSWER[:1], [2, 3]),
        logits(ANSWER, datatype="FP64"),
        said({"outputs": []}),
        said({"outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 3], "data": [0] * 6}]}),
    ],
)
def test_answers_of_another_form_are_refused(scripted, answer):
    engine = RemoteEngine(scripted(said(METADATA), answer))
    with pytest.raises(InputError, match=r"instead of FP32 \[2, 3\] in 24"):
        engine.logits(IMAGES[:2])
