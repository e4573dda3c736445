"""The protocol over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine
from typing import Any, cast

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tscnc_deploy.open_inference import HEADER_LENGTH
from tscnc_deploy.serving import metrics
from tscnc_deploy.serving.answer import Answer
from tscnc_deploy.serving.json_form import parse_body, write_body
from tscnc_deploy.serving.openapi import openapi_document
from tscnc_deploy.serving.page_routes import open_paths, page_routes
from tscnc_deploy.serving.refusal import Reason, Refusal
from tscnc_deploy.serving.service import Running, Service

_log = logging.getLogger(__name__)
_access_log = logging.getLogger("tscnc_deploy.serving.access")

# What a load balancer asks has no token, and says nothing that needs one.
_OPEN_PATHS = {"/v2/health/live", "/v2/health/ready"}
_CLIENT_GONE = 499


def http_application(service: Service, *, access_log: bool = False) -> ASGIApp:
    """The application that an ASGI server runs.

    Args:
        service: What answers.
        access_log: Whether each request becomes a line of JSON in the log "tscnc_deploy.serving.access".
    """
    calls = _Calls(service)
    model = "/v2/models/{name}"
    version = model + "/versions/{version}"
    application = Starlette(
        routes=[
            Route("/v2", calls.server_metadata),
            Route("/v2/health/live", calls.live),
            Route("/v2/health/ready", calls.ready),
            *(Route(path, calls.model_metadata) for path in (model, version)),
            *(Route(path + "/ready", calls.model_ready) for path in (model, version)),
            *(Route(path + "/infer", calls.infer, methods=["POST"]) for path in (model, version)),
            Route("/metrics", calls.metrics),
            Route("/openapi.json", calls.openapi),
            *page_routes(service),
        ],
        exception_handlers={Refusal: _refused, HTTPException: _not_served},
    )
    return _Watched(application, service, access_log)


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
        return _json(openapi_document(self._service.current, asks_token=self._service.asks_token))

    async def infer(self, request: Request) -> Response:
        most = self._service.limits.max_body or self._model(request).door.max_body
        body = await self._body(request, most)
        # From here to the queue nothing waits, so that a reload cannot close the version that was found.
        running = self._model(request)
        parsed = parse_body(body, request.headers.get(HEADER_LENGTH), running.door)
        answer = await _while_connected(request, self._service.infer(running, parsed))
        if answer is None:
            return Response(status_code=_CLIENT_GONE)
        data, json_length = write_body(answer)
        if json_length is None:
            return Response(data, media_type="application/json")
        headers = {HEADER_LENGTH: str(json_length)}
        return Response(data, media_type="application/octet-stream", headers=headers)

    def _model(self, request: Request) -> Running:
        return self._service.find(request.path_params["name"], request.path_params.get("version", ""))

    async def _body(self, request: Request, most: int) -> bytes:
        """The body, never more of it in memory than is allowed.

        Raises:
            Refusal: It is too long, too slow, compressed, or the client went away.
        """
        if request.headers.get("content-encoding", "identity") != "identity":
            msg = "Content-Encoding is not supported; send the body as it is"
            raise Refusal(msg)
        too_large = f"the body may have at most {most} bytes"
        if int(request.headers.get("content-length", "0")) > most:
            raise Refusal(too_large, Reason.TOO_LARGE)
        chunks, length = [], 0
        try:
            async with asyncio.timeout(self._service.limits.body_timeout):
                async for chunk in request.stream():
                    length += len(chunk)
                    if length > most:
                        raise Refusal(too_large, Reason.TOO_LARGE)
                    chunks.append(chunk)
        except TimeoutError:
            msg = f"the body did not come within {self._service.limits.body_timeout:g} seconds"
            raise Refusal(msg, Reason.TOO_SLOW) from None
        except ClientDisconnect:
            msg = "the body ended before its Content-Length"
            raise Refusal(msg) from None
        return b"".join(chunks)


class _Watched:
    """Checks the token before, counts and logs after each request, and hides defects from clients."""

    def __init__(self, application: ASGIApp, service: Service, access_log: bool) -> None:
        self._application = application
        self._service = service
        self._access_log = access_log
        self._open = _OPEN_PATHS | open_paths()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        started = time.perf_counter()
        status = _CLIENT_GONE

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._checked(scope)(scope, receive, watched)
        except Exception:
            _log.exception("defect while answering %s", scope["path"])
            if status == _CLIENT_GONE:
                await _error("the server has a defect; its log says more", 500)(scope, receive, watched)
        finally:
            self._count(scope, status, time.perf_counter() - started)

    def _checked(self, scope: Scope) -> ASGIApp:
        if scope["path"] in self._open:
            return self._application
        try:
            self._service.check_token(dict(scope["headers"]).get(b"authorization"))
        except Refusal as refusal:
            return _error(str(refusal), refusal.reason.http)
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


async def _while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer | None:
    """The answer, or None if the client went away first, which cancels the work."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())  # after the whole body, the next message is that
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        working.cancel()
        gone.cancel()


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


def _error(message: str, status: int) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == Reason.UNAUTHENTICATED.http else None
    return Response(orjson.dumps({"error": message}), status, headers, media_type="application/json")


async def _refused(request: Request, refusal: Exception) -> Response:
    return _error(str(refusal), cast(Refusal, refusal).reason.http)


async def _not_served(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    response = _error(f"{request.method} {request.url.path}: {getattr(error, 'detail', 'not served')}", status)
    response.headers.update(getattr(error, "headers", None) or {})  # such as Allow, which 405 must have
    return response
