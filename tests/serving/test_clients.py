"""tritonclient, unmodified, over HTTP and gRPC, synchronous and asynchronous, against every call of the protocol."""

from __future__ import annotations

import asyncio
import inspect

import numpy as np
import pytest

from tests.serving.bundles import SHAPE, expected

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")
pytest.importorskip("tritonclient", reason="needs the extra: pip install 'tscnc-deploy[test]'")

KINDS = ("http", "grpc", "http.aio", "grpc.aio")


class Client:
    """One of the four clients; every call waits for its response."""

    def __init__(self, kind, server):
        self.module = pytest.importorskip(f"tritonclient.{kind}")
        self.loop = asyncio.new_event_loop()
        self.kind = kind
        self.client = self.wait(self.make(server.http if "http" in kind else server.grpc))

    async def make_async(self, address):
        return self.module.InferenceServerClient(address)

    def make(self, address):
        return self.make_async(address) if "aio" in self.kind else self.module.InferenceServerClient(address)

    def wait(self, result):
        return self.loop.run_until_complete(result) if inspect.isawaitable(result) else result

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.wait(getattr(self.client, name)(*args, **kwargs))

    def tensor(self, array, datatype="FP32", **how):
        tensor = self.module.InferInput("images", list(array.shape), datatype)
        tensor.set_data_from_numpy(array, **(how if "http" in self.kind else {}))
        return [tensor]

    def output(self, **how):
        if "grpc" in self.kind:
            how.pop("binary_data", None)
        return [self.module.InferRequestedOutput("logits", **how)]

    def as_dict(self, message):
        if isinstance(message, dict):
            return message
        from google.protobuf.json_format import MessageToDict

        return MessageToDict(message, preserving_proto_field_name=True)


@pytest.fixture(params=KINDS)
def client(request, server):
    made = Client(request.param, server)
    yield made
    made.close()
    made.loop.close()


def images(count=3, seed=0):
    return np.random.default_rng(seed).random((count, *SHAPE), np.float32)


def test_health(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")


def test_metadata(client):
    metadata = client.as_dict(client.get_server_metadata())
    assert metadata["name"] == "tscnc-deploy"
    assert metadata["extensions"] == ["binary_tensor_data", "classification"]
    metadata = client.as_dict(client.get_model_metadata("tiny", "1"))
    assert (metadata["name"], metadata["versions"]) == ("tiny", ["1"])
    assert [(t["name"], t["datatype"], [int(n) for n in t["shape"]]) for t in metadata["inputs"]] == [
        ("images", "FP32", [-1, 1, 8, 8])
    ]
    assert [(t["name"], t["datatype"], [int(n) for n in t["shape"]]) for t in metadata["outputs"]] == [
        ("logits", "FP32", [-1, 3])
    ]


def test_logits(client):
    response = client.infer("tiny", client.tensor(images()), request_id="seven")
    assert client.as_dict(response.get_response())["id"] == "seven"
    np.testing.assert_allclose(response.as_numpy("logits"), expected(images()), rtol=1e-6)


def test_a_version_and_a_timeout_may_be_named(client):
    response = client.infer("tiny", client.tensor(images()), "1", timeout=5_000_000)
    assert response.as_numpy("logits").shape == (3, 3)


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_json_and_binary_say_the_same(client, binary_in, binary_out):
    tensor = client.tensor(images(), binary_data=binary_in)
    response = client.infer("tiny", tensor, outputs=client.output(binary_data=binary_out))
    np.testing.assert_allclose(response.as_numpy("logits"), expected(images()), rtol=1e-6)


@pytest.mark.parametrize("binary", [True, False])
def test_pixels_are_scaled(client, binary):
    pixels = np.arange(128, dtype=np.uint8).reshape(2, *SHAPE) * 2
    response = client.infer("tiny", client.tensor(pixels, "UINT8", binary_data=binary))
    np.testing.assert_allclose(response.as_numpy("logits"), expected(pixels.astype(np.float32) / 255), rtol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_the_classes_ranked_first(client, binary):
    image = np.zeros((1, *SHAPE), np.float32)
    image[0, 0, 1] = 0.5
    image[0, 0, 2] = 0.25
    outputs = client.output(class_count=2, binary_data=binary)
    ranked = client.infer("tiny", client.tensor(image), outputs=outputs).as_numpy("logits")
    texts = [text.decode() if isinstance(text, bytes) else text for text in ranked.reshape(-1)]
    assert texts == ["4.000000:1:one", "2.000000:2:two"]
    assert ranked.shape == (1, 2)


def test_a_error_says_why(client):
    bad = images()
    bad[1, 0, 2, 3] = np.nan
    with pytest.raises(Exception, match=r"the value at \[1, 0, 2, 3\] is nan"):
        client.infer("tiny", client.tensor(bad))
    with pytest.raises(Exception, match="model 'other' is not served here"):
        client.infer("other", client.tensor(images()))
    with pytest.raises(Exception, match="17 images in one request, but at most 16"):
        client.infer("tiny", client.tensor(images(17)))


def test_many_requests_at_once_get_their_own_responses(client):
    batches = [images(1 + number % 5, number) for number in range(20)]
    if "aio" in client.kind:

        async def ask_all():
            return await asyncio.gather(*(client.client.infer("tiny", client.tensor(batch)) for batch in batches))

        responses = client.wait(ask_all())
    elif client.kind == "http":
        requests = [client.client.async_infer("tiny", client.tensor(batch)) for batch in batches]
        responses = [request.get_result() for request in requests]
    else:
        import queue

        results = queue.Queue()

        def keep(number):
            return lambda result, error: results.put((number, result, error))

        for number, batch in enumerate(batches):
            client.client.async_infer("tiny", client.tensor(batch), keep(number))
        found = [results.get(timeout=20) for _ in batches]
        assert not [error for _, _, error in found if error]
        responses = [result for _, result, _ in sorted(found, key=lambda item: item[0])]
    for batch, response in zip(batches, responses, strict=True):
        np.testing.assert_allclose(response.as_numpy("logits"), expected(batch), rtol=1e-6)
