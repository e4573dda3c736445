"""A server from its first warm-up to the last answer."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import uvicorn
from starlette.types import ASGIApp

from tscnc_deploy.errors import InputError
from tscnc_deploy.serving.grpc.server import grpc_server
from tscnc_deploy.serving.http.application import http_application
from tscnc_deploy.serving.http.connections import Connections
from tscnc_deploy.serving.metrics import Metrics
from tscnc_deploy.serving.model import Model
from tscnc_deploy.serving.service import Limits, Service

_BACKLOG = 2048
# How long an engine that has its answer may wait for Python's lock while the event loop is busy. Python's own default,
# 5 ms, is as long as a whole batch takes.
_SWITCH_SECONDS = 1e-4
# What is open besides connections: libraries, engines, pipes.
_OTHER_FILES = 128


@dataclass(frozen=True)
class Place:
    """Where and how a server is reached.

    Attributes:
        host: Address to listen on.
        port: For HTTP; 0 takes a free one.
        grpc_port: For gRPC; 0 takes a free one, None serves none.
        certificate: PEM file of the server's certificate chain; with it everything is TLS.
        key: PEM file of its private key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = 8001
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Started:
    """A server that is ready: its addresses and what it serves."""

    http: str
    grpc: str | None
    model: Model


def run(
    open_model: Callable[[str], Model],
    place: Place,
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
        place: Where.
        limits: How much is taken on.
        token: See `Service`.
        allow_failed: See `Service`.
        allow_unsigned: See `Service`.
        access_log: See `http_application`.
        stop_seconds: How long requests that have been taken may last after the signal.
        started: Is told once, when the server is ready.

    Raises:
        InputError: A port or a certificate cannot be used.
        TscncError: The model cannot be opened.
    """
    limits = replace(limits, max_connections=min(limits.max_connections, _files_to_open() // 2))
    sys.setswitchinterval(_SWITCH_SECONDS)
    service = Service(
        open_model, limits, Metrics(), token=token, allow_failed=allow_failed, allow_unsigned=allow_unsigned
    )
    serving = _serve(service, place, http_application(service, access_log=access_log), stop_seconds, started)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serving)


class _Http(uvicorn.Server):
    """uvicorn without its own handling of signals, after which it would raise them once more."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(
    service: Service, place: Place, application: ASGIApp, stop_seconds: float, started: Callable[[Started], None]
) -> None:
    credentials = _credentials(place)
    listener = _listen(place.host, place.port)
    await service.start()
    running = service.current
    rpc, grpc_port = None, None
    if place.grpc_port is not None:
        rpc = grpc_server(service, running.door.max_body)
        grpc_port = _bind(rpc, place, credentials)
        await rpc.start()
    connections = Connections(service.limits.max_connections, service.limits.idle_timeout)
    http = _Http(
        uvicorn.Config(
            application,
            http=connections.protocol,  # type: ignore[arg-type]  # it is called, whatever it is
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=math.ceil(service.limits.idle_timeout),
            ssl_certfile=place.certificate,
            ssl_keyfile=place.key,
            timeout_graceful_shutdown=max(int(stop_seconds), 1),
        )
    )
    ending: list[asyncio.Task[None]] = []

    def stop() -> None:
        service.stop_welcoming()
        http.should_exit = True
        if rpc and not ending:
            ending.append(asyncio.create_task(rpc.stop(stop_seconds)))

    def reload() -> None:
        ending_of_old = asyncio.create_task(service.reload())
        reloads.add(ending_of_old)
        ending_of_old.add_done_callback(reloads.discard)

    reloads: set[asyncio.Task[None]] = set()
    with _signals({signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}):
        scheme = "https" if place.certificate else "http"
        address = f"[{place.host}]" if ":" in place.host else place.host
        rpc_address = None if grpc_port is None else f"grpc{'s' if place.certificate else ''}://{address}:{grpc_port}"
        started(Started(f"{scheme}://{address}:{listener.getsockname()[1]}", rpc_address, running.model))
        watching = asyncio.create_task(connections.watch())
        await http.serve([listener])
        watching.cancel()
        stop()
        await asyncio.gather(*ending, *reloads)
        await service.stop()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        msg = f"--host {host} --port {port}: cannot be listened on: {getattr(error, 'strerror', None) or error}"
        raise InputError(msg) from error


def _bind(server: grpc.aio.Server, place: Place, credentials: grpc.ServerCredentials | None) -> int:
    address = f"[{place.host}]:{place.grpc_port}" if ":" in place.host else f"{place.host}:{place.grpc_port}"
    try:
        if credentials:
            return server.add_secure_port(address, credentials)
        return server.add_insecure_port(address)
    except RuntimeError as error:
        msg = f"--grpc-port {place.grpc_port}: {address} cannot be listened on; is another server using it?"
        raise InputError(msg) from error


def _credentials(place: Place) -> grpc.ServerCredentials | None:
    """Of gRPC; uvicorn reads the same files again, which are known to be good by then."""
    if place.certificate is None or place.key is None:
        return None
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(place.certificate, place.key)
        pair = (place.key.read_bytes(), place.certificate.read_bytes())
    except OSError as error:  # ssl.SSLError is one too
        msg = f"--tls-cert {place.certificate} --tls-key {place.key}: cannot be used: {error.strerror or error}"
        raise InputError(msg) from error
    return grpc.ssl_server_credentials([pair])


@contextmanager
def _signals(handlers: dict[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number, handler_before in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler_before)


def _files_to_open() -> int:
    """How many: each connection is one, of which shells allow a thousand unless a program asks for more."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(soft - _OTHER_FILES, soft // 2)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed, which answers small requests faster; otherwise asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
