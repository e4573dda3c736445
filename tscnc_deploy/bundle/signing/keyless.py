"""Keyless signatures (Sigstore): a short-lived certificate says who signed, a public log says when; there is no key.

The library is `model-signing`, as for keys. Both directions ask Sigstore's servers for their current keys, unless a
trust configuration (protobuf ClientTrustConfig in JSON) names those of a deployment of one's own.
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
    """Whose a keyless signature must be.

    Attributes:
        name: An e-mail address, or the address of a workflow, such as
            "https://github.com/OWNER/REPOSITORY/.github/workflows/release.yml@refs/tags/v1".
        issuer: Who vouches for the name, such as "https://token.actions.githubusercontent.com".
        trust_config: See above; None asks Sigstore's public servers.
    """

    name: str
    issuer: str
    trust_config: Path | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.issuer})"


def sign_keyless(folder: Path, trust_config: Path | None = None, *, interactive: bool = False) -> Path:
    """Signs a bundle as whoever runs this, and enters it into the public log. Replaces an older signature.

    The identity is the one that a CI system gives to the job (GitHub Actions, GitLab, Google Cloud, Buildkite), else
    that of a person who logs in with a browser.

    Args:
        folder: An opened, and so checked, bundle's.
        trust_config: See above.
        interactive: Whether somebody is there to log in.

    Returns:
        The signature's file.

    Raises:
        InputError: There is no identity, it is refused, or the trust configuration is none.
        StorageError: The signature cannot be written.
        UnavailableError: model-signing is not installed, or Sigstore cannot be reached.
    """
    signing = library("signing")
    token = _ambient_token()
    if token is None and not interactive:
        msg = (
            "sign --keyless: there is no identity here: in GitHub Actions give the job `permissions: id-token: write`, "
            "in GitLab `id_tokens: SIGSTORE_ID_TOKEN: aud: sigstore`, or run it on a terminal to log in with a browser"
        )
        raise InputError(msg)
    with _configuring(trust_config):
        config: Any = signing.Config().use_sigstore_signer(identity_token=token, trust_config=trust_config)
    place = folder / SIGNATURE
    try:
        with _sigstore_errors(None):
            config.set_hashing_config(hashing()).sign(folder, place)
    except OSError as error:
        msg = f"{place}: cannot be written: {error.strerror or error}"
        raise StorageError(msg) from error
    return place


def verify_signer(bundle: Bundle, signer: Path | Identity) -> None:
    """Refuses a bundle that is not signed by the owner of a public key (its file), or by an identity.

    What was signed is this bundle as it was opened: its folder may hold something else by now.

    Raises:
        TscncError: As `verify_signature` and `verify_identity` do.
    """
    if isinstance(signer, Identity):
        verify_identity(bundle.path, signer, bundle.digest)
    else:
        verify_signature(bundle.path, signer, bundle.digest)


def verify_identity(folder: Path, identity: Identity, manifest_digest: str | None = None) -> None:
    """Refuses a bundle that an identity has not signed, without a key, as it is now.

    Args:
        folder: The bundle's.
        identity: Whose the signature must be.
        manifest_digest: See `signature.verify_signature`.

    Raises:
        BundleError: There is no signature, it is another's, it is damaged, or a file is not the signed one.
        InputError: The trust configuration is none.
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
    """The token that a CI system gives to the job, if it is one that can sign."""
    from sigstore import oidc

    try:
        token = oidc.detect_credential()
        if token is not None:
            oidc.IdentityToken(token)  # expired or for something else: said before anything is asked of a server
    except oidc.IdentityError as error:
        msg = f"sign --keyless: the identity that this job was given cannot be used: {one_line(error)}"
        raise InputError(msg) from error
    return token


@contextmanager
def _configuring(trust_config: Path | None) -> Iterator[None]:
    """`_sigstore_errors`, while the library fetches Sigstore's keys and keeps them in the user's folder."""
    try:
        with _sigstore_errors(trust_config):
            yield
    except OSError as error:
        msg = f"Sigstore's keys cannot be kept: {error}; HOME must name a folder that can be written to"
        raise StorageError(msg) from error


@contextmanager
def _sigstore_errors(trust_config: Path | None) -> Iterator[None]:
    """What went wrong at Sigstore's, or with the file that stands in for it, in words."""
    from requests import RequestException
    from sigstore.errors import NetworkError, TUFError
    from sigstore.oidc import IdentityError, IssuerError

    if trust_config is not None:
        require_file(trust_config)
    try:
        yield
    except IdentityError as error:
        msg = f"sign --keyless: the identity was refused: {one_line(error)}"
        raise InputError(msg) from error
    except (NetworkError, TUFError, IssuerError, RequestException) as error:
        msg = (
            f"Sigstore cannot be reached: {one_line(error)}; keyless signatures need its servers, or --trust-config "
            "FILE for a deployment of your own; --key works without a network"
        )
        raise UnavailableError(msg) from error
    except OSError:  # the signature's own file
        raise
    except Exception as error:  # each of Sigstore's servers has errors of a family of its own
        if trust_config is None:
            cause = error.__cause__ if not str(error) and isinstance(error.__cause__, Exception) else error
            msg = f"Sigstore refused: {one_line(cause)}"
            raise UnavailableError(msg) from error
        msg = f"--trust-config {trust_config}: is no trust configuration of Sigstore: {one_line(error)}"
        raise InputError(msg) from error
