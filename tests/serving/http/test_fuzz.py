"""The HTTP interface against its own description, and against sizes that lie."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.bundles import SHAPE
from tests.serving.running import serving
from tests.serving.test_hostile import exchange, request, status

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


def memory(server):
    place = Path(f"/proc/{server.process.pid}/statm")
    return int(place.read_text().split()[1]) * 4096 if place.exists() else 0


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
    answer = urllib.request.urlopen(f"http://{server.http}/v2/models/tiny/infer", json.dumps(body).encode(), timeout=10)
    assert json.load(answer)["outputs"][0]["shape"] == [1, 3]


def test_the_token_is_described_and_asked_for(served_bundle):
    with serving(served_bundle, TSCNC_SERVE_TOKEN="s3cret") as server:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(server, "/openapi.json")
        document = json.loads(get(server, "/openapi.json", Authorization="Bearer s3cret"))
    secured = {path for path, item in document["paths"].items() for call in item.values() if "security" in call}
    assert set(document["paths"]) - secured == {"/v2/health/live", "/v2/health/ready"}
    assert "401" in document["paths"]["/v2/models/{name}/infer"]["post"]["responses"]


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


IMAGE = 256  # bytes of one in float32
SIZES = st.sampled_from(
    [IMAGE, IMAGE, 2 * IMAGE, 0, 1, IMAGE - 1, IMAGE + 1, 2**31, 2**63, -1, "256", 256.0, True, None]
)
SENT = st.sampled_from([IMAGE, IMAGE, 2 * IMAGE, 0, IMAGE - 1, IMAGE + 1])
IMAGES = st.sampled_from([1, 1, 2, 0, -1, 17, 2**31, 2**62])
OFF = st.sampled_from([0, 0, 0, -1, 1, -100, 100, 2**31, 2**63])


@pytest.fixture(scope="module")
def lied_to(served_bundle, tmp_path_factory):
    log = tmp_path_factory.mktemp("lies") / "log"
    with serving(served_bundle, log=log) as server:
        for _ in range(50):  # what the first requests allocate is no growth
            assert status(exchange(server.http, lie(1, IMAGE, IMAGE, 0, 0)[0])) == 200
        before = memory(server)
        yield server
        assert memory(server) - before < 16 << 20
    assert log.read_text() == ""


def lie(images, size, sent, header_off, length_off):
    """A request in binary form, and whether everything that it says of itself is true."""
    parameters = {} if size is None else {"binary_data_size": size}
    tensor = {"name": "images", "datatype": "FP32", "shape": [images, *SHAPE], "parameters": parameters}
    text = json.dumps({"inputs": [tensor]}).encode()
    body = text + bytes(sent)
    length = max(len(body) + length_off, 0)
    true = header_off == length_off == 0 and type(size) is int and size == sent == images * IMAGE and 1 <= images <= 16
    header = f"Inference-Header-Content-Length: {len(text) + header_off}\r\n"
    return request(body, length=length, more=header), true


@settings(max_examples=200, deadline=None, derandomize=True)
@given(IMAGES, SIZES, SENT, OFF, OFF)
def test_only_sizes_that_agree_are_answered(lied_to, images, size, sent, header_off, length_off):
    data, true = lie(images, size, sent, header_off, length_off)
    found = status(exchange(lied_to.http, data, patience=0.05 if length_off > 0 else 10))
    # Whoever promises more bytes than come gets no answer, or hears that they did not come.
    assert found in ({200} if true else {400, 413} if length_off <= 0 else {400, 413, None})


def test_truncated_at_every_byte(lied_to):
    whole, true = lie(1, IMAGE, IMAGE, 0, 0)
    assert true
    for end in range(0, len(whole), 7):
        assert status(exchange(lied_to.http, whole[:end], patience=0.01)) in (None, 400)
    assert status(exchange(lied_to.http, whole)) == 200
