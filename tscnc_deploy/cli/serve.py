"""`tscnc-deploy serve`: an engine of a bundle behind the Open Inference Protocol."""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tscnc_deploy.cli.common.bundles import bundle_argument, open_given
from tscnc_deploy.cli.common.output import json_option, print_json
from tscnc_deploy.cli.common.serve_options import check_together, limit_options, place_options, trust_options
from tscnc_deploy.cli.common.signer_options import chosen_identity, signer_options

if TYPE_CHECKING:
    from tscnc_deploy.serving.model import Model
    from tscnc_deploy.serving.server import Started

TOKEN = "TSCNC_SERVE_TOKEN"


@click.command()
@bundle_argument
@click.option(
    "--engine",
    metavar="TARGET",
    help="Which engine.  [default: of those that passed and run here, the quickest when the bundle was built]",
)
@click.option(
    "--instances", type=click.IntRange(1, 64), default=1, show_default=True, metavar="N", help="Copies of the engine."
)
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads of each.  [default: the runtime's]"
)
@trust_options
@signer_options
@place_options
@limit_options
@click.option("--access-log", is_flag=True, help="Log each request as a line of JSON on standard error.")
@json_option
def serve(bundle: Path, as_json: bool, **options: Any) -> None:
    """Serve an engine of a bundle.

    Speaks the Open Inference Protocol (KServe, Triton) over HTTP and gRPC. Only a bundle that passed its gates is
    served, and with --key (or --identity and --issuer) only one that its owner signed. Requests are gathered into
    batches. If the environment has TSCNC_SERVE_TOKEN, clients must send it as their bearer token. SIGHUP opens the
    bundle again, without losing a request; SIGTERM and Ctrl-C let what was taken finish and end with exit status 0.

    GET /v2/models/NAME says what protects the model, / shows it to browsers; /metrics is for Prometheus.
    """
    check_together(options)
    whose = chosen_identity(*(options[name] for name in ("key", "identity", "issuer", "trust_config")))
    signer = whose or options["key"]
    from tscnc_deploy.serving.packages import require_packages

    require_packages()
    from tscnc_deploy.serving.model import open_model
    from tscnc_deploy.serving.server import Place, run
    from tscnc_deploy.serving.service import Limits

    _log_to_standard_error()
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # or strangers fill the log with "Invalid HTTP request"

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
        Place(
            host=options["host"],
            port=options["port"],
            grpc_port=options["grpc_port"] if options["grpc"] else None,
            certificate=options["tls_cert"],
            key=options["tls_key"],
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
        token=os.environ.get(TOKEN) or None,
        allow_failed=options["allow_failed"],
        allow_unsigned=options["allow_unsigned"],
        access_log=options["access_log"],
        stop_seconds=options["stop_seconds"],
        started=_print_json if as_json else _print_started,
    )
    # The process ends here: without this, it would first search all of torch for garbage, longer than serving takes to
    # stop, and supervisors do not wait for long.
    gc.freeze()


def _log_to_standard_error() -> None:
    """Lines with their time in UTC; those of the access log are JSON, which holds it, and stay as they are."""
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
    doubts = ("" if model.passed else ", NOT PASSED") + (", NOT SIGNED" if model.signed is False else "")
    click.echo(f"{model.name} ({model.spec.name}, {model.spec.provider}) is served{doubts}")
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
