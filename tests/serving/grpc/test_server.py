"""gRPC as a hostile client speaks it: no message is read before the token is right, and garbage is bad input."""

from __future__ import annotations

import pytest

from tests.serving.servers import memory, serving
from tscnc_deploy.open_inference import messages

grpc = pytest.importorskip("grpc", reason="needs the extra: pip install 'tscnc-deploy[serve]'")

CALLS = ("ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer")


def call(address, name, data, token=None):
    """The status of a call with these bytes as its message; "OK" if it was answered."""
    with grpc.insecure_channel(address) as channel:
        send = channel.unary_unary(f"/{messages.SERVICE}/{name}")
        metadata = [("authorization", f"Bearer {token}")] if token else []
        try:
            send(data, timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


@pytest.mark.parametrize("name", CALLS)
def test_garbage_is_an_invalid_argument_and_no_traceback(served_bundle, tmp_path, name):
    with serving(served_bundle, log=tmp_path / "log", TSCNC_SERVE_TOKEN="s3cret") as server:
        for garbage in (b"\xff" * 20, b"\x0a\xff\xff\xff\xff\x0f", b"\x0f"):
            assert call(server.grpc, name, garbage) == "UNAUTHENTICATED"
            assert call(server.grpc, name, garbage, "wrong") == "UNAUTHENTICATED"
            assert call(server.grpc, name, garbage, "s3cret") == "INVALID_ARGUMENT"
        # Answered without its message.
        assert call(server.grpc, "ServerLive", b"\xff" * 20) == "OK"
        assert call(server.grpc, "ServerLive", b"") == "OK"
    assert (tmp_path / "log").read_text() == ""


def test_small_fields_that_would_fill_the_memory_are_an_invalid_argument(served_bundle, tmp_path):
    with serving(served_bundle, log=tmp_path / "log") as server:
        assert call(server.grpc, "ModelInfer", b"\x2a\x00" * 40_000) == "INVALID_ARGUMENT"
    assert (tmp_path / "log").read_text() == ""


def test_unknown_calls_need_the_token_too(served_bundle):
    with serving(served_bundle, TSCNC_SERVE_TOKEN="s3cret") as server:
        assert call(server.grpc, "RepositoryIndex", b"") == "UNAUTHENTICATED"
        assert call(server.grpc, "RepositoryIndex", b"", "s3cret") == "UNIMPLEMENTED"


@pytest.mark.slow
def test_without_the_token_no_message_is_kept(served_bundle):
    with serving(served_bundle, TSCNC_SERVE_TOKEN="s3cret") as server:
        big = messages.ModelInferRequest(model_name="tiny", raw_input_contents=[bytes(80_000)]).SerializeToString()
        assert call(server.grpc, "ModelInfer", big) == "UNAUTHENTICATED"
        before = memory(server)
        with grpc.insecure_channel(server.grpc) as channel:
            send = channel.unary_unary(f"/{messages.SERVICE}/ModelInfer")
            for _ in range(5):  # 400 MB
                pending = [send.future(big, timeout=60) for _ in range(1000)]
                # gRPC itself refuses some of so many calls on one connection.
                assert {future.code().name for future in pending} <= {"UNAUTHENTICATED", "UNAVAILABLE"}
        assert memory(server) - before < 64 << 20  # buffers of gRPC
