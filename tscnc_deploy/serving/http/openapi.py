"""The HTTP interface as an OpenAPI 3.1 document, for the model that is served.

Written by hand: bodies are read by orjson and numpy and not by models that a library could describe, and what a library
for Starlette would add is only the joining of dicts. The page at `/` is for browsers and not described.
"""

from __future__ import annotations

from typing import Any

from tscnc_deploy import __version__
from tscnc_deploy.open_inference import HEADER_LENGTH
from tscnc_deploy.serving.errors import Reason
from tscnc_deploy.serving.http.openapi_schemas import Schema, example, reference, schemas
from tscnc_deploy.serving.service import LoadedModel

_WHEN = {
    Reason.BAD_REQUEST: "The request is not of the protocol's form, or not what the model takes; says what and where.",
    Reason.UNAUTHENTICATED: "The server asks for a bearer token, and this is not it.",
    Reason.NOT_FOUND: "No such model or version is served.",
    Reason.TOO_SLOW: "The body did not come in time.",
    Reason.TOO_LARGE: "The body is longer than the server allows.",
    Reason.BUSY: "Too many images wait already; try again later.",
    Reason.FAILED: "The engine failed on the request.",
    Reason.UNAVAILABLE: "The server is stopping.",
    Reason.DEADLINE: "The deadline of the request passed.",
}
_INFER = (
    Reason.BAD_REQUEST, Reason.NOT_FOUND, Reason.TOO_SLOW, Reason.TOO_LARGE, Reason.BUSY, Reason.FAILED,
    Reason.UNAVAILABLE, Reason.DEADLINE,
)  # fmt: skip


def openapi_document(running: LoadedModel, *, asks_token: bool) -> dict[str, Any]:
    """Describes every call that programs make over HTTP.

    Args:
        running: What is served; the document names it, and the shapes and limits are its own.
        asks_token: Whether clients must show a bearer token.

    Source: OpenAPI Specification 3.1.0; Open Inference Protocol, version 2, with the binary tensor data extension.
    """
    model = running.model
    paths = {
        "/v2": _get("serverMetadata", "Name, version and extensions of the server", _json("ServerMetadata")),
        "/v2/health/live": _get("serverLive", "Whether the server runs", _json("Live")),
        "/v2/health/ready": _get("serverReady", "Whether requests are welcome", _ready("Ready")),
        "/metrics": _get("metrics", "Figures for Prometheus", _text("In Prometheus' text format.")),
        "/openapi.json": _get("openapi", "This document", _json("Document")),
    }
    name = _parameter("name", "path", {"enum": [model.name]}, "Of the model.")
    version = _parameter("version", "path", {"enum": [model.version]}, "Of the model; one more after each reload.")
    for suffix, path, parameters in (
        ("", "/v2/models/{name}", [name]),
        ("OfVersion", "/v2/models/{name}/versions/{version}", [name, version]),
    ):
        calls = {
            "": _get(f"modelMetadata{suffix}", "Form of the model, and what protects it", _json("ModelMetadata")),
            "/ready": _get(f"modelReady{suffix}", "Whether the model is ready", _ready("ModelReady")),
            "/infer": {"post": _infer(f"infer{suffix}", running)},
        }
        for end, call in calls.items():
            paths[path + end] = {"parameters": parameters} | call
            for operation in call.values():
                operation["responses"] |= _refusals(Reason.NOT_FOUND)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "tscnc-deploy",
            "version": __version__,
            "description": "The Open Inference Protocol, version 2, over HTTP.",
        },
        "paths": paths,
        "components": {"schemas": schemas(running)},
    }
    return _secured(document) if asks_token else document


def _secured(document: dict[str, Any]) -> dict[str, Any]:
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, item in document["paths"].items():
        for method in item.keys() & {"get", "post"}:
            if not path.startswith("/v2/health/"):
                item[method]["security"] = [{"token": []}]
                item[method]["responses"] |= _refusals(Reason.UNAUTHENTICATED)
    return document


def _infer(identifier: str, running: LoadedModel) -> dict[str, Any]:
    what = "Bytes of JSON at the start of a body that goes on with the bytes of the tensor."
    length = _parameter(HEADER_LENGTH, "header", {"type": "string", "pattern": "^[0-9]{1,18}$"}, what)
    request = {"schema": reference("InferRequest"), "example": example(running)}
    binary = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
    answer = {
        "description": "The answer, in binary form if the request asks for it.",
        "headers": {HEADER_LENGTH: {"description": what, "schema": {"type": "integer", "minimum": 1}}},
        "content": {"application/json": {"schema": reference("InferResponse")}, "application/octet-stream": binary},
    }
    return {
        "operationId": identifier,
        "summary": "Logits of images, or the classes that they rank first",
        "parameters": [length | {"required": False}],
        "requestBody": {
            "required": True,
            "description": "JSON; or JSON whose input has the parameter binary_data_size and no data, and the data.",
            "content": {"application/json": request, "application/octet-stream": binary},
        },
        "responses": {"200": answer} | _refusals(*_INFER),
    }


def _get(identifier: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"operationId": identifier, "summary": summary, "responses": responses}}


def _json(schema: str, status: str = "200", description: str = "The answer.") -> dict[str, Any]:
    return {status: {"description": description, "content": {"application/json": {"schema": reference(schema)}}}}


def _ready(schema: str) -> dict[str, Any]:
    return _json(schema) | _json(schema, "503", "The server is stopping.")


def _text(description: str) -> dict[str, Any]:
    return {"200": {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}}


def _refusals(*reasons: Reason) -> dict[str, Any]:
    parts = [_json("Error", str(reason.http), _WHEN[reason]) for reason in reasons]
    return {status: response for part in parts for status, response in part.items()}


def _parameter(name: str, place: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": True, "schema": schema, "description": description}
