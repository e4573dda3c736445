from __future__ import annotations

import json
import urllib.error

import pytest

from tests.conftest import invoke
from tests.serving.clients import get
from tests.serving.servers import serving
from tests.serving.wire import exchange, status

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")
pytest.importorskip("tritonclient.http", reason="needs the extra: pip install 'tscnc-deploy[test]'")
import tritonclient.grpc


def test_a_token_is_required(served_bundle):
    with serving(served_bundle, TSCNC_SERVE_TOKEN="s3cret") as server:
        assert json.loads(get(server.http, "/v2/health/ready")) == {"ready": True}
        for token in (None, "s3cre", "wrong"):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                get(server.http, "/v2/models/tiny", token)
        assert json.loads(get(server.http, "/v2/models/tiny", "s3cret"))["name"] == "tiny"
        client = tritonclient.grpc.InferenceServerClient(server.grpc)
        assert client.is_server_ready()
        with pytest.raises(Exception, match="bearer token"):
            client.get_model_metadata("tiny")
        assert client.get_model_metadata("tiny", headers={"authorization": "Bearer s3cret"}).name == "tiny"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bearer "])
def test_the_scheme_of_the_token_may_be_written_in_any_case(served_bundle, scheme):
    with serving(served_bundle, TSCNC_SERVE_TOKEN="s3cret") as server:
        for sent, expected in ((f"{scheme} s3cret", 200), (f"{scheme} S3CRET", 401), ("Basic s3cret", 401)):
            head = f"GET /v2 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {sent}\r\n\r\n"
            assert status(exchange(server.http, head.encode())) == expected


@pytest.mark.parametrize(
    ("token", "words"),
    [("", "is set but empty"), ("two words", "contains spaces"), ("\xe9", "other than ASCII")],
)
def test_a_token_that_protects_nothing_or_cannot_be_sent_is_refused(served_bundle, monkeypatch, token, words):
    monkeypatch.setenv("TSCNC_SERVE_TOKEN", token)
    done = invoke("serve", served_bundle, "--port", 0, "--grpc-port", 0)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: TSCNC_SERVE_TOKEN ")
    assert words in done.stderr


def test_the_access_log_is_json(served_bundle, tmp_path):
    with serving(served_bundle, "--access-log", log=tmp_path / "log") as server:
        get(server.http, "/v2/health/live")
        server.process.terminate()
        server.process.wait(20)
    (line,) = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v2/health/live", 200)
