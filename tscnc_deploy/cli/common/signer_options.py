"""The options that say whose a signature must be, shared by the commands that verify one."""

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
    help="Servers and keys of a Sigstore deployment of your own, ClientTrustConfig in JSON.  [default: the public one]",
)


def signer_options(command: Command) -> Command:
    """Adds --key, --identity, --issuer and --trust-config, for `chosen_identity`."""
    command = trust_config_option(command)
    command = click.option(
        "--issuer",
        metavar="URL",
        help="Who vouches for --identity, such as https://token.actions.githubusercontent.com.",
    )(command)
    command = click.option(
        "--identity",
        metavar="NAME",
        help="Refuse what this person or workflow has not signed without a key (Sigstore): an e-mail address, or "
        "https://github.com/OWNER/REPOSITORY/.github/workflows/FILE@REF. Needs --issuer.",
    )(command)
    return click.option(
        "--key", type=_FILE, metavar="PUBLIC.pem", help="Refuse what the owner of this key has not signed."
    )(command)


def chosen_identity(
    key: Path | None, identity: str | None, issuer: str | None, trust_config: Path | None
) -> Identity | None:
    """The identity that the options ask for; None without.

    Raises:
        InputError: One of two options that belong together is missing, or two exclude each other.
    """
    from tscnc_deploy.bundle.signing.keyless import Identity

    if key is not None and identity is not None:
        msg = "--key and --identity: a bundle has one signature, by a key or without; give one of them"
        raise InputError(msg)
    if identity is None:
        for option, value in (("--issuer", issuer), ("--trust-config", trust_config)):
            if value is not None:
                msg = f"{option} {value}: says who vouches for an identity; give --identity NAME too, or leave it out"
                raise InputError(msg)
        return None
    if not issuer:
        msg = (
            f"--identity {identity}: a name means nothing without who vouches for it; give --issuer URL too, such as "
            "https://token.actions.githubusercontent.com for GitHub Actions"
        )
        raise InputError(msg)
    return Identity(identity, issuer, trust_config)
