"""Signatures of bundles in the OpenSSF Model Signing format: the digests of all files, signed with a key.

Digests only detect damage; a signature also shows who made the bundle. The library is `model-signing`, an optional
extra.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.bundle.manifest import MANIFEST
from tscnc_deploy.bundle.tree import SIGNATURE, open_regular
from tscnc_deploy.errors import BundleError, InputError, StorageError, UnavailableError

if TYPE_CHECKING:
    from types import ModuleType

_INSTALL = "signatures need a package that is missing; run: pip install 'tscnc-deploy[sign]'"
# A statement needs about 200 bytes per file.
_MAX_BYTES = 8 << 20


def sign(folder: Path, private_key: Path, password: str | None = None) -> Path:
    """Signs all files of a bundle, including the manifest, and replaces an existing signature.

    Args:
        folder: Folder of a bundle that has been opened and therefore checked.
        private_key: Elliptic-curve key in PEM (NIST P-256, P-384 or P-521).
        password: Password of the key; None if it is not encrypted.

    Returns:
        The path of the signature.

    Raises:
        InputError: The key cannot be read, or is not such a key.
        StorageError: The signature cannot be written.
        UnavailableError: model-signing is not installed.
    """
    signing = library("signing")
    require_file(private_key)
    path = folder / SIGNATURE
    try:
        config = signing.Config().use_elliptic_key_signer(
            private_key=private_key, password=None if password is None else password.encode()
        )
    except Exception as error:  # cryptography and the library raise many unrelated errors here
        msg = f"{private_key}: not a private key (NIST P-256, P-384 or P-521 in PEM), or encrypted: {one_line(error)}"
        raise InputError(msg) from error
    try:
        config.set_hashing_config(hashing()).sign(folder, path)
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}"
        raise StorageError(msg) from error
    return path


def verify_signature(folder: Path, public_key: Path, manifest_digest: str | None = None) -> None:
    """Verifies that the owner of a key signed the bundle as it is now.

    Args:
        folder: Folder of the bundle.
        public_key: Public key in PEM.
        manifest_digest: SHA-256, in hexadecimal, that the signed manifest must have. Without it, someone could put the
            signed bundle into the folder during verification, and another one before and after. None skips this.

    Raises:
        BundleError: There is no signature, it was made with another key or is damaged, or a file differs from the
            signed one.
        InputError: The key cannot be read, or is not such a key.
        UnavailableError: model-signing is not installed.
    """
    verifying = library("verifying")
    require_file(public_key)
    signature = read_signature(folder)
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except Exception as error:
        msg = f"{public_key}: not a public key (NIST P-256, P-384 or P-521 in PEM): {one_line(error)}"
        raise InputError(msg) from error
    require_signed_by(folder, signature, config, str(public_key), manifest_digest)


def read_signature(folder: Path) -> bytes:
    """Reads the signature of a bundle.

    Raises:
        BundleError: There is none, or it is too long to be a signature.
    """
    try:
        with open_regular(folder, SIGNATURE) as file:
            signature = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        msg = f"{folder}: not signed: {SIGNATURE} not found"
        raise BundleError(msg) from None
    if len(signature) > _MAX_BYTES:
        msg = f"{folder}: {SIGNATURE} is longer than {_MAX_BYTES} bytes"
        raise BundleError(msg)
    return signature


def require_signed_by(folder: Path, signature: bytes, config: Any, signer: str, manifest_digest: str | None) -> None:
    """Verifies a signature against every file of a bundle.

    Args:
        folder: Folder of the bundle.
        signature: The signature, from `read_signature`.
        config: `model_signing.verifying.Config` with the required signer.
        signer: Name of the signer for messages.
        manifest_digest: See `verify_signature`.

    Raises:
        BundleError: The signature is not by the signer or is damaged, or a file differs from the signed one.
        StorageError: A temporary file cannot be written.
    """
    with _temporary_file(signature) as copy:
        try:
            # The library prints warnings, and ignores other entries of the signature; the manifest, which lists every
            # file, is compared below.
            with contextlib.redirect_stdout(io.StringIO()):
                config.set_hashing_config(hashing()).verify(folder, copy)
        except Exception as error:  # a malicious signature can make the parsers raise anything
            msg = f"{folder}: no valid signature by {signer} for these files: {one_line(error)}"
            raise BundleError(msg) from error
    if manifest_digest is not None and manifest_digest != _signed_manifest(signature):
        msg = f"{folder}: the signature by {signer} is for another {MANIFEST} than the one that was opened"
        raise BundleError(msg)


@contextlib.contextmanager
def _temporary_file(data: bytes) -> Iterator[Path]:
    """A file for the library, which reads only files; no other user can replace it."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.NamedTemporaryFile())
            file.write(data)
            file.flush()
        except OSError as error:
            msg = f"cannot write a temporary file: {error.strerror or error}; set TMPDIR to a writable folder"
            raise StorageError(msg) from error
        yield Path(file.name)


def _signed_manifest(signature: bytes) -> str | None:
    """SHA-256 of the manifest in a verified signature, which is a DSSE envelope around an in-toto statement.

    None if it cannot be found: the library also accepts forms that it does not write.
    """
    try:
        envelope = json.loads(signature)["dsseEnvelope"]
        resources = json.loads(base64.b64decode(envelope["payload"]))["predicate"]["resources"]
        return {resource["name"]: str(resource["digest"]) for resource in resources}.get(MANIFEST)
    except (ValueError, KeyError, TypeError):
        return None


def hashing() -> Any:
    """Hashes every file but the signature; by default the library ignores git's files, which could then be added."""
    hashing = library("hashing")
    return hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def library(part: str) -> ModuleType:
    """Imports a module of model-signing.

    Raises:
        UnavailableError: model-signing is not installed.
    """
    from importlib import import_module

    try:
        return import_module(f"model_signing.{part}")
    except ImportError as error:
        raise UnavailableError(_INSTALL) from error


def require_file(key: Path) -> None:
    """Raises InputError if a file cannot be read."""
    try:
        with key.open("rb"):
            pass
    except OSError as error:
        msg = f"{key}: cannot be read: {error.strerror}"
        raise InputError(msg) from error


def one_line(error: Exception) -> str:
    """The first line of an error message, escaped: it may quote the bundle, which could control a terminal."""
    from tscnc_deploy.text import escaped

    lines = str(error).splitlines()
    return escaped(lines[0]) if lines else type(error).__name__
