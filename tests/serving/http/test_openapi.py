"""The HTTP interface against its own description."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.serving.servers import memory, serving

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")

CONFIG = Path(__file__).with_name("schemathesis.toml")
CALLS = ("", "/ready", "/infer")


def get(server, path, **headers):
    asked = urllib.request.Request(f"http://{server.http}{path}", headers=headers)
    with urllib.request.urlopen(asked, timeout=10) as response:
        return response.read().decode()


def counted(server, status_):
    """Requests for inference over HTTP that got a status."""
    name = f'tscnc_requests_total{{call="infer",status="{status_}",transport="http"}} '
    return sum(float(line.removeprefix(name)) for line in get(server, "/metrics").splitlines() if line.startswith(name))


def test_the_description_names_every_call_of_the_protocol(server):
    document = json.loads(get(server, "/openapi.json"))
    assert document["openapi"] == "3.1.0"
    models = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
    others = {"/v2", "/v2/health/live", "/v2/health/ready", "/metrics", "/openapi.json"}
    assert set(document["paths"]) == others | {model + call for model in models for call in CALLS}
    infer = document["paths"]["/v2/models/{name}/infer"]["post"]
    assert set(infer["responses"]) == {"200", "400", "404", "408", "413", "429", "500", "503", "504"}
    assert set(infer["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
    assert [parameter["name"] for parameter in infer["parameters"]] == ["Inference-Header-Content-Length"]
    body = infer["requestBody"]["content"]["application/json"]["example"]
    response = urllib.request.urlopen(
        f"http://{server.http}/v2/models/tiny/infer", json.dumps(body).encode(), timeout=10
    )
    assert json.load(response)["outputs"][0]["shape"] == [1, 3]


def test_the_token_is_described_and_asked_for(served_bundle):
    with serving(served_bundle, TSCNC_SERVE_TOKEN="s3cret") as server:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(server, "/openapi.json")
        document = json.loads(get(server, "/openapi.json", Authorization="Bearer s3cret"))
    secured = {path for path, item in document["paths"].items() for call in item.values() if "security" in call}
    assert set(document["paths"]) - secured == {"/v2/health/live", "/v2/health/ready"}
    assert "401" in document["paths"]["/v2/models/{name}/infer"]["post"]["responses"]


@pytest.mark.slow
@pytest.mark.parametrize(("token", "phases"), [("", "examples,coverage,fuzzing"), ("s3cret", "coverage")])
def test_the_server_does_what_it_says_of_itself(served_bundle, tmp_path, token, phases):
    pytest.importorskip("schemathesis", reason="needs the extra: pip install 'tscnc-deploy[test]'")
    environment = {"TSCNC_SERVE_TOKEN": token} if token else {}
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with serving(served_bundle, log=tmp_path / "log", **environment) as server:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run",
            f"http://{server.http}/openapi.json", "--phases", phases, "--max-examples", "25",
            "--seed", "0", "--request-timeout", "20", "--suppress-health-check", "all",
            *(part for name, value in headers.items() for part in ("--header", f"{name}: {value}"))]  # fmt: skip
        before = memory(server)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-6000:]
        assert memory(server) - before < 32 << 20
        if not token:
            assert counted(server, 200) >= 5  # it found what is right, too
            assert counted(server, 400) >= 5
            assert counted(server, 500) == 0
    assert (tmp_path / "log").read_text() == ""
