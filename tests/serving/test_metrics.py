from __future__ import annotations

import socket

import numpy as np
import pytest

from tests.serving.bundles import SHAPE
from tests.serving.clients import get, tensor
from tests.serving.servers import serving

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")
pytest.importorskip("tritonclient.http", reason="needs the extra: pip install 'tscnc-deploy[test]'")
import tritonclient.grpc
import tritonclient.http


def test_every_transport_and_call_is_counted(served_bundle):
    with serving(served_bundle, "--instances", "2", "--access-log") as server:
        client = tritonclient.http.InferenceServerClient(server.http)
        images = np.zeros((3, *SHAPE), np.float32)
        for _ in range(2):
            client.infer("tiny", tensor(tritonclient.http, images))
        rpc = tritonclient.grpc.InferenceServerClient(server.grpc)
        rpc.infer("tiny", tensor(tritonclient.grpc, images))
        text = get(server.http, "/metrics").decode()
    assert 'tscnc_requests_total{call="infer",status="200",transport="http"} 2.0' in text
    assert 'tscnc_requests_total{call="infer",status="OK",transport="grpc"} 1.0' in text
    assert 'tscnc_batch_images_bucket{le="4.0"} 3.0' in text
    assert "tscnc_queue_seconds_count 3.0" in text
    assert 'engine="onnx-cpu",model="tiny",provider="CPUExecutionProvider",version="1"} 1.0' in text


def test_names_stay_labels_and_requests_make_no_new_ones(server):
    from types import SimpleNamespace

    from prometheus_client.parser import text_string_to_metric_families

    from tscnc_deploy.serving.metrics import Metrics

    name = 'a"} 1\nevil{b="\\'
    metrics = Metrics()
    spec = SimpleNamespace(name=name, provider=name)
    metrics.show_model(SimpleNamespace(name=name, version="1", digest="0", spec=spec), lambda: 0)
    families = {family.name: family for family in text_string_to_metric_families(metrics.to_text().decode())}
    assert not any("evil" in family for family in families)
    (sample,) = families["tscnc_model"].samples
    assert (sample.labels["model"], sample.labels["engine"], sample.value) == (name, name, 1)

    def series():
        return {line.split(" ")[0] for line in get(server.http, "/metrics").decode().splitlines() if line[:1] != "#"}

    def ask(method, path):
        host, port = server.http.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            while connection.recv(65536):
                pass

    ask("GET", "/none")
    series()
    before = series()
    for number in range(30):
        ask("GET", f"/none{number}")
    assert series() == before
