"""Keyless signatures (Sigstore): a short-lived certificate names the signer, and a public log records the time.

Uses `model-signing`, like signatures with a key. Signing and verifying fetch the current keys from Sigstore's public
servers, unless a trust configuration (protobuf ClientTrustConfig in JSON) names those of a private deployment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.bundle.signing.key import (
    hashing,
    library,
    one_line,
    read_signature,
    require_file,
    require_signed_by,
    verify_signature,
)
from tscnc_deploy.bundle.tree import SIGNATURE
from tscnc_deploy.errors import InputError, StorageError, UnavailableError

if TYPE_CHECKING:
    from tscnc_deploy.bundle.reader import Bundle


@dataclass(frozen=True)
class Identity:
    """The required signer of a keyless signature.

    Attributes:
        name: An e-mail address or the URL of a workflow, such as
            "https://github.com/OWNER/REPOSITORY/.github/workflows/release.yml@refs/tags/v1".
        issuer: Who vouches for the name, such as "https://token.actions.githubusercontent.com".
        trust_config: Trust configuration of a private deployment; None uses Sigstore's public servers.
    """

    name: str
    issuer: str
    trust_config: Path | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.issuer})"


def sign_keyless(folder: Path, trust_config: Path | None = None, *, interactive: bool = False) -> Path:
    """Signs a bundle with the identity of the caller, adds it to the public log, and replaces an existing signature.

    The identity is that of the CI job (GitHub Actions, GitLab, Google Cloud, Buildkite), otherwise that of a user who
    logs in with a browser.

    Args:
        folder: Folder of a bundle that has been opened and therefore checked.
        trust_config: Trust configuration of a private deployment; None uses Sigstore's public servers.
        interactive: Whether a user can log in.

    Returns:
        The path of the signature.

    Raises:
        InputError: There is no identity, Sigstore rejects it, or the trust configuration is invalid.
        StorageError: The signature cannot be written.
        UnavailableError: model-signing is not installed, or Sigstore cannot be reached.
    """
    signing = library("signing")
    token = _ambient_token()
    if token is None and not interactive:
        msg = (
            "sign --keyless: no identity found; in GitHub Actions add `permissions: id-token: write` to the job, in "
            "GitLab `id_tokens: SIGSTORE_ID_TOKEN: aud: sigstore`, or run this in a terminal to log in with a browser"
        )
        raise InputError(msg)
    with _configuring(trust_config):
        config: Any = signing.Config().use_sigstore_signer(identity_token=token, trust_config=trust_config)
    path = folder / SIGNATURE
    try:
        with _sigstore_errors(None):
            config.set_hashing_config(hashing()).sign(folder, path)
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror or error}"
        raise StorageError(msg) from error
    return path


def verify_signer(bundle: Bundle, signer: Path | Identity) -> None:
    """Verifies that the owner of a public key (a PEM file) or an identity signed a bundle.

    The signature must be for the bundle as it was opened, even if its folder has changed since.

    Raises:
        TscncError: See `verify_signature` and `verify_identity`.
    """
    if isinstance(signer, Identity):
        verify_identity(bundle.path, signer, bundle.digest)
    else:
        verify_signature(bundle.path, signer, bundle.digest)


def verify_identity(folder: Path, identity: Identity, manifest_digest: str | None = None) -> None:
    """Verifies that an identity signed the bundle, without a key, as it is now.

    Args:
        folder: Folder of the bundle.
        identity: The required signer.
        manifest_digest: See `key.verify_signature`.

    Raises:
        BundleError: There is no signature, it is not by that identity or is damaged, or a file differs from the
            signed one.
        InputError: The trust configuration is invalid.
        UnavailableError: model-signing is not installed, or Sigstore cannot be reached.
    """
    verifying = library("verifying")
    signature = read_signature(folder)
    with _configuring(identity.trust_config):
        config: Any = verifying.Config().use_sigstore_verifier(
            identity=identity.name, oidc_issuer=identity.issuer, trust_config=identity.trust_config
        )
    require_signed_by(folder, signature, config, str(identity), manifest_digest)


def _ambient_token() -> str | None:
    """The identity token of the CI job; None outside of CI.

    Raises:
        InputError: The token cannot be used for signing.
    """
    from sigstore import oidc

    try:
        token = oidc.detect_credential()
        if token is not None:
            oidc.IdentityToken(
                token
            )  # fails here, before any request to a server, if it is expired or for another purpose
    except oidc.IdentityError as error:
        msg = f"sign --keyless: the identity token of this job cannot be used: {one_line(error)}"
        raise InputError(msg) from error
    return token


@contextmanager
def _configuring(trust_config: Path | None) -> Iterator[None]:
    """`_sigstore_errors` while the library fetches Sigstore's keys, which it stores in the home folder."""
    try:
        with _sigstore_errors(trust_config):
            yield
    except OSError as error:
        msg = f"Sigstore's keys cannot be stored: {error}; set HOME to a writable folder"
        raise StorageError(msg) from error


@contextmanager
def _sigstore_errors(trust_config: Path | None) -> Iterator[None]:
    """Turns errors of Sigstore's servers, or of the trust configuration, into our own."""
    from requests import RequestException
    from sigstore.errors import NetworkError, TUFError
    from sigstore.oidc import IdentityError, IssuerError

    if trust_config is not None:
        require_file(trust_config)
    try:
        yield
    except IdentityError as error:
        msg = f"sign --keyless: Sigstore rejected the identity: {one_line(error)}"
        raise InputError(msg) from error
    except (NetworkError, TUFError, IssuerError, RequestException) as error:
        msg = (
            f"Sigstore cannot be reached: {one_line(error)}; keyless signatures need its servers, or --trust-config "
            "FILE for a private deployment; --key works without a network"
        )
        raise UnavailableError(msg) from error
    except OSError:  # from writing the signature
        raise
    except Exception as error:  # each of Sigstore's servers has its own kinds of errors
        if trust_config is None:
            cause = error.__cause__ if not str(error) and isinstance(error.__cause__, Exception) else error
            msg = f"Sigstore returned an error: {one_line(cause)}"
            raise UnavailableError(msg) from error
        msg = f"--trust-config {trust_config}: not a Sigstore trust configuration: {one_line(error)}"
        raise InputError(msg) from error
