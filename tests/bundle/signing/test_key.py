"""Signatures cover every file, and nothing but the right key's is taken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundle.folders import contents
from tests.conftest import invoke
from tscnc_deploy import open_bundle
from tscnc_deploy.bundle import seal
from tscnc_deploy.bundle.signing.key import sign, verify_signature
from tscnc_deploy.bundle.signing.keyless import verify_signer
from tscnc_deploy.errors import BundleError, InputError

pytest.importorskip("model_signing", reason="pip install 'tscnc-deploy[sign]'")


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def keys(tmp_path):
    return make_keys(tmp_path, "mine")


@pytest.fixture
def signed(folder, keys):
    sign(folder, keys[0])
    return folder


def test_a_signed_bundle_opens_and_verifies(signed, keys):
    assert open_bundle(signed).path == signed
    verify_signature(signed, keys[1])
    signed.rename(signed.parent / "renamed")
    renamed = signed.parent / "renamed"
    verify_signature(renamed, keys[1])
    # What was accepted is the signature: without it the same call refuses.
    (renamed / "model.sig").unlink()
    with pytest.raises(BundleError, match=r"not signed: model\.sig not found"):
        verify_signature(renamed, keys[1])


@pytest.mark.parametrize("path", ["manifest.json", "README.md", "engines/onnx-cpu/model.onnx", "recipe.toml"])
def test_it_covers_every_file(signed, keys, path):
    (signed / path).write_bytes((signed / path).read_bytes() + b" ")
    with pytest.raises(BundleError, match="no valid signature by"):
        verify_signature(signed, keys[1])


@pytest.mark.parametrize("path", ["extra.txt", ".gitignore", ".git/config", "engines/.gitattributes"])
def test_it_covers_added_files(signed, keys, path):
    (signed / path).parent.mkdir(exist_ok=True)
    (signed / path).write_text("x")
    with pytest.raises(BundleError, match="no valid signature by"):
        verify_signature(signed, keys[1])


def test_another_key_is_not_taken(signed, tmp_path):
    with pytest.raises(BundleError, match="no valid signature by"):
        verify_signature(signed, make_keys(tmp_path, "other")[1])


def test_resealing_removes_the_signature(signed, keys):
    seal(signed, contents())
    with pytest.raises(BundleError, match="not signed"):
        verify_signature(signed, keys[1])


@pytest.mark.parametrize("data", [b"", b"{}", b"not json", b"[" * 100_000, b'{"mediaType": 1}', b"\xff\xfe"])
def test_a_hostile_signature_is_refused(signed, keys, data):
    (signed / "model.sig").write_bytes(data)
    with pytest.raises(BundleError, match="no valid signature by"):
        verify_signature(signed, keys[1])


def test_a_signature_that_is_a_link_or_huge_is_refused(signed, keys):
    path = signed / "model.sig"
    data = path.read_bytes()
    (signed.parent / "elsewhere").write_bytes(data)
    path.unlink()
    path.symlink_to(signed.parent / "elsewhere")
    with pytest.raises(BundleError, match="symbolic link"):
        verify_signature(signed, keys[1])
    with pytest.raises(BundleError, match="symbolic link"):
        open_bundle(signed)
    path.unlink()
    path.touch()
    os.truncate(path, 1 << 30)
    with pytest.raises(BundleError, match="is longer than"):
        verify_signature(signed, keys[1])


def test_what_was_signed_is_the_bundle_that_was_opened(signed, keys):
    good = open_bundle(signed)
    verify_signer(good, keys[1])
    original = {path: path.read_bytes() for path in (signed / "README.md", signed / "manifest.json")}
    kept = (signed / "model.sig").read_bytes()
    (signed / "README.md").write_text("another bundle")
    seal(signed, contents())
    other = open_bundle(signed)
    # The signed files are back when they are compared with the signature.
    for path, data in original.items():
        path.write_bytes(data)
    (signed / "model.sig").write_bytes(kept)
    verify_signer(good, keys[1])
    with pytest.raises(BundleError, match=r"for another manifest\.json than the one that was opened"):
        verify_signer(other, keys[1])


def test_a_signature_in_another_form_of_json_says_nothing_of_the_manifest(signed, keys):
    path = signed / "model.sig"
    path.write_text(path.read_text().replace("dsseEnvelope", "dsse_envelope"))
    verify_signature(signed, keys[1])
    with pytest.raises(BundleError, match="for another manifest"):
        verify_signer(open_bundle(signed), keys[1])


def test_keys_that_are_none(folder, keys, tmp_path):
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no key")
    with pytest.raises(InputError, match="not a private key"):
        sign(folder, wrong)
    with pytest.raises(InputError, match="cannot be read"):
        sign(folder, tmp_path / "missing.pem")
    sign(folder, keys[0])
    with pytest.raises(InputError, match="not a public key"):
        verify_signature(folder, wrong)


def test_the_commands(folder, keys):
    unsigned = invoke("verify-signature", folder, "--key", keys[1])
    assert (unsigned.exit_code, "not signed" in unsigned.stderr) == (2, True)
    done = invoke("sign", folder, "--key", keys[0], "--json")
    assert json.loads(done.stdout)["files"] == len(open_bundle(folder).manifest.files) + 1
    assert json.loads(invoke("verify-signature", folder, "--key", keys[1], "--json").stdout)["valid"] is True


def test_the_library_itself_takes_it(signed, keys):
    """The form is the OpenSSF's: its own command verifies the bundle too."""
    command = [
        sys.executable, "-m", "model_signing", "verify", "key", str(signed), "--signature", str(signed / "model.sig"),
        "--public_key", str(keys[1]), "--ignore-paths", str(signed / "model.sig"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
