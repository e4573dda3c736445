"""Keyless signatures as far as they go without a network, always with the real library."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources

import pytest

from tests.bundle.signing.test_key import make_keys
from tests.conftest import invoke
from tscnc_deploy.bundle.signing.key import sign
from tscnc_deploy.bundle.signing.keyless import Identity, sign_keyless, verify_identity
from tscnc_deploy.errors import BundleError, InputError, StorageError, UnavailableError

pytest.importorskip("model_signing", reason="pip install 'tscnc-deploy[sign]'")

ME = "me@example.org"
ISSUER = "https://issuer.example.org"


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No CI system's identity, no network, and a home of the test's own."""
    for variable in os.environ:
        if variable.startswith(("GITHUB_", "GITLAB_", "ACTIONS_", "BUILDKITE", "CI", "SIGSTORE_", "GOOGLE_")):
            monkeypatch.delenv(variable)
    for variable in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # "discard": nobody listens
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


@pytest.fixture
def trust_config(tmp_path):
    """Sigstore's public deployment as its library carries it, which is enough to verify without a network."""
    store = resources.files("sigstore") / "_store" / "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev"
    config = {
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": json.loads((store / "trusted_root.json").read_text()),
        "signingConfig": json.loads((store / "signing_config.v0.2.json").read_text()),
    }
    path = tmp_path / "trust.json"
    path.write_text(json.dumps(config))
    return path


def token(**claims) -> str:
    """A token as an issuer would give it, but for the signature, which only a server can check."""
    now = int(time.time())
    body = {"iss": ISSUER, "sub": "me", "email": ME, "aud": "sigstore", "iat": now, "exp": now + 600, **claims}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "RS256"}, body)
    ]
    return ".".join([*parts, "AAAA"])


def in_gitlab(monkeypatch, value):
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", value)


def test_without_an_identity_it_says_how_to_get_one(folder):
    with pytest.raises(InputError, match=r"no identity found; in GitHub Actions add `permissions: id-token"):
        sign_keyless(folder)
    assert not (folder / "model.sig").exists()


@pytest.mark.parametrize(
    "value", ["no token", token(exp=1), token(aud="another service")], ids=["garbage", "expired", "audience"]
)
def test_an_identity_that_cannot_sign_is_refused(folder, monkeypatch, value):
    in_gitlab(monkeypatch, value)
    with pytest.raises(InputError, match="the identity token of this job cannot be used"):
        sign_keyless(folder)


def test_signing_without_a_network(folder, monkeypatch, trust_config):
    in_gitlab(monkeypatch, token())
    with pytest.raises(UnavailableError, match=r"Sigstore cannot be reached.*--key works without a network"):
        sign_keyless(folder)
    with pytest.raises(UnavailableError, match="Sigstore cannot be reached"):
        sign_keyless(folder, trust_config)
    assert not (folder / "model.sig").exists()


class Servers(BaseHTTPRequestHandler):
    """An identity provider that is known and a certificate authority that refuses."""

    def do_GET(self):
        address = f"http://127.0.0.1:{self.server.server_port}"
        known = {"issuer": address, "authorization_endpoint": address, "token_endpoint": address}
        self.answer(200, json.dumps(known).encode())

    def do_POST(self):
        self.answer(400, b"{}")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments): ...


@pytest.fixture
def servers(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Servers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("authority", "message"),
    [("http://127.0.0.1:9", "Sigstore cannot be reached"), (None, "Sigstore returned an error: 400 Client Error")],
    ids=["unreachable", "refuses"],
)
def test_a_certificate_that_is_not_given(folder, monkeypatch, trust_config, servers, authority, message):
    config = json.loads(trust_config.read_text())
    for service, address in (("caUrls", authority or servers), ("oidcUrls", servers)):
        for each in config["signingConfig"][service]:
            each["url"] = address
    trust_config.write_text(json.dumps(config))
    in_gitlab(monkeypatch, token())
    with pytest.raises(UnavailableError) as caught:
        sign_keyless(folder, trust_config)
    assert message in str(caught.value)
    assert not (folder / "model.sig").exists()


def test_verifying_without_a_network(folder, tmp_path):
    sign(folder, make_keys(tmp_path, "mine")[0])
    with pytest.raises(UnavailableError, match="Sigstore cannot be reached"):
        verify_identity(folder, Identity(ME, ISSUER))


def test_verifying_where_nothing_can_be_kept(folder, tmp_path, monkeypatch):
    sign(folder, make_keys(tmp_path, "mine")[0])
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc")
    with pytest.raises(StorageError, match="set HOME to a writable folder"):
        verify_identity(folder, Identity(ME, ISSUER))


def test_what_is_not_signed_or_by_a_key_is_refused(folder, tmp_path, trust_config):
    wanted = Identity(ME, ISSUER, trust_config)
    with pytest.raises(BundleError, match=r"not signed: model\.sig not found"):
        verify_identity(folder, wanted)
    sign(folder, make_keys(tmp_path, "mine")[0])
    with pytest.raises(BundleError, match=rf"no valid signature by {ME} \({ISSUER}\) for these files"):
        verify_identity(folder, wanted)


@pytest.mark.parametrize("data", [b"", b"{}", b"not json", b"[" * 100_000, b"\xff\xfe"])
def test_a_hostile_signature_is_refused(folder, trust_config, data):
    (folder / "model.sig").write_bytes(data)
    with pytest.raises(BundleError, match="no valid signature by"):
        verify_identity(folder, Identity(ME, ISSUER, trust_config))


@pytest.mark.parametrize("text", ["", "{}", "no JSON", '{"mediaType": 1}'])
def test_a_trust_configuration_that_is_none(folder, tmp_path, text):
    (folder / "model.sig").write_text("{}")
    (tmp_path / "wrong.json").write_text(text)
    with pytest.raises(InputError, match=r"wrong\.json: not a Sigstore trust configuration"):
        verify_identity(folder, Identity(ME, ISSUER, tmp_path / "wrong.json"))
    with pytest.raises(InputError, match=r"missing\.json: cannot be read"):
        verify_identity(folder, Identity(ME, ISSUER, tmp_path / "missing.json"))


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("sign", [], "--key and --keyless: neither given; use --key PRIVATE.pem to sign with a key, or --keyless"),
        ("sign", ["--key", "k.pem", "--keyless"], "--key and --keyless: both given"),
        ("sign", ["--key", "k.pem", "--trust-config", "t"], "--trust-config t: requires --keyless"),
        ("verify-signature", [], "no signer given: add --key PUBLIC.pem, or --identity NAME and --issuer"),
        *(
            (command, options, message)
            for command in ("verify-signature", "check")
            for options, message in (
                (
                    ["--identity", ME],
                    f"--identity {ME}: requires --issuer URL",
                ),
                (
                    ["--issuer", ISSUER],
                    f"--issuer {ISSUER}: requires --identity NAME",
                ),
                (["--trust-config", "t"], "--trust-config t: requires --identity NAME"),
                (["--key", "k.pem", "--identity", ME], "--key and --identity: a bundle has one signature"),
            )
        ),
    ],
)
def test_options_that_do_not_go_together(folder, command, options, message):
    result = invoke(command, folder, *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_exit_statuses(folder, tmp_path, trust_config):
    identity = ("--identity", ME, "--issuer", ISSUER)
    sign(folder, make_keys(tmp_path, "mine")[0])
    assert invoke("verify-signature", folder, *identity).exit_code == 3
    assert invoke("verify-signature", folder, *identity, "--trust-config", trust_config).exit_code == 2
    checked = invoke("check", folder, *identity, "--json")
    outcomes = {result["name"]: result["outcome"] for result in json.loads(checked.stdout)["results"]}
    assert (checked.exit_code, outcomes["signature"]) == (3, "unavailable")
    checked = invoke("check", folder, *identity, "--trust-config", trust_config)
    assert (checked.exit_code, "no valid signature by" in checked.stderr) == (2, True)


@pytest.mark.sigstore
def test_signing_and_verifying_with_sigstore(folder, monkeypatch):
    """With the identity of the environment, into the public log: nothing here stands in for a server."""
    identity, issuer, given = os.environ["TSCNC_SIGSTORE"].split()
    for variable in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.delenv(variable)
    in_gitlab(monkeypatch, given)
    sign_keyless(folder)
    verify_identity(folder, Identity(identity, issuer))
    with pytest.raises(BundleError, match="no valid signature by"):
        verify_identity(folder, Identity("somebody@example.org", issuer))
    (folder / "README.md").write_text("changed")
    with pytest.raises(BundleError, match="no valid signature by"):
        verify_identity(folder, Identity(identity, issuer))
