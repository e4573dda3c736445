"""Signatures are required where asked for, and a reload never accepts what a start would reject."""

from __future__ import annotations

import json
import shutil
import signal
import time
import urllib.request

import numpy as np
import pytest

from tests.bundle.signing.test_key import make_keys
from tests.conftest import invoke
from tests.serving.bundles import WEIGHTS, write_served
from tests.serving.servers import serving
from tscnc_deploy.bundle import open_bundle
from tscnc_deploy.bundle.signing.key import sign
from tscnc_deploy.errors import BundleError

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")
pytest.importorskip("model_signing", reason="needs the extra: pip install 'tscnc-deploy[sign]'")

from tscnc_deploy.serving.loading import open_model


@pytest.fixture
def keys(tmp_path):
    return make_keys(tmp_path, "mine")


@pytest.fixture
def signed(served_bundle, tmp_path, keys):
    folder = shutil.copytree(served_bundle, tmp_path / "bundle")
    sign(folder, keys[0])
    return folder


def get(server, path):
    with urllib.request.urlopen(f"http://{server.http}{path}", timeout=10) as response:
        return json.loads(response.read())


def infer(server):
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 1, 8, 8], "data": [255] * 64}
    body = json.dumps({"inputs": [tensor]}).encode()
    with urllib.request.urlopen(f"http://{server.http}/v2/models/tiny/infer", body, timeout=10) as response:
        return json.loads(response.read())


def test_the_right_signature_is_told_to_clients(signed, keys):
    with serving(signed, "--key", keys[1]) as server:
        assert server.document["signed"] is True
        assert get(server, "/v2/models/tiny")["parameters"]["signed"] is True
        assert get(server, "/v2")["allow_unsigned"] is False


def test_without_a_key_nobody_says_that_it_is_signed(signed):
    assert open_model(open_bundle(signed), threads=1).signed is None


def test_an_unsigned_bundle_is_rejected(served_bundle, keys):
    done = invoke("serve", served_bundle, "--port", 0, "--key", keys[1])
    assert done.exit_code == 2
    assert "not signed: model.sig not found" in done.stderr
    assert "use --allow-unsigned to accept it anyway" in done.stderr


def test_another_key_is_rejected(signed, tmp_path):
    other = make_keys(tmp_path, "other")[1]
    done = invoke("serve", signed, "--port", 0, "--key", other)
    assert done.exit_code == 2
    assert f"no valid signature by {other}" in done.stderr


def test_a_key_that_cannot_be_read_is_rejected_whatever_is_allowed(signed, tmp_path):
    done = invoke("serve", signed, "--port", 0, "--allow-unsigned", "--key", tmp_path / "none.pem")
    assert done.exit_code == 2
    assert "none.pem: cannot be read" in done.stderr


def test_what_is_allowed_nevertheless_shows(served_bundle, keys):
    with serving(served_bundle, "--allow-unsigned", "--key", keys[1]) as server:
        assert server.document["signed"] is False
        metadata = get(server, "/v2")
        assert metadata["allow_unsigned"] is True
        assert "allow_unsigned" in metadata["extensions"]
        assert get(server, "/v2/models/tiny")["parameters"]["signed"] is False


def test_allowing_without_a_key_is_no_option(served_bundle):
    done = invoke("serve", served_bundle, "--allow-unsigned")
    assert done.exit_code == 2
    assert "has no effect without --key" in done.stderr


def test_an_identity_is_asked_for_like_a_key(served_bundle, keys):
    whose = ("--identity", "me@example.org", "--issuer", "https://issuer.example.org")
    done = invoke("serve", served_bundle, "--port", 0, *whose)
    assert done.exit_code == 2
    assert "not signed: model.sig not found" in done.stderr
    done = invoke("serve", served_bundle, "--port", 0, *whose, "--key", keys[1])
    assert done.exit_code == 2
    assert "a bundle has one signature" in done.stderr


def test_signed_files_that_changed_are_rejected(signed, keys):
    bundle = open_bundle(signed)
    (signed / "README.md").write_text("# another\n")
    with pytest.raises(BundleError, match="no valid signature by"):
        open_model(bundle, signer=keys[1])


def unsigned(folder, private):
    write_served(folder, batch_max=32)


def foreign(folder, private):
    write_served(folder, batch_max=32)
    sign(folder, make_keys(folder.parent, "foreign")[0])


def failed(folder, private):
    write_served(folder, passed=False, batch_max=32)
    sign(folder, private)


def never_attacked(folder, private):
    write_served(folder, attacked=False, batch_max=32)
    sign(folder, private)


def broken_engine(folder, private):
    write_served(folder, batch_max=32, weights=np.zeros((63, 3), np.float32))
    sign(folder, private)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (unsigned, "not signed"),
        (foreign, "no valid signature by"),
        (failed, "failed its gates"),
        (never_attacked, "its engines were not attacked"),
        (broken_engine, "the bundle was not reloaded"),
    ],
)
@pytest.mark.slow
def test_a_new_version_that_does_not_pass_leaves_the_old_one_serving(signed, keys, tmp_path, write, words):
    log = tmp_path / "log"
    with serving(signed, "--key", keys[1], log=log) as server:
        before = get(server, "/v2/models/tiny")
        shutil.rmtree(signed)
        write(signed, keys[0])
        server.process.send_signal(signal.SIGHUP)
        latest = time.monotonic() + 60
        while "was not reloaded" not in log.read_text() and time.monotonic() < latest:
            time.sleep(0.05)
        assert words in log.read_text()
        assert get(server, "/v2/models/tiny") == before
        response = infer(server)
        assert response["model_version"] == "1"
        np.testing.assert_allclose(response["outputs"][0]["data"], WEIGHTS.sum(0), rtol=1e-5)
        # And one that passes is let in afterwards.
        shutil.rmtree(signed)
        write_served(signed, batch_max=32)
        sign(signed, keys[0])
        server.process.send_signal(signal.SIGHUP)
        while get(server, "/v2/models/tiny")["versions"] == ["1"] and time.monotonic() < latest:
            time.sleep(0.05)
        assert get(server, "/v2/models/tiny")["parameters"]["max_batch"] == 32
        assert infer(server)["model_version"] == "2"
