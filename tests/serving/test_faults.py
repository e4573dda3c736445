"""Connections that lead nowhere, and servers that end in the middle: others are served, and no response is wrong."""

from __future__ import annotations

import json
import signal
import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from tests.serving.bundles import SHAPE, expected
from tests.serving.servers import peak_memory, serving
from tests.serving.wire import HALVES, binary, good, request, status

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")


@contextmanager
def connections(address, count):
    """So many open connections."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    host, port = address.split(":")
    made = []
    try:
        for _ in range(count):
            made.append(socket.create_connection((host, int(port)), timeout=20))
        yield made
    finally:
        for connection in made:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def read_to_the_end(connection):
    """What comes until the server closes the connection; a test fails where that does not happen."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionError:
        pass
    return received


def test_a_thousand_connections_that_say_nothing_or_half_of_something_stop_nobody(served_bundle):
    with serving(served_bundle) as server, connections(server.http, 1000) as silent:
        for number, connection in enumerate(silent):
            connection.sendall(HALVES[number % len(HALVES)])
        assert all(good(server.http) for _ in range(20))


def test_where_there_are_too_many_the_one_that_waits_longest_makes_room(served_bundle):
    with serving(served_bundle, "--max-connections", "50") as server, connections(server.http, 300) as silent:
        for number, connection in enumerate(silent[-40:]):
            connection.sendall(HALVES[number % len(HALVES)])
        assert all(good(server.http) for _ in range(20))
        assert [read_to_the_end(connection) for connection in silent[:250]] == [b""] * 250


@pytest.mark.parametrize("half", HALVES[1:])
@pytest.mark.slow
def test_a_connection_that_waits_too_long_is_closed_even_if_it_trickles(served_bundle, half):
    with serving(served_bundle, "--idle-timeout", "0.4") as server, connections(server.http, 2) as (silent, slow):
        silent.sendall(half)
        slow.sendall(half)
        ended = threading.Event()

        def trickle():
            while not ended.wait(0.05):
                try:
                    slow.sendall(b"x")
                except OSError:
                    return

        trickling = threading.Thread(target=trickle)
        trickling.start()
        try:
            assert read_to_the_end(silent) == b""
            assert read_to_the_end(slow) == b""
        finally:
            ended.set()
            trickling.join()
        assert good(server.http)


def test_a_rest_of_a_body_that_nobody_wants_does_not_keep_a_connection(served_bundle):
    with serving(served_bundle, "--idle-timeout", "0.4") as server, connections(server.http, 1) as (slow,):
        slow.sendall(b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        assert status(slow.recv(65536)) == 405
        slow.sendall(b"123456789")
        assert read_to_the_end(slow) == b""


@pytest.mark.slow
def test_bodies_without_their_last_byte_do_not_fill_the_memory(served_bundle):
    size = 1 << 20
    with serving(served_bundle, "--max-body", size) as server, connections(server.http, 800) as clients:
        assert good(server.http)
        before = peak_memory(server)
        for client in clients:
            client.sendall(request(b" " * (size - 1), length=size))
        assert good(server.http)
        # Of 800 MB: an event loop that comes late, on a busy machine, reads more before it can refuse.
        assert peak_memory(server) - before < 600 << 20
        assert b"took its memory" in clients[0].recv(65536)
        clients[-1].sendall(b" ")
        assert b"the body is not JSON" in clients[-1].recv(65536)


def test_silent_connections_to_grpc_stop_nobody(served_bundle):
    grpc = pytest.importorskip("tritonclient.grpc", reason="needs the extra: pip install 'tscnc-deploy[test]'")
    with serving(served_bundle) as server, connections(server.grpc, 500) as silent:
        for number, connection in enumerate(silent):
            connection.sendall([b"", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"][number % 3])
        with grpc.InferenceServerClient(server.grpc) as client:
            assert client.is_model_ready("tiny", client_timeout=20)


def image(number):
    return np.full((1, *SHAPE), number / 256, np.float32)


def ask(connection, number):
    connection.sendall(binary(data=image(number).tobytes()))


def is_right(response, number):
    """Whether it is the whole response to this very image."""
    head, _, body = response.partition(b"\r\n\r\n")
    assert status(head) == 200
    assert f"content-length: {len(body)}".encode() in head
    np.testing.assert_allclose(json.loads(body)["outputs"][0]["data"], expected(image(number))[0], rtol=1e-5)
    return True


def first_answer(connection):
    while b'"outputs"' not in connection.recv(65536, socket.MSG_PEEK):
        pass


@pytest.mark.slow
def test_sigterm_finishes_every_request_of_the_200_that_were_sent(served_bundle):
    with serving(served_bundle, "--max-queue", "1000") as server, connections(server.http, 200) as clients:
        for client in clients:  # a listener that closes drops who was never let in
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert status(client.recv(65536)) == 200
        for number, client in enumerate(clients):
            ask(client, number)
        first_answer(clients[0])
        server.process.send_signal(signal.SIGTERM)
        assert all(is_right(read_to_the_end(client), number) for number, client in enumerate(clients))
        assert server.process.wait(20) == 0


def test_kill_leaves_whole_responses_or_none(served_bundle):
    with serving(served_bundle, "--max-queue", "1000") as server, connections(server.http, 200) as clients:
        for number, client in enumerate(clients):
            ask(client, number)
        first_answer(clients[0])
        server.process.kill()
        server.process.wait()
        responses = [read_to_the_end(client) for client in clients]
    assert sum(is_right(response, number) for number, response in enumerate(responses) if response) >= 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_never_responds_wrongly_over_grpc(served_bundle, how):
    grpc = pytest.importorskip("tritonclient.grpc", reason="needs the extra: pip install 'tscnc-deploy[test]'")
    with serving(served_bundle, "--max-queue", "1000") as server:
        client = grpc.InferenceServerClient(server.grpc)
        outcomes, first, done = {}, threading.Event(), threading.Semaphore(0)

        def keep(number):
            def answered(result, error):
                outcomes[number] = error or result.as_numpy("logits")
                first.set()
                done.release()

            return answered

        for number in range(200):
            tensor = grpc.InferInput("images", [1, *SHAPE], "FP32")
            tensor.set_data_from_numpy(image(number))
            client.async_infer("tiny", [tensor], keep(number))
        assert first.wait(20)
        server.process.send_signal(how)
        assert all(done.acquire(timeout=20) for _ in range(200))
        client.close()
    responses = {number: found for number, found in outcomes.items() if isinstance(found, np.ndarray)}
    for number, logits in responses.items():
        np.testing.assert_allclose(logits, expected(image(number)), rtol=1e-5)
    bundle_errors = {found.status() for found in outcomes.values() if not isinstance(found, np.ndarray)}
    assert bundle_errors <= {"StatusCode.UNAVAILABLE", "StatusCode.CANCELLED"}
    assert responses
