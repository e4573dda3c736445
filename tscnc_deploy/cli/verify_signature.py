"""`tscnc-deploy verify-signature`: whether a bundle is as the owner of a key, or an identity, signed it."""

from __future__ import annotations

from pathlib import Path

import click

from tscnc_deploy.cli.common.bundles import bundle_argument, open_given
from tscnc_deploy.cli.common.output import json_option, print_json
from tscnc_deploy.cli.common.signer_options import chosen_identity, signer_options
from tscnc_deploy.errors import InputError


@click.command("verify-signature")
@bundle_argument
@signer_options
@json_option
def verify_signature(
    bundle: Path, key: Path | None, identity: str | None, issuer: str | None, trust_config: Path | None, as_json: bool
) -> None:
    """Check whose a bundle is.

    Give --key, or --identity and --issuer for a keyless signature. Exit status 2 if it is not signed, signed by
    somebody else, or any file is not the one that was signed; 3 if a package is missing or Sigstore cannot be reached.
    """
    from tscnc_deploy.bundle.signing.keyless import verify_signer

    whose = chosen_identity(key, identity, issuer, trust_config)
    signer = whose or key
    if signer is None:
        msg = "whose must the signature be? Give --key PUBLIC.pem, or --identity NAME and --issuer URL"
        raise InputError(msg)
    opened = open_given(bundle)
    verify_signer(opened, signer)
    if as_json:
        told = {"key": str(key)} if whose is None else {"identity": whose.name, "issuer": whose.issuer}
        print_json({"bundle": str(opened.path), **told, "valid": True})
    else:
        by = f"with the key of {key}" if whose is None else f"by {whose}"
        click.echo(f"{opened.path}: signed {by}, every file as it was signed")
