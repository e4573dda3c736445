"""Signals, reload, TLS and bad options of a server in its own process."""

from __future__ import annotations

import json
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack

import numpy as np
import pytest

from tests.conftest import invoke
from tests.serving.bundles import SHAPE, WEIGHTS, expected, write_served
from tests.serving.clients import get, tensor
from tests.serving.servers import peak_memory, serving, started
from tests.serving.wire import binary

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")
pytest.importorskip("tritonclient.http", reason="needs the extra: pip install 'tscnc-deploy[test]'")
import tritonclient.grpc
import tritonclient.http


class Load:
    """Clients that send requests until they are stopped or the server is gone; counts the correct responses."""

    def __init__(self, server, clients=4):
        self.right, self.errors, self.ending = 0, [], threading.Event()
        self.lock = threading.Lock()
        self.threads = [
            threading.Thread(target=self.ask, args=(server, number), daemon=True) for number in range(clients)
        ]
        for thread in self.threads:
            thread.start()

    def ask(self, server, number):
        module, address = [(tritonclient.http, server.http), (tritonclient.grpc, server.grpc)][number % 2]
        random = np.random.default_rng(number)
        with module.InferenceServerClient(address) as client:
            while not self.ending.is_set():
                images = random.random((int(random.integers(1, 9)), *SHAPE), np.float32)
                try:
                    logits = client.infer("tiny", tensor(module, images)).as_numpy("logits")
                except Exception as error:
                    with self.lock:
                        self.errors.append(str(error))
                    return
                right = np.allclose(logits, expected(images), rtol=1e-5)
                with self.lock:
                    self.right += bool(right)
                    self.errors += [] if right else ["a wrong response"]

    def until(self, count):
        latest = time.monotonic() + 30
        while self.right < count and not self.errors and time.monotonic() < latest:
            time.sleep(0.005)

    def end(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(20)


def test_sigterm_under_load_finishes_what_was_taken_and_ends_with_0(served_bundle, tmp_path):
    with serving(served_bundle, log=tmp_path / "log") as server:
        load = Load(server)
        load.until(100)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        load.end()
    assert load.right >= 100
    # A connection that the server closed, or a port that no longer listens: never half a response or a wrong one.
    words = ("Connection", "connection", "UNAVAILABLE", "refused", "unavailable", "closed", "CANCELLED")
    assert [error for error in load.errors if not any(word in error for word in words)] == []
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_sigterm_loses_nothing_that_was_taken():
    with started(["tests.serving.slow_server"]) as server:
        responses = []

        def ask(module, address, number):
            images = np.full((1, *SHAPE), number / 16, np.float32)
            try:
                with module.InferenceServerClient(address) as client:
                    logits = client.infer("tiny", tensor(module, images)).as_numpy("logits")
                responses.append(bool(np.allclose(logits, expected(images))))
            except Exception as error:
                responses.append(str(error))

        places = [(tritonclient.http, server.http), (tritonclient.grpc, server.grpc)]
        threads = [threading.Thread(target=ask, args=(*places[number % 2], number)) for number in range(16)]
        for thread in threads:
            thread.start()
        latest = time.monotonic() + 10
        while waiting(server) + len(responses) < 15 and time.monotonic() < latest:
            time.sleep(0.01)
        assert len(responses) < 16
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        for thread in threads:
            thread.join(20)
    assert responses == [True] * 16


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_has_nothing_to_do_ends_within_two_seconds(served_bundle, number):
    with serving(served_bundle) as server, socket.create_connection(tuple(server.http.split(":"))):
        get(server.http, "/v2")
        started = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(20) == 0
        assert time.monotonic() - started < 2


def ask_without_waiting(server):
    """A request that keeps the engine busy, and its connection."""
    connection = socket.create_connection(tuple(server.http.split(":")))
    connection.sendall(binary(data=np.full((1, *SHAPE), 0.5, np.float32).tobytes()))
    time.sleep(0.5)
    return connection


@pytest.mark.slow
def test_an_engine_that_does_not_end_is_abandoned():
    with started(["tests.serving.slow_server", "60"]) as server, ask_without_waiting(server) as client:
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        # One second for the accepted request, which is then closed, and at most two more.
        assert client.recv(1) == b""
        assert server.process.wait(20) == 0
        assert 1 <= time.monotonic() - begun < 3


@pytest.mark.parametrize(("number", "ends_with"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_does_not_wait_for_requests(number, ends_with):
    with started(["tests.serving.slow_server", "60"]) as server, ask_without_waiting(server):
        begun = time.monotonic()
        server.process.send_signal(number)
        time.sleep(0.3)
        server.process.send_signal(number)
        assert server.process.wait(20) == ends_with
        assert time.monotonic() - begun < 1


def waiting(server):
    lines = get(server.http, "/metrics").decode().splitlines()
    return float(next(line for line in lines if line.startswith("tscnc_queue_images")).split()[1])


def test_sighup_serves_the_new_bundle_without_losing_a_request(served_bundle, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(served_bundle, folder)
    with serving(folder, log=tmp_path / "log") as server:
        load = Load(server)
        load.until(50)
        shutil.rmtree(folder)
        write_served(folder, batch_max=32)
        server.process.send_signal(signal.SIGHUP)
        latest = time.monotonic() + 20
        while b'"versions":["2"]' not in get(server.http, "/v2/models/tiny") and time.monotonic() < latest:
            time.sleep(0.05)
        load.until(load.right + 50)
        load.end()
        assert load.errors == []
        metadata = json.loads(get(server.http, "/v2/models/tiny/versions/2"))
        assert metadata["parameters"]["max_batch"] == 32
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(server.http, "/v2/models/tiny/versions/1")
        # One that cannot be served changes nothing.
        (folder / "manifest.json").write_text("{}")
        server.process.send_signal(signal.SIGHUP)
        while "was not reloaded" not in (tmp_path / "log").read_text() and time.monotonic() < latest:
            time.sleep(0.05)
        dated = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ERROR the bundle was not reloaded: ", re.MULTILINE)
        assert dated.search((tmp_path / "log").read_text())
        assert b'"versions":["2"]' in get(server.http, "/v2/models/tiny")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0


@pytest.fixture
def pair(tmp_path):
    """A certificate for 127.0.0.1 and its key."""
    openssl = shutil.which("openssl") or pytest.skip("needs the program openssl")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def test_tls(served_bundle, pair):
    certificate, key = pair
    with serving(served_bundle, "--tls-key", key, "--tls-cert", certificate) as server:
        assert server.document["http"].startswith("https://")
        trusting = ssl.create_default_context(cafile=certificate)
        assert json.loads(get(server.http, "/v2", scheme="https", context=trusting))["name"] == "tscnc-deploy"
        client = tritonclient.grpc.InferenceServerClient(server.grpc, ssl=True, root_certificates=str(certificate))
        assert client.is_model_ready("tiny")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


@pytest.mark.slow
def test_handshakes_that_never_end_keep_nobody_out_and_take_little_memory(served_bundle, pair):
    """Each takes 60 kB for ten seconds, and once there was no limit to their number."""
    certificate, key = pair
    trusting = ssl.create_default_context(cafile=certificate)
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 4000:
        pytest.skip("may open fewer than 4000 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4000), most))
    with serving(served_bundle, "--tls-key", key, "--tls-cert", certificate) as server, ExitStack() as open_ones:
        get(server.http, "/v2", scheme="https", context=trusting)
        before, (host, port) = peak_memory(server), server.http.split(":")
        for count in range(3000):
            silent = open_ones.enter_context(socket.create_connection((host, int(port))))
            if count % 2:
                silent.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a handshake
        started = time.monotonic()
        assert json.loads(get(server.http, "/v2", scheme="https", context=trusting))["name"] == "tscnc-deploy"
        assert time.monotonic() - started < 5
        assert peak_memory(server) - before < 40 << 20
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 0


@pytest.mark.parametrize("wrong", ["another key", "an encrypted key", "no key", "no file"])
def test_a_certificate_without_its_key_is_bad_input(served_bundle, tmp_path, wrong):
    openssl = shutil.which("openssl") or pytest.skip("needs the program openssl")
    new_key = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-days",
        "2",
        "-subj",
        "/CN=x",
    ]
    for name in ("a", "b"):
        files = ["-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem"]
        subprocess.run([openssl, *new_key, "-nodes", *files], check=True, capture_output=True)
    locked = tmp_path / "locked.key"
    subprocess.run(
        [openssl, "ec", "-in", tmp_path / "a.key", "-aes128", "-passout", "pass:secret", "-out", locked],
        check=True, capture_output=True,
    )  # fmt: skip
    keys = {
        "another key": tmp_path / "b.key", "an encrypted key": locked, "no key": tmp_path / "a.pem",
        "no file": tmp_path / "c.key",
    }  # fmt: skip
    done = invoke("serve", served_bundle, "--port", 0, "--tls-cert", tmp_path / "a.pem", "--tls-key", keys[wrong])
    assert done.exit_code == 2
    assert f"--tls-key {keys[wrong]}: not a valid pair: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_ipv6(served_bundle):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("needs IPv6 on the loopback interface")
    with serving(served_bundle, "--host", "::1") as server:
        assert re.fullmatch(r"\[::1\]:\d+", server.http)
        assert re.fullmatch(r"\[::1\]:\d+", server.grpc)
        assert json.loads(get(server.http, "/v2/models/tiny"))["name"] == "tiny"
        with pytest.raises(urllib.error.HTTPError, match="421"):
            urllib.request.urlopen(
                urllib.request.Request(f"http://{server.http}/v2", headers={"Host": "[2001:db8::1]"}), timeout=10
            )
        with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
            assert client.is_model_ready("tiny")
        done = invoke("verify", f"http://{server.http}/v2/models/tiny", "--dataset", "digits", "--samples", 20)
        assert "the server has 3 classes" in done.stderr or "classes" in done.stderr


def test_what_failed_is_served_only_on_request_and_says_so(tmp_path):
    folder = write_served(tmp_path / "failed", passed=False)
    refused = invoke("serve", folder, "--port", 0)
    assert refused.exit_code == 1
    assert "use --allow-failed to accept it anyway" in refused.stderr
    with serving(folder, "--allow-failed") as server:
        metadata = json.loads(get(server.http, "/v2"))
        assert metadata["allow_failed"] is True
        assert "allow_failed" in metadata["extensions"]
        assert json.loads(get(server.http, "/v2/models/tiny"))["parameters"]["passed"] is False
        assert server.document["passed"] is False


def test_a_port_in_use_is_bad_input(served_bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = invoke("serve", served_bundle, "--port", port)
        assert done.exit_code == 2
        assert f"--port {port}: cannot listen" in done.stderr
        done = invoke("serve", served_bundle, "--port", 0, "--grpc-port", port)
        assert done.exit_code == 2
        assert f"--grpc-port {port}" in done.stderr


@pytest.mark.parametrize("option", ["--tls-cert", "--tls-key"])
def test_half_of_a_certificate_is_rejected(served_bundle, tmp_path, option):
    done = invoke("serve", served_bundle, option, tmp_path / "file.pem")
    assert done.exit_code == 2
    assert "belong together" in done.stderr


def test_weights_of_the_test_engine_are_what_the_tests_think():
    assert WEIGHTS.sum() == 24
