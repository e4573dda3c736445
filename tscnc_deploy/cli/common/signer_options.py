"""Options for the required signer, shared by the commands that verify signatures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tscnc_deploy.errors import InputError

if TYPE_CHECKING:
    from tscnc_deploy.bundle.signing.keyless import Identity

Command = TypeVar("Command", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path, dir_okay=False)

trust_config_option = click.option(
    "--trust-config",
    type=_FILE,
    metavar="FILE",
    help="Servers and keys of a private Sigstore deployment, ClientTrustConfig in JSON.  [default: the public one]",
)


def signer_options(command: Command) -> Command:
    """Adds --key, --identity, --issuer and --trust-config, for `chosen_identity`."""
    command = trust_config_option(command)
    command = click.option(
        "--issuer",
        metavar="URL",
        help="Issuer that vouches for --identity, such as https://token.actions.githubusercontent.com.",
    )(command)
    command = click.option(
        "--identity",
        metavar="NAME",
        help="Require a keyless signature (Sigstore) by this person or workflow: an e-mail address, or "
        "https://github.com/OWNER/REPOSITORY/.github/workflows/FILE@REF. Requires --issuer.",
    )(command)
    return click.option(
        "--key", type=_FILE, metavar="PUBLIC.pem", help="Require a signature by the owner of this key."
    )(command)


def chosen_identity(
    key: Path | None, identity: str | None, issuer: str | None, trust_config: Path | None
) -> Identity | None:
    """The identity that the options require; None if they require none.

    Raises:
        InputError: An option needs another one that is missing, or two options exclude each other.
    """
    from tscnc_deploy.bundle.signing.keyless import Identity

    if key is not None and identity is not None:
        msg = "--key and --identity: a bundle has one signature, with a key or keyless; give one of the two"
        raise InputError(msg)
    if identity is None:
        for option, value in (("--issuer", issuer), ("--trust-config", trust_config)):
            if value is not None:
                msg = f"{option} {value}: requires --identity NAME"
                raise InputError(msg)
        return None
    if not issuer:
        msg = (
            f"--identity {identity}: requires --issuer URL, the issuer that vouches for the name, such as "
            "https://token.actions.githubusercontent.com for GitHub Actions"
        )
        raise InputError(msg)
    return Identity(identity, issuer, trust_config)
