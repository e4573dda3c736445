from __future__ import annotations

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
