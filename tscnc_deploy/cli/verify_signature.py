"""`tscnc-deploy verify-signature`: whether a bundle is as the owner of a key signed it."""

from __future__ import annotations

from pathlib import Path

import click

from tscnc_deploy.cli.bundles import bundle_argument, open_given
from tscnc_deploy.cli.output import json_option, print_json


@click.command("verify-signature")
@bundle_argument
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PUBLIC.pem",
    help="Public key of whom the signature must be.",
)
@json_option
def verify_signature(bundle: Path, key: Path, as_json: bool) -> None:
    """Check whose a bundle is.

    Exit status 2 if it is not signed, signed with another key, or any file is not the one that was signed.
    """
    from tscnc_deploy.bundle.signature import verify_signature as verify

    opened = open_given(bundle)
    verify(opened.path, key)
    if as_json:
        print_json({"bundle": str(opened.path), "key": str(key), "valid": True})
    else:
        click.echo(f"{opened.path}: signed with the key of {key}, every file as it was signed")
