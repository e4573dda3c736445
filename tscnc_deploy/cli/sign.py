"""`tscnc-deploy sign`: says who vouches for a bundle."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tscnc_deploy.cli.bundles import bundle_argument, open_given
from tscnc_deploy.cli.output import json_option, print_json

PASSWORD = "TSCNC_KEY_PASSWORD"


@click.command()
@bundle_argument
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PRIVATE.pem",
    help="Elliptic-curve key, as `openssl ecparam -name prime256v1 -genkey -noout` writes it. The password of an "
    f"encrypted one is taken from the environment variable {PASSWORD}.",
)
@json_option
def sign(bundle: Path, key: Path, as_json: bool) -> None:
    """Sign a bundle, every file of it.

    Checks every file against the manifest first, and writes model.sig into the bundle, in the form of OpenSSF Model
    Signing. Whoever has the public key can tell whose the bundle is: tscnc-deploy verify-signature, or check --key.
    """
    from tscnc_deploy.bundle.signature import sign as sign_bundle

    opened = open_given(bundle)
    written = sign_bundle(opened.path, key, os.environ.get(PASSWORD))
    if as_json:
        print_json({"bundle": str(opened.path), "signature": str(written), "files": len(opened.manifest.files) + 1})
    else:
        click.echo(f"{written}: signs {len(opened.manifest.files) + 1} files")
