"""The HTTP application: routes, authentication, metrics and the access log."""

from __future__ import annotations

import json
import logging
import time
from typing import Any, cast

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tscnc_deploy.serving import metrics
from tscnc_deploy.serving.errors import NO_MEMORY, Reason, RequestError
from tscnc_deploy.serving.http.hosts import AllowedHosts
from tscnc_deploy.serving.http.infer import CLIENT_GONE, HttpInfer
from tscnc_deploy.serving.http.openapi import openapi_document
from tscnc_deploy.serving.page.routes import open_paths, page_routes
from tscnc_deploy.serving.service import LoadedModel, Service
from tscnc_deploy.text import escaped

_log = logging.getLogger(__name__)
_access_log = logging.getLogger("tscnc_deploy.serving.access")

# Health checks by load balancers carry no token.
_OPEN_PATHS = {"/v2/health/live", "/v2/health/ready"}


def http_application(service: Service, hosts: AllowedHosts | None = None, *, access_log: bool = False) -> ASGIApp:
    """The application that an ASGI server runs.

    Args:
        service: The state of the server.
        hosts: The host names under which it answers; by default those of the loopback interface.
        access_log: Whether to log each request as a line of JSON to the logger "tscnc_deploy.serving.access".
    """
    calls = _Calls(service)
    model = "/v2/models/{name}"
    version = model + "/versions/{version}"
    application = Starlette(
        routes=[
            # First, because routes are tried in order and this one is requested the most.
            *(Route(path + "/infer", HttpInfer(service), methods=["POST"]) for path in (model, version)),
            Route("/v2", calls.server_metadata),
            Route("/v2/health/live", calls.live),
            Route("/v2/health/ready", calls.ready),
            *(Route(path, calls.model_metadata) for path in (model, version)),
            *(Route(path + "/ready", calls.model_ready) for path in (model, version)),
            Route("/metrics", calls.metrics),
            Route("/openapi.json", calls.openapi),
            *page_routes(service),
        ],
        exception_handlers={RequestError: _request_error, HTTPException: _http_error, MemoryError: _no_memory},
    )
    return _Middleware(application, service, hosts or AllowedHosts(), access_log)


class _Calls:
    """One method for each call of the protocol."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        ready = self._service.ready
        return _json({"ready": ready}, 200 if ready else 503)

    async def server_metadata(self, request: Request) -> Response:
        return _json(self._service.server_metadata())

    async def model_metadata(self, request: Request) -> Response:
        return _json(self._service.model_metadata(self._model(request)))

    async def model_ready(self, request: Request) -> Response:
        model, ready = self._model(request).model, self._service.ready
        return _json({"name": model.name, "ready": ready}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(self._service.metrics.to_text(), media_type=metrics.CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        return _json(openapi_document(self._service.current, requires_token=self._service.requires_token))

    def _model(self, request: Request) -> LoadedModel:
        return self._service.find(request.path_params["name"], request.path_params.get("version", ""))


class _Middleware:
    """Checks host and token before each request, counts and logs it afterwards, and hides internal errors from clients.

    Nothing of the body is read before both are right.
    """

    def __init__(self, application: ASGIApp, service: Service, hosts: AllowedHosts, access_log: bool) -> None:
        self._application = application
        self._service = service
        self._hosts = hosts
        self._access_log = access_log
        self._open = _OPEN_PATHS | open_paths()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        started = time.perf_counter()
        status = CLIENT_GONE

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._admitted(scope)(scope, receive, send_and_note_status)
        except Exception:
            _log.exception("internal error in %s", escaped(scope["path"]))
            if status == CLIENT_GONE:
                await _error("internal error; see the log of the server", 500)(scope, receive, send_and_note_status)
        finally:
            self._count(scope, status, time.perf_counter() - started)

    def _admitted(self, scope: Scope) -> ASGIApp:
        """The application, or the error for a request that names another host or lacks the token."""
        headers = scope["headers"]
        try:
            self._hosts.check([value for name, value in headers if name == b"host"])
            if scope["path"] not in self._open:
                self._service.check_token(dict(headers).get(b"authorization"))
        except RequestError as error:
            return _error(str(error), error.reason.http)
        return self._application

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        call = "infer" if scope["path"].endswith("/infer") else "other"
        self._service.metrics.count_request("http", call, str(status), seconds)
        if self._access_log:
            client = scope.get("client")
            line = {
                "time": time.time(),
                "client": client[0] if client else None,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "milliseconds": round(seconds * 1e3, 3),
            }
            _access_log.info(json.dumps(line))


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


def _error(message: str, status: int) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == Reason.UNAUTHENTICATED.http else None
    return Response(orjson.dumps({"error": message}), status, headers, media_type="application/json")


async def _request_error(request: Request, error: Exception) -> Response:
    return _error(str(error), cast(RequestError, error).reason.http)


async def _no_memory(request: Request, error: Exception) -> Response:
    return _error(NO_MEMORY, Reason.UNAVAILABLE.http)


async def _http_error(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    response = _error(f"{request.method} {request.url.path}: {getattr(error, 'detail', 'Not Found')}", status)
    response.headers.update(getattr(error, "headers", None) or {})  # such as Allow, which 405 requires
    return response
