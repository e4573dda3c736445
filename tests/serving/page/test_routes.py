"""The page and its files over HTTP, with and without the token; test_browser looks at it in a browser."""

from __future__ import annotations

import urllib.error
import urllib.request

import numpy as np
import pytest

from tests.serving.bundles import attacked_evidence, write_served
from tests.serving.servers import serving

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")

PROOF = attacked_evidence()


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    with serving(write_served(tmp_path_factory.mktemp("shown") / "bundle", proof=PROOF)) as server:
        yield server


def get(server, path, token=None, method="GET"):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    asked = urllib.request.Request(f"http://{server.http}{path}", headers=headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=10) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_the_page_shows_gates_and_accuracies(shown):
    status, headers, body = get(shown, "/")
    text = body.decode()
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    for words in (
        "<h1>tiny</h1>",
        "✓ Passed",
        "3 of 4",
        "20.0 to 99.0",
        "robust accuracy, lower end",
        "0.2",
        "ε = 0.1",
    ):
        assert words in text
    assert shown.document["bundle_sha256"] in text


def test_nothing_inline_and_nothing_from_outside_may_run(shown):
    for path in ("/", "/page/main.js", "/page/style.css", "/page/examples/0"):
        policy = dict(part.split(" ", 1) for part in get(shown, path)[1]["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert get(shown, path)[1]["X-Content-Type-Options"] == "nosniff"
    text = get(shown, "/")[2].decode()
    assert "http://" not in text and "https://" not in text
    assert "style=" not in text and "onclick" not in text


@pytest.mark.parametrize("path", ["/page/index.html.j2", "/page/none.js", "/page/%2e%2e/kserve.yaml.j2", "/page/",
                                  "/page/examples/3", "/page/examples/-1", "/page/examples/x", "/page/examples/00",
                                  "/page/examples/" + "1" * 5000, "/page/examples/%D9%A3"])  # fmt: skip
def test_only_its_own_files_are_given_out(shown, path):
    assert get(shown, path)[0] == 404


def test_examples_are_the_pixels_of_the_evidence(shown):
    # Misclassified images come first; image 3 is left out because it is misclassified without an attack.
    for number, index in enumerate((0, 2, 1)):
        body = get(shown, f"/page/examples/{number}")[2]
        pair = np.frombuffer(body, "<f4").reshape(2, 1, 8, 8)
        np.testing.assert_array_equal(pair, [PROOF.images[index], PROOF.adversarial["onnx-cpu"][index]])


def test_without_the_token_the_page_says_nothing_about_the_model(served_bundle):
    with serving(served_bundle, TSCNC_SERVE_TOKEN="s3cret") as server:
        status, _, body = get(server, "/")
        assert status == 200
        assert b"requires a token" in body
        everything = get(server, "/", "s3cret")[2]
        for secret in ("tiny", server.document["bundle_sha256"], "onnx", "resnet18", "0.1", "passed", "75.0%"):
            assert secret.encode() in everything
            assert secret.encode() not in body
        assert get(server, "/", "wrong")[0] == 401
        assert [get(server, "/page/examples/0", token)[0] for token in (None, "wrong", "s3cret")] == [401, 401, 200]
        assert get(server, "/page/main.js")[0] == 200
        assert get(server, "/metrics")[0] == get(server, "/v2/models/tiny")[0] == 401


def test_no_page(served_bundle):
    with serving(served_bundle, "--no-page") as server:
        paths = ("/", "/page/main.js", "/page/style.css", "/page/examples/0")
        assert [get(server, path)[0] for path in paths] == [404] * 4
        assert get(server, "/v2/models/tiny")[0] == 200


def test_other_methods_are_rejected(shown):
    assert get(shown, "/", method="HEAD")[0] == 200
    assert get(shown, "/", method="POST")[0] == 405
