"""The options of `tscnc-deploy serve` that say what it trusts, where it listens and how much it takes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tscnc_deploy.cli.common.options import Command, add_options

_FILE = click.Path(path_type=Path, dir_okay=False)
_PORT = click.IntRange(0, 65535)
_COUNT = click.IntRange(min=1)


def trust_options(command: Command) -> Command:
    """Adds what a bundle must be to be served."""
    options = (
        click.option(
            "--allow-failed", is_flag=True, help="Serve what failed its gates or was never attacked; clients are told."
        ),
        click.option("--allow-unsigned", is_flag=True, help="Serve what is not signed as asked for; clients are told."),
    )
    return add_options(options, command)


def place_options(command: Command) -> Command:
    """Adds where the server is reached."""
    options = (
        click.option(
            "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address; 0.0.0.0 for everybody."
        ),
        click.option("--port", type=_PORT, default=8000, show_default=True, help="Of HTTP; 0 takes a free one."),
        click.option("--grpc-port", type=_PORT, default=8001, show_default=True, help="Of gRPC; 0 takes a free one."),
        click.option("--grpc/--no-grpc", default=True, help="Whether gRPC is served.  [default: yes]"),
        click.option(
            "--page/--no-page",
            default=True,
            help="Whether a page at / shows browsers the model and attacked test images of the bundle.  [default: yes]",
        ),
        click.option("--tls-cert", type=_FILE, metavar="FILE", help="Certificate chain, PEM: everything is TLS then."),
        click.option("--tls-key", type=_FILE, metavar="FILE", help="Its private key, PEM."),
    )
    return add_options(options, command)


def limit_options(command: Command) -> Command:
    """Adds how much the server takes on."""
    options = (
        click.option(
            "--max-batch",
            type=_COUNT,
            metavar="IMAGES",
            help="Most images of one call and of one request.  [default: the engine's largest batch]",
        ),
        click.option(
            "--max-delay",
            type=click.FloatRange(0, 10_000),
            default=2.0,
            show_default=True,
            metavar="MILLISECONDS",
            help="Longest wait for other requests to share a call.",
        ),
        click.option(
            "--max-queue",
            type=_COUNT,
            metavar="IMAGES",
            help="Images that may wait; further requests get 429.  [default: four times the largest batch]",
        ),
        click.option(
            "--max-body",
            type=_COUNT,
            metavar="BYTES",
            help="Longest request.  [default: what the largest batch needs as JSON]",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(0.001, 3600),
            default=60.0,
            show_default=True,
            metavar="SECONDS",
            help="Longest time until an answer.",
        ),
        click.option(
            "--max-connections",
            type=_COUNT,
            default=4096,
            show_default=True,
            metavar="N",
            help="Connections of HTTP, and of gRPC; over HTTP, the longest idle one then makes room.",
        ),
        click.option(
            "--idle-timeout",
            type=click.FloatRange(0.1, 86_400),
            default=75.0,
            show_default=True,
            metavar="SECONDS",
            help="Longest time that a connection may go without a request.",
        ),
        click.option(
            "--stop-seconds",
            type=click.FloatRange(0, 3600),
            default=30.0,
            show_default=True,
            metavar="SECONDS",
            help="How long taken requests may last after SIGTERM.",
        ),
    )
    return add_options(options, command)


def check_together(options: Mapping[str, Any]) -> None:
    """Refuses options that mean nothing without others; no callback can, as it may run before theirs.

    Raises:
        UsageError: Names what is missing.
    """
    if options["allow_unsigned"] and options["key"] is None and options["identity"] is None:
        msg = "--allow-unsigned changes nothing without --key or --identity, as no signature is asked for"
        raise click.UsageError(msg)
    if (options["tls_key"] is None) != (options["tls_cert"] is None):
        msg = "--tls-cert and --tls-key belong together; give both"
        raise click.UsageError(msg)
