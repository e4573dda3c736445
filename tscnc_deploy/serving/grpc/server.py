"""The gRPC server: calls, authentication and metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from tscnc_deploy.open_inference import messages
from tscnc_deploy.serving.errors import NO_MEMORY, Reason, RequestError
from tscnc_deploy.serving.grpc.arriving import Arriving
from tscnc_deploy.serving.grpc.codec import parse_message, write_message
from tscnc_deploy.serving.grpc.wire import check_infer_request
from tscnc_deploy.serving.service import Service

_log = logging.getLogger(__name__)
_Call = Callable[[Any, Any], Awaitable[Any]]

_OPEN_CALLS = ("ServerLive", "ServerReady")
# Bytes of a message besides the tensor: names, parameters, and what protobuf adds.
_OVERHEAD = 1 << 16
# A client with more concurrent calls waits on its own side until one has finished.
_CALLS_PER_CONNECTION = 64
# Bytes of a message that gRPC takes before it is asked to read it, and of all connections together.
_UNREAD = 16 << 10
_MOST_UNREAD = 512 << 20
# gRPC's default of two minutes is long for clients that open a connection and send nothing.
_HANDSHAKE_MS = 10_000


def grpc_server(service: Service, max_body: int) -> grpc.aio.Server:
    """A server with the calls of the protocol, without a port yet.

    Args:
        service: The state of the server.
        max_body: Bytes that the model's largest request needs; used unless the service has a limit.
    """
    limits = service.limits
    largest = (limits.max_body or max_body) + _OVERHEAD
    most_connections = _MOST_UNREAD // (_CALLS_PER_CONNECTION * _UNREAD)
    options = [
        ("grpc.max_receive_message_length", largest),
        # Otherwise two servers on the same port would silently share its clients.
        ("grpc.so_reuseport", 0),
        ("grpc.max_allowed_incoming_connections", min(limits.max_connections, most_connections)),
        # Otherwise the windows of HTTP/2 grow to several megabytes a call on a fast network.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _UNREAD),
        ("grpc.max_concurrent_streams", _CALLS_PER_CONNECTION),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.max_connection_idle_ms", int(limits.idle_timeout * 1000)),
    ]
    server = grpc.aio.server(options=options, interceptors=[_TokenFirst(service)])
    calls = _Calls(service)
    arriving = Arriving(largest, limits.body_timeout)
    handlers = {
        # To gRPC, every call has a stream of requests: it reads none before it is asked to, and keeps what it reads.
        name: grpc.stream_unary_rpc_method_handler(
            _wrapped(name, call, service, arriving),
            # Without a deserializer: gRPC would log a traceback for bytes that are not a message.
            response_serializer=getattr(messages, f"{name}Response").SerializeToString,
        )
        for name, call in calls.by_name().items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(messages.SERVICE, handlers),))
    return server


class _Calls:
    """One method for each call of the protocol."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def by_name(self) -> dict[str, _Call]:
        return {
            "ServerLive": self.live,
            "ServerReady": self.ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.infer,
        }

    async def live(self, request: Any, context: Any) -> Any:
        return messages.ServerLiveResponse(live=True)

    async def ready(self, request: Any, context: Any) -> Any:
        return messages.ServerReadyResponse(ready=self._service.ready)

    async def server_metadata(self, request: Any, context: Any) -> Any:
        metadata = self._service.server_metadata()
        keys = ("name", "version", "extensions")
        return messages.ServerMetadataResponse(**{key: metadata[key] for key in keys})

    async def model_ready(self, request: Any, context: Any) -> Any:
        self._service.find(request.name, request.version)
        return messages.ModelReadyResponse(ready=self._service.ready)

    async def model_metadata(self, request: Any, context: Any) -> Any:
        metadata = self._service.model_metadata(self._service.find(request.name, request.version))
        return messages.ModelMetadataResponse(**{key: metadata[key] for key in metadata if key != "parameters"})

    async def infer(self, request: Any, context: Any) -> Any:
        loaded = self._service.find(request.model_name, request.model_version)
        parsed = parse_message(request, loaded.validator)
        remaining = context.time_remaining()
        deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
        return write_message(await self._service.infer(loaded, parsed, deadline))


class _TokenFirst(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Ends calls without the token before their message is read, whatever call they name."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        started = time.perf_counter()
        service, _, call = details.method.strip("/").partition("/")
        if not (service == messages.SERVICE and call in _OPEN_CALLS):
            try:
                self._service.check_token(_token(details.invocation_metadata))
            except RequestError as error:
                reason, message = error.reason, str(error)
                kind = "infer" if call == "ModelInfer" else "other"
                self._service.metrics.count_request("grpc", kind, reason.grpc, time.perf_counter() - started)

                async def refuse(messages: Any, context: Any) -> None:
                    await context.abort(getattr(grpc.StatusCode, reason.grpc), message)

                # A stream is not read unless its handler asks for a message.
                return grpc.stream_unary_rpc_method_handler(refuse)
        return await continuation(details)


def _wrapped(name: str, call: _Call, service: Service, arriving: Arriving) -> _Call:
    """Reads the message before the call, counts it afterwards, and hides internal errors from clients.

    Calls that need no token are answered without their message, which says nothing.
    """
    parse = getattr(messages, f"{name}Request").FromString

    async def wrapper(requests: Any, context: Any) -> Any:
        started = time.perf_counter()
        status = "CANCELLED"
        try:
            data = b"" if name in _OPEN_CALLS else await arriving.read(requests)
            if name == "ModelInfer":
                check_infer_request(data)
            try:
                request = parse(data)
            except DecodeError:
                msg = f"the message is not a {name}Request"
                raise RequestError(msg) from None
            response = await call(request, context)
            status = "OK"
            return response
        except RequestError as error:
            status = error.reason.grpc
            message = str(error)
        except MemoryError:
            status = Reason.UNAVAILABLE.grpc
            message = NO_MEMORY
        except Exception:
            _log.exception("internal error in %s", name)
            status = Reason.FAILED.grpc
            message = "internal error; see the log of the server"
        finally:
            kind = "infer" if name == "ModelInfer" else "other"
            service.metrics.count_request("grpc", kind, status, time.perf_counter() - started)
        return await context.abort(getattr(grpc.StatusCode, status), message)

    return wrapper


def _token(metadata: Any) -> bytes | None:
    value = dict(metadata or ()).get("authorization")
    return value.encode() if isinstance(value, str) else value
