"""`tscnc-deploy serve`: an engine of a bundle behind the Open Inference Protocol."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tscnc_deploy.cli.common.bundles import bundle_argument
from tscnc_deploy.cli.common.output import json_option, print_json
from tscnc_deploy.cli.common.serve_options import address_options, check_together, limit_options, trust_options
from tscnc_deploy.cli.common.signer_options import chosen_identity, signer_options
from tscnc_deploy.errors import InputError
from tscnc_deploy.open_inference import TOKEN_VARIABLE

if TYPE_CHECKING:
    from tscnc_deploy.serving.model import Model
    from tscnc_deploy.serving.server import Started


@click.command()
@bundle_argument
@click.option(
    "--engine",
    metavar="TARGET",
    help="Engine to serve.  [default: of those that passed and run here, the fastest when the bundle was built]",
)
@click.option(
    "--instances", type=click.IntRange(1, 64), default=1, show_default=True, metavar="N", help="Copies of the engine."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="CPU threads per copy.  [default: TSCNC_THREADS, else the cores that this process may use]",
)
@trust_options
@signer_options
@address_options
@limit_options
@click.option("--access-log", is_flag=True, help="Log each request as a line of JSON on standard error.")
@json_option
def serve(bundle: Path, as_json: bool, **options: Any) -> None:
    """Serve an engine of a bundle.

    Uses the Open Inference Protocol (KServe, Triton) over HTTP and gRPC, and batches requests. Serves only a bundle
    that passed its gates and, with --key (or --identity and --issuer), only one with that signature. If the environment
    variable TSCNC_SERVE_TOKEN is set, clients must send it as a bearer token. On SIGHUP, reloads the bundle without
    losing a request; on SIGTERM and Ctrl-C, finishes the accepted requests and exits with status 0.

    GET /v2/models/NAME returns the model's threat model, accuracies and gates; / shows them in a browser; /metrics is
    for Prometheus.
    """
    check_together(options)
    token = _token()
    identity = chosen_identity(*(options[name] for name in ("key", "identity", "issuer", "trust_config")))
    signer = identity or options["key"]
    from tscnc_deploy.serving.packages import require_packages

    require_packages()
    from tscnc_deploy.bundle.opening import open_given
    from tscnc_deploy.serving.loading import open_model
    from tscnc_deploy.serving.server import Address, run
    from tscnc_deploy.serving.service import OPENING, Limits

    _log_to_standard_error()

    def opened(version: str) -> Model:
        return open_model(
            open_given(bundle),
            options["engine"],
            version=version,
            instances=options["instances"],
            threads=options["threads"],
            allow_failed=options["allow_failed"],
            signer=signer,
            allow_unsigned=options["allow_unsigned"],
            page=options["page"],
        )

    run(
        opened,
        Address(
            host=options["host"],
            port=options["port"],
            grpc_port=options["grpc_port"] if options["grpc"] else None,
            certificate=options["tls_cert"],
            key=options["tls_key"],
            allowed_hosts=options["allowed_hosts"],
        ),
        Limits(
            max_batch=options["max_batch"],
            max_delay=options["max_delay"] / 1000,
            max_queue=options["max_queue"],
            max_body=options["max_body"],
            timeout=options["timeout"],
            max_connections=options["max_connections"],
            idle_timeout=options["idle_timeout"],
        ),
        token=token,
        allow_failed=options["allow_failed"],
        allow_unsigned=options["allow_unsigned"],
        access_log=options["access_log"],
        stop_seconds=options["stop_seconds"],
        started=_print_json if as_json else _print_started,
    )
    # The process is about to end. Without this, the garbage collector would first go through all of torch, which takes
    # longer than stopping the server, and supervisors do not wait for long.
    gc.freeze()
    if any(thread.name.startswith(("engine-", OPENING)) for thread in threading.enumerate()):
        # The libraries must not be torn down under a thread that is still inside of one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _token() -> str | None:
    """The bearer token that clients must send; None if the variable is not set.

    Raises:
        InputError: It is empty, as after a failed `$(cat FILE)`, or cannot be sent in a header.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if token is None:
        return None
    if not token:
        msg = f"{TOKEN_VARIABLE} is set but empty; set it to a token, or unset it to serve every client"
        raise InputError(msg)
    if not all("!" <= character <= "~" for character in token):
        msg = f"{TOKEN_VARIABLE} contains spaces or characters other than ASCII, which a header cannot carry"
        raise InputError(msg)
    return token


def _log_to_standard_error() -> None:
    """Logs lines with their time in UTC; lines of the access log are JSON that contains the time already."""
    form = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    form.converter = time.gmtime
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(form)
    logging.basicConfig(level=logging.INFO, handlers=[lines])
    access = logging.getLogger("tscnc_deploy.serving.access")
    access.handlers[:] = [logging.StreamHandler(sys.stderr)]
    access.propagate = False


def _print_started(started: Started) -> None:
    model = started.model
    warnings = ("" if model.passed else ", NOT PASSED") + (", NOT SIGNED" if model.signed is False else "")
    click.echo(f"{model.name} ({model.spec.name}, {model.spec.provider}) is being served{warnings}")
    click.echo(f"  HTTP  {started.http}/v2/models/{model.name}")
    if started.grpc:
        click.echo(f"  gRPC  {started.grpc}")


def _print_json(started: Started) -> None:
    model = started.model
    print_json(
        {
            "http": started.http,
            "grpc": started.grpc,
            "model": model.name,
            "engine": model.spec.name,
            "bundle_sha256": model.digest,
            "passed": model.passed,
            "signed": model.signed,
        }
    )
    sys.stdout.flush()
