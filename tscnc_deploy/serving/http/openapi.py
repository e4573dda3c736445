"""The HTTP interface as an OpenAPI 3.1 document, for the model being served.

Written by hand: orjson and NumPy read the bodies, not models that a library could describe, and a library for Starlette
would only merge dictionaries. The page at `/` is for browsers and not part of the document.
"""

from __future__ import annotations

from typing import Any

from tscnc_deploy.open_inference import HEADER_LENGTH
from tscnc_deploy.serving.errors import Reason
from tscnc_deploy.serving.http.openapi_schemas import Schema, example, reference, schemas
from tscnc_deploy.serving.service import LoadedModel
from tscnc_deploy.versions import own_version

_DESCRIPTIONS = {
    Reason.BAD_REQUEST: "The request does not follow the protocol, or the model does not accept the input.",
    Reason.UNAUTHENTICATED: "The server requires a bearer token, and the request does not contain it.",
    Reason.NOT_FOUND: "The server has no such model or version.",
    Reason.TOO_SLOW: "The body did not arrive in time.",
    Reason.TOO_LARGE: "The body is longer than the server allows.",
    Reason.BUSY: "Too many images are waiting; try again later.",
    Reason.FAILED: "The engine failed on the request.",
    Reason.UNAVAILABLE: "The server is stopping.",
    Reason.DEADLINE: "The deadline of the request passed.",
}
_INFER = (
    Reason.BAD_REQUEST, Reason.NOT_FOUND, Reason.TOO_SLOW, Reason.TOO_LARGE, Reason.BUSY, Reason.FAILED,
    Reason.UNAVAILABLE, Reason.DEADLINE,
)  # fmt: skip


def openapi_document(loaded: LoadedModel, *, requires_token: bool) -> dict[str, Any]:
    """Describes every call that programs make over HTTP.

    Args:
        loaded: The model being served; sets names, shapes and limits in the document.
        requires_token: Whether clients must send a bearer token.

    Source: OpenAPI Specification 3.1.0; Open Inference Protocol, version 2, with the binary tensor data extension.
    """
    model = loaded.model
    paths = {
        "/v2": _get("serverMetadata", "Name, version and extensions of the server", _json("ServerMetadata")),
        "/v2/health/live": _get("serverLive", "Whether the server is running", _json("Live")),
        "/v2/health/ready": _get("serverReady", "Whether the server accepts requests", _ready("Ready")),
        "/metrics": _get("metrics", "Metrics for Prometheus", _text("In Prometheus' text format.")),
        "/openapi.json": _get("openapi", "This document", _json("Document")),
    }
    name = _parameter("name", "path", {"enum": [model.name]}, "Name of the model.")
    version = _parameter(
        "version", "path", {"enum": [model.version]}, "Version of the model; increases by one with each reload."
    )
    for suffix, path, parameters in (
        ("", "/v2/models/{name}", [name]),
        ("OfVersion", "/v2/models/{name}/versions/{version}", [name, version]),
    ):
        calls = {
            "": _get(
                f"modelMetadata{suffix}", "Inputs, outputs and measured robustness of the model", _json("ModelMetadata")
            ),
            "/ready": _get(f"modelReady{suffix}", "Whether the model is ready", _ready("ModelReady")),
            "/infer": {"post": _infer(f"infer{suffix}", loaded)},
        }
        for end, call in calls.items():
            paths[path + end] = {"parameters": parameters} | call
            for operation in call.values():
                operation["responses"] |= _errors(Reason.NOT_FOUND)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "tscnc-deploy",
            "version": own_version(),
            "description": "The Open Inference Protocol, version 2, over HTTP. A request without one header Host gets "
            "status 400, one whose header Host names another host 421, and one with a URL or a head that is too long "
            "414 or 431.",
        },
        "paths": paths,
        "components": {"schemas": schemas(loaded)},
    }
    return _secured(document) if requires_token else document


def _secured(document: dict[str, Any]) -> dict[str, Any]:
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, item in document["paths"].items():
        for method in item.keys() & {"get", "post"}:
            if not path.startswith("/v2/health/"):
                item[method]["security"] = [{"token": []}]
                item[method]["responses"] |= _errors(Reason.UNAUTHENTICATED)
    return document


def _infer(identifier: str, loaded: LoadedModel) -> dict[str, Any]:
    what = "Length in bytes of the JSON at the start of a body in which the bytes of the tensor follow."
    length = _parameter(HEADER_LENGTH, "header", {"type": "string", "pattern": "^[0-9]{1,18}$"}, what)
    request = {"schema": reference("InferRequest"), "example": example(loaded)}
    binary = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
    response = {
        "description": "The response, in binary form if requested.",
        "headers": {HEADER_LENGTH: {"description": what, "schema": {"type": "integer", "minimum": 1}}},
        "content": {"application/json": {"schema": reference("InferResponse")}, "application/octet-stream": binary},
    }
    return {
        "operationId": identifier,
        "summary": "Logits of images, or their top classes",
        "parameters": [length | {"required": False}],
        "requestBody": {
            "required": True,
            "description": "JSON; or JSON whose input has binary_data_size instead of data, followed by the data.",
            "content": {"application/json": request, "application/octet-stream": binary},
        },
        "responses": {"200": response} | _errors(*_INFER),
    }


def _get(identifier: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"operationId": identifier, "summary": summary, "responses": responses}}


def _json(schema: str, status: str = "200", description: str = "The response.") -> dict[str, Any]:
    return {status: {"description": description, "content": {"application/json": {"schema": reference(schema)}}}}


def _ready(schema: str) -> dict[str, Any]:
    return _json(schema) | _json(schema, "503", "The server is stopping.")


def _text(description: str) -> dict[str, Any]:
    return {"200": {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}}


def _errors(*reasons: Reason) -> dict[str, Any]:
    parts = [_json("Error", str(reason.http), _DESCRIPTIONS[reason]) for reason in reasons]
    return {status: response for part in parts for status, response in part.items()}


def _parameter(name: str, location: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": location, "required": True, "schema": schema, "description": description}
