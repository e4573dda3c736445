"""Signatures of bundles in the OpenSSF's form for models: a statement of every file's digest, signed with a key.

Digests alone show damage; only a signature shows who wrote them. The library is `model-signing`, an optional extra.
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
# A statement takes about 200 bytes a file.
_MAX_BYTES = 8 << 20


def sign(folder: Path, private_key: Path, password: str | None = None) -> Path:
    """Signs a bundle: every file of it but the signature itself, the manifest included. Replaces an older signature.

    Args:
        folder: An opened, and so checked, bundle's.
        private_key: Elliptic-curve key in PEM (NIST P-256, P-384 or P-521).
        password: Of the key; None for a key that is not encrypted.

    Returns:
        The signature's file.

    Raises:
        InputError: The key cannot be read, or is of another kind.
        StorageError: The signature cannot be written.
        UnavailableError: model-signing is not installed.
    """
    signing = library("signing")
    require_file(private_key)
    place = folder / SIGNATURE
    try:
        config = signing.Config().use_elliptic_key_signer(
            private_key=private_key, password=None if password is None else password.encode()
        )
    except Exception as error:  # cryptography and the library raise errors of many families here
        msg = (
            f"{private_key}: is no private key of NIST P-256, P-384 or P-521 in PEM, or is encrypted: {one_line(error)}"
        )
        raise InputError(msg) from error
    try:
        config.set_hashing_config(hashing()).sign(folder, place)
    except OSError as error:
        msg = f"{place}: cannot be written: {error.strerror}"
        raise StorageError(msg) from error
    return place


def verify_signature(folder: Path, public_key: Path, manifest_digest: str | None = None) -> None:
    """Refuses a bundle that the owner of a key has not signed as it is now.

    Args:
        folder: The bundle's.
        public_key: In PEM; that of the private key that signed.
        manifest_digest: SHA-256, in hexadecimal, that the signed manifest must have besides, so that the folder cannot
            hold the signed bundle for the moment in which it is compared and another one before and after; None asks
            for none.

    Raises:
        BundleError: There is no signature, it is another key's, it is damaged, or a file is not the signed one.
        InputError: The key cannot be read.
        UnavailableError: model-signing is not installed.
    """
    verifying = library("verifying")
    require_file(public_key)
    signature = read_signature(folder)
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except Exception as error:
        msg = f"{public_key}: is no public key of NIST P-256, P-384 or P-521 in PEM: {one_line(error)}"
        raise InputError(msg) from error
    require_signed_by(folder, signature, config, str(public_key), manifest_digest)


def read_signature(folder: Path) -> bytes:
    """The signature of a bundle.

    Raises:
        BundleError: There is none, or it is too long to be any.
    """
    try:
        with open_regular(folder, SIGNATURE) as file:
            signature = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        msg = f"{folder}: is not signed: it holds no {SIGNATURE}"
        raise BundleError(msg) from None
    if len(signature) > _MAX_BYTES:
        msg = f"{folder}: {SIGNATURE} is longer than {_MAX_BYTES} bytes"
        raise BundleError(msg)
    return signature


def require_signed_by(folder: Path, signature: bytes, config: Any, signer: str, manifest_digest: str | None) -> None:
    """Compares a signature with every file of a bundle.

    Args:
        folder: The bundle's.
        signature: What `read_signature` gave.
        config: `model_signing.verifying.Config` that knows whose signature is wanted.
        signer: Names them in the message.
        manifest_digest: See `verify_signature`.

    Raises:
        BundleError: It is another's, it is damaged, or a file is not the signed one.
        StorageError: There is no place for a scratch file.
    """
    with _scratch_file(signature) as copy:
        try:
            # The library prints its warnings, and leaves out what the signature says besides; the manifest, which lists
            # every file, is compared on its own.
            with contextlib.redirect_stdout(io.StringIO()):
                config.set_hashing_config(hashing()).verify(folder, copy)
        except Exception as error:  # a hostile signature fails in any way that parsers and cryptography know
            msg = f"{folder}: the signature is not one of {signer} for these files: {one_line(error)}"
            raise BundleError(msg) from error
    if manifest_digest is not None and manifest_digest != _signed_manifest(signature):
        msg = f"{folder}: the signature of {signer} is for another {MANIFEST} than the one that was opened"
        raise BundleError(msg)


@contextlib.contextmanager
def _scratch_file(data: bytes) -> Iterator[Path]:
    """A file for the library, which reads nothing else, that no other user can exchange."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.NamedTemporaryFile())
            file.write(data)
            file.flush()
        except OSError as error:
            msg = f"no scratch file can be written, TMPDIR names a folder for it: {error.strerror or error}"
            raise StorageError(msg) from error
        yield Path(file.name)


def _signed_manifest(signature: bytes) -> str | None:
    """SHA-256 of the manifest in a signature that was verified: a DSSE envelope around an in-toto statement.

    None where it cannot be found: the library takes other forms, too, than those it writes.
    """
    try:
        envelope = json.loads(signature)["dsseEnvelope"]
        resources = json.loads(base64.b64decode(envelope["payload"]))["predicate"]["resources"]
        return {resource["name"]: str(resource["digest"]) for resource in resources}.get(MANIFEST)
    except (ValueError, KeyError, TypeError):
        return None


def hashing() -> Any:
    """Every file but the signature; the library would leave out those of git, which might be added unseen."""
    hashing = library("hashing")
    return hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def library(part: str) -> ModuleType:
    """A module of model-signing.

    Raises:
        UnavailableError: It is not installed.
    """
    from importlib import import_module

    try:
        return import_module(f"model_signing.{part}")
    except ImportError as error:
        raise UnavailableError(_INSTALL) from error


def require_file(key: Path) -> None:
    """Refuses a file that cannot be read."""
    try:
        with key.open("rb"):
            pass
    except OSError as error:
        msg = f"{key}: cannot be read: {error.strerror}"
        raise InputError(msg) from error


def one_line(error: Exception) -> str:
    """The first line of a library's message, which may quote the bundle, so that it cannot steer a terminal."""
    from tscnc_deploy.strict_json import quoted

    lines = str(error).splitlines()
    return quoted(lines[0])[1:-1] if lines else type(error).__name__
