"""Options of `tscnc-deploy serve`: which bundles it accepts, where it listens, and its limits."""

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
    """Adds the options that accept a bundle despite failed gates or a missing signature."""
    options = (
        click.option(
            "--allow-failed",
            is_flag=True,
            help="Serve a bundle that failed its gates or an engine that was never attacked; clients can see this.",
        ),
        click.option(
            "--allow-unsigned",
            is_flag=True,
            help="Serve a bundle without the required signature; clients can see this.",
        ),
    )
    return add_options(options, command)


def address_options(command: Command) -> Command:
    """Adds the options for addresses, TLS and the page."""
    options = (
        click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            metavar="ADDRESS",
            help="Address to listen on; 0.0.0.0 for all interfaces.",
        ),
        click.option(
            "--allowed-host",
            "allowed_hosts",
            multiple=True,
            metavar="NAME",
            help="Also answer HTTP requests under this host name, such as that of a proxy; '*' for every name; "
            "repeatable.  [default: the names of the loopback interface and the --host address]",
        ),
        click.option("--port", type=_PORT, default=8000, show_default=True, help="HTTP port; 0 chooses a free one."),
        click.option(
            "--grpc-port", type=_PORT, default=8001, show_default=True, help="gRPC port; 0 chooses a free one."
        ),
        click.option("--grpc/--no-grpc", default=True, help="Serve gRPC too.  [default: yes]"),
        click.option(
            "--page/--no-page",
            default=True,
            help="Show the model and attacked test images of the bundle in browsers, at /.  [default: yes]",
        ),
        click.option(
            "--tls-cert", type=_FILE, metavar="FILE", help="Certificate chain (PEM); enables TLS for HTTP and gRPC."
        ),
        click.option("--tls-key", type=_FILE, metavar="FILE", help="Private key of the certificate (PEM)."),
    )
    return add_options(options, command)


def limit_options(command: Command) -> Command:
    """Adds the limits of the server."""
    options = (
        click.option(
            "--max-batch",
            type=_COUNT,
            metavar="IMAGES",
            help="Largest number of images in a batch and in a request.  [default: the engine's largest batch]",
        ),
        click.option(
            "--max-delay",
            type=click.FloatRange(0, 10_000),
            default=2.0,
            show_default=True,
            metavar="MILLISECONDS",
            help="Longest time that a request waits for others to join its batch.",
        ),
        click.option(
            "--max-queue",
            type=_COUNT,
            metavar="IMAGES",
            help="Most images that may wait; further requests get status 429.  [default: four times the largest batch]",
        ),
        click.option(
            "--max-body",
            type=_COUNT,
            metavar="BYTES",
            help="Largest request.  [default: what the largest batch needs as JSON]",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(0.001, 3600),
            default=60.0,
            show_default=True,
            metavar="SECONDS",
            help="Longest time until the response.",
        ),
        click.option(
            "--max-connections",
            type=_COUNT,
            default=4096,
            show_default=True,
            metavar="N",
            help="Largest number of HTTP and of gRPC connections; beyond it, HTTP closes the one idle for longest.",
        ),
        click.option(
            "--idle-timeout",
            type=click.FloatRange(0.1, 86_400),
            default=75.0,
            show_default=True,
            metavar="SECONDS",
            help="Longest time that a connection may be idle.",
        ),
        click.option(
            "--stop-seconds",
            type=click.FloatRange(0, 3600),
            default=30.0,
            show_default=True,
            metavar="SECONDS",
            help="How long accepted requests may take after SIGTERM.",
        ),
    )
    return add_options(options, command)


def check_together(options: Mapping[str, Any]) -> None:
    """Rejects options that have no effect without others; a callback could run before the others are parsed.

    Raises:
        UsageError: Names the missing option.
    """
    if options["allow_unsigned"] and options["key"] is None and options["identity"] is None:
        msg = "--allow-unsigned has no effect without --key or --identity, because no signature is required"
        raise click.UsageError(msg)
    if (options["tls_key"] is None) != (options["tls_cert"] is None):
        msg = "--tls-cert and --tls-key belong together; give both"
        raise click.UsageError(msg)
