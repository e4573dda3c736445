"""Runs a server, from the warm-up of the model to the last response."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import grpc
from starlette.types import ASGIApp

from tscnc_deploy.errors import InputError
from tscnc_deploy.serving.grpc.server import grpc_server
from tscnc_deploy.serving.http.application import http_application
from tscnc_deploy.serving.http.connection import Connection
from tscnc_deploy.serving.http.connections import Connections
from tscnc_deploy.serving.http.hosts import AllowedHosts
from tscnc_deploy.serving.http.listening import BACKLOG, Listening
from tscnc_deploy.serving.metrics import Metrics
from tscnc_deploy.serving.model import Model
from tscnc_deploy.serving.service import Limits, Service

_log = logging.getLogger(__name__)

# How long an engine thread may wait for the GIL while the event loop is busy. Python's default of 5 ms is as long as a
# whole batch takes.
_SWITCH_SECONDS = 1e-4
# File descriptors for anything but connections: libraries, engines, pipes.
_OTHER_FILES = 128
# How long an engine may run on after the last request has ended.
_ENGINE_SECONDS = 0.5


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host: Host name or IP address.
        port: Port for HTTP; 0 chooses a free one.
        grpc_port: Port for gRPC; 0 chooses a free one, None disables gRPC.
        certificate: PEM file with the certificate chain; enables TLS for HTTP and gRPC.
        key: PEM file with its private key.
        allowed_hosts: Host names under which HTTP is answered, besides `host` and those of the loopback interface.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = 8001
    certificate: Path | None = None
    key: Path | None = None
    allowed_hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Started:
    """A server that is ready: its URLs and its model."""

    http: str
    grpc: str | None
    model: Model


def run(
    open_model: Callable[[str], Model],
    address: Address,
    limits: Limits,
    *,
    token: str | None = None,
    allow_failed: bool = False,
    allow_unsigned: bool = False,
    access_log: bool = False,
    stop_seconds: float = 30.0,
    started: Callable[[Started], None] = lambda started: None,
) -> None:
    """Serves until SIGTERM or SIGINT; SIGHUP opens the bundle again.

    Args:
        open_model: See `Service`.
        address: Where to listen.
        limits: Limits of the server.
        token: See `Service`.
        allow_failed: See `Service`.
        allow_unsigned: See `Service`.
        access_log: See `http_application`.
        stop_seconds: Seconds that accepted requests may take after the signal.
        started: Called once, when the server is ready.

    Raises:
        InputError: A port or the certificate cannot be used.
        TscncError: The model cannot be opened.
    """
    limits = replace(limits, max_connections=min(limits.max_connections, _max_open_files() // 2))
    sys.setswitchinterval(_SWITCH_SECONDS)
    service = Service(
        open_model, limits, Metrics(), token=token, allow_failed=allow_failed, allow_unsigned=allow_unsigned
    )
    application = http_application(service, AllowedHosts(address.host, address.allowed_hosts), access_log=access_log)
    serving = _serve(service, address, application, stop_seconds, started)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serving)


async def _serve(
    service: Service, address: Address, application: ASGIApp, stop_seconds: float, started: Callable[[Started], None]
) -> None:
    context, credentials = _credentials(address)
    with _listen(address.host, address.port) as listener:
        await _serve_on(listener, service, address, application, context, credentials, stop_seconds, started)


async def _serve_on(
    listener: socket.socket,
    service: Service,
    address: Address,
    application: ASGIApp,
    context: ssl.SSLContext | None,
    credentials: grpc.ServerCredentials | None,
    stop_seconds: float,
    started: Callable[[Started], None],
) -> None:
    await service.start()
    loaded = service.current
    rpc, grpc_port = None, None
    if address.grpc_port is not None:
        rpc = grpc_server(service, loaded.validator.max_body)
        grpc_port = _bind(rpc, address, credentials)
        await rpc.start()
    connections = Connections(service.limits.max_connections, service.limits.idle_timeout)
    http = Listening(listener, lambda: Connection(application, connections), context)
    await http.start()
    stopped = asyncio.Event()

    def stop() -> None:
        service.report_not_ready()
        stopped.set()

    def stop_or_end(number: int) -> None:
        if stopped.is_set():  # for the second time, from somebody who does not want to wait
            os._exit(128 + number)
        stop()

    async def finish() -> None:
        """Finishes the accepted requests, for at most `stop_seconds`."""
        stop()
        http.close()
        stopping = [asyncio.create_task(rpc.stop(stop_seconds))] if rpc else []
        await connections.shutdown(stop_seconds)
        await asyncio.gather(*stopping)
        for task in (watching, *reloads):
            task.cancel()
        try:
            async with asyncio.timeout(_ENGINE_SECONDS):
                await service.stop()
        except TimeoutError:
            _log.error("an engine is still running; its threads are abandoned")

    def reload() -> None:
        task = asyncio.create_task(service.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    reloads: set[asyncio.Task[None]] = set()
    watching = asyncio.create_task(connections.watch())
    stops = {number: partial(stop_or_end, number) for number in (signal.SIGTERM, signal.SIGINT)}
    with _signals({**stops, signal.SIGHUP: reload}):
        host, tls = _bracketed(address.host), "s" if address.certificate else ""
        grpc_url = None if grpc_port is None else f"grpc{tls}://{host}:{grpc_port}"
        try:
            started(Started(f"http{tls}://{host}:{listener.getsockname()[1]}", grpc_url, loaded.model))
            await stopped.wait()
        finally:
            await finish()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        msg = f"--host {host} --port {port}: cannot listen: {getattr(error, 'strerror', None) or error}"
        raise InputError(msg) from error


def _bracketed(host: str) -> str:
    """The host as URLs have it: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def _bind(server: grpc.aio.Server, address: Address, credentials: grpc.ServerCredentials | None) -> int:
    target = f"{_bracketed(address.host)}:{address.grpc_port}"
    try:
        if credentials:
            return server.add_secure_port(target, credentials)
        return server.add_insecure_port(target)
    except RuntimeError as error:
        msg = f"--grpc-port {address.grpc_port}: cannot listen on {target}; is another server using it?"
        raise InputError(msg) from error


def _credentials(address: Address) -> tuple[ssl.SSLContext | None, grpc.ServerCredentials | None]:
    """The certificate and its key for HTTP and for gRPC; None without TLS."""
    if address.certificate is None or address.key is None:
        return None, None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a function, OpenSSL would ask for the password of an encrypted key on the terminal.
        context.load_cert_chain(address.certificate, address.key, password=lambda: b"")
        pair = (address.key.read_bytes(), address.certificate.read_bytes())
    except OSError as error:  # includes ssl.SSLError
        msg = f"--tls-cert {address.certificate} --tls-key {address.key}: not a valid pair: {error.strerror or error}"
        raise InputError(msg) from error
    return context, grpc.ssl_server_credentials([pair])


@contextmanager
def _signals(handlers: dict[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, previous)


def _max_open_files() -> int:
    """Raises the limit on open files as far as allowed and returns it; shells often start with 1024."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(soft - _OTHER_FILES, soft // 2)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop if it is installed, which handles small requests faster; otherwise asyncio's loop."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
