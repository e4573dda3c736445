"""`tscnc-deploy sign`: says who vouches for a bundle."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from tscnc_deploy.cli.common.bundles import bundle_argument, open_given
from tscnc_deploy.cli.common.output import json_option, print_json
from tscnc_deploy.cli.common.signer_options import trust_config_option
from tscnc_deploy.errors import InputError

PASSWORD = "TSCNC_KEY_PASSWORD"


@click.command()
@bundle_argument
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PRIVATE.pem",
    help="Elliptic-curve key, as `openssl ecparam -name prime256v1 -genkey -noout` writes it. The password of an "
    f"encrypted one is taken from the environment variable {PASSWORD}.",
)
@click.option(
    "--keyless",
    is_flag=True,
    help="Sign as the workflow or the person that runs this (Sigstore): with the identity of the CI job, else by "
    "logging in with a browser. Name and time go into a public log.",
)
@trust_config_option
@json_option
def sign(bundle: Path, key: Path | None, keyless: bool, trust_config: Path | None, as_json: bool) -> None:
    """Sign a bundle, every file of it.

    Checks every file against the manifest first, and writes model.sig into the bundle, in the form of OpenSSF Model
    Signing. Whoever has the public key, or knows the identity, can tell whose the bundle is: tscnc-deploy
    verify-signature, or check, with --key, or with --identity and --issuer.
    """
    from tscnc_deploy.bundle.signing.key import sign as sign_bundle
    from tscnc_deploy.bundle.signing.keyless import sign_keyless

    if (key is None) != keyless:
        given = "neither" if key is None else "both"
        msg = f"--key and --keyless: {given} given; sign with --key PRIVATE.pem, or with --keyless as who you are"
        raise InputError(msg)
    if trust_config is not None and not keyless:
        msg = f"--trust-config {trust_config}: belongs to --keyless; a key needs no server; leave it out"
        raise InputError(msg)
    opened = open_given(bundle)
    if key is None:
        written = sign_keyless(opened.path, trust_config, interactive=sys.stdin.isatty() and not as_json)
    else:
        written = sign_bundle(opened.path, key, os.environ.get(PASSWORD))
    if as_json:
        print_json({"bundle": str(opened.path), "signature": str(written), "files": len(opened.manifest.files) + 1})
    else:
        click.echo(f"{written}: signs {len(opened.manifest.files) + 1} files")
