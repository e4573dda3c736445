"""`tscnc-deploy sign`: signs a bundle."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from tscnc_deploy.cli.common.bundles import bundle_argument
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
    help="Elliptic-curve key, such as `openssl ecparam -name prime256v1 -genkey -noout` writes. The password of an "
    f"encrypted key is read from the environment variable {PASSWORD}.",
)
@click.option(
    "--keyless",
    is_flag=True,
    help="Sign with your own identity (Sigstore): that of the CI job, otherwise by logging in with a browser. Adds "
    "name and time to a public log.",
)
@trust_config_option
@json_option
def sign(bundle: Path, key: Path | None, keyless: bool, trust_config: Path | None, as_json: bool) -> None:
    """Sign all files of a bundle.

    Checks every file against the manifest first, then writes model.sig into the bundle, in the format of OpenSSF Model
    Signing. To verify the signature, run tscnc-deploy verify-signature or check, with --key, or with --identity and
    --issuer.
    """
    from tscnc_deploy.bundle.opening import open_given
    from tscnc_deploy.bundle.signing.key import sign as sign_bundle
    from tscnc_deploy.bundle.signing.keyless import sign_keyless

    if (key is None) != keyless:
        given = "neither" if key is None else "both"
        msg = f"--key and --keyless: {given} given; use --key PRIVATE.pem to sign with a key, or --keyless without"
        raise InputError(msg)
    if trust_config is not None and not keyless:
        msg = f"--trust-config {trust_config}: requires --keyless; signing with a key uses no server"
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
