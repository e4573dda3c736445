"""`tscnc-deploy verify-signature`: verifies the signature of a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from tscnc_deploy.cli.common.bundles import bundle_argument
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
    """Verify who signed a bundle.

    Give --key, or --identity and --issuer for a keyless signature. Exit status 2 if the bundle is not signed, is signed
    by somebody else, or a file differs from the signed one; 3 if a package is missing or Sigstore cannot be reached.
    """
    from tscnc_deploy.bundle.opening import open_given
    from tscnc_deploy.bundle.signing.keyless import verify_signer

    required = chosen_identity(key, identity, issuer, trust_config)
    signer = required or key
    if signer is None:
        msg = "no signer given: add --key PUBLIC.pem, or --identity NAME and --issuer URL"
        raise InputError(msg)
    opened = open_given(bundle)
    verify_signer(opened, signer)
    if as_json:
        facts = {"key": str(key)} if required is None else {"identity": required.name, "issuer": required.issuer}
        print_json({"bundle": str(opened.path), **facts, "valid": True})
    else:
        by = f"with the key {key}" if required is None else f"by {required}"
        click.echo(f"{opened.path}: signed {by}, all files match the signature")
