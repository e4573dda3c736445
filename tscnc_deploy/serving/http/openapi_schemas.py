"""The bodies of the HTTP interface as JSON Schemas."""

from __future__ import annotations

from math import prod
from typing import Any

from tscnc_deploy.open_inference import INPUT, OUTPUT
from tscnc_deploy.serving.request import MAX_ID
from tscnc_deploy.serving.service import LoadedModel

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_SIZES: Schema = {"type": "array", "items": {"type": "integer"}}
_RANGES = {"FP32": {"type": "number"}, "UINT8": {"type": "integer"}}
_HIGHEST = {"FP32": 1, "UINT8": 255}


def reference(name: str) -> Schema:
    """A reference to a schema of `schemas` by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas(loaded: LoadedModel) -> dict[str, Schema]:
    """The schema of every body by name, for the model being served."""
    model = loaded.model
    tensor = _object({"name": _TEXT, "datatype": _TEXT, "shape": _SIZES})
    named: dict[str, Schema] = {"name": {"const": model.name}}
    return {
        "Error": _object({"error": _TEXT}),
        "Live": _object({"live": _FLAG}),
        "Ready": _object({"ready": _FLAG}),
        "ModelReady": _object(named | {"ready": _FLAG}),
        "Document": {"type": "object", "required": ["openapi", "paths"]},
        "ServerMetadata": _object(
            {"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}}
            | {"allow_failed": _FLAG, "allow_unsigned": _FLAG}
        ),
        "ModelMetadata": _object(
            named
            | {"versions": {"type": "array", "items": _TEXT}, "platform": _TEXT}
            | {key: {"type": "array", "items": tensor} for key in ("inputs", "outputs")}
            | {"parameters": {"type": "object", "description": "What the model is, and its measured robustness."}}
        ),
        "InferRequest": _infer_request(loaded),
        "InferResponse": _infer_response(loaded),
    }


def example(loaded: LoadedModel) -> Schema:
    """A valid request: one black image."""
    shape = loaded.model.spec.input_shape
    tensor = {"name": INPUT, "datatype": "UINT8", "shape": [1, *shape], "data": [0] * prod(shape)}
    return {"id": "1", "inputs": [tensor], "outputs": [{"name": OUTPUT}]}


def _infer_request(loaded: LoadedModel) -> Schema:
    tensors = [_tensor(loaded, datatype, one) for datatype in _RANGES for one in (True, False)]
    output = _object(
        {
            "name": {"const": OUTPUT},
            "parameters": {
                "type": "object",
                "properties": {
                    "binary_data": _FLAG,
                    "classification": {
                        "type": "integer", "minimum": 0, "description": "Top classes to return instead of logits."
                    },
                },
            },
        },
        optional=("parameters",),
    )  # fmt: skip
    timeout = {"type": "integer", "minimum": 0, "description": "Microseconds; 0 sets no limit."}
    return _object(
        {
            "id": {"type": "string", "maxLength": MAX_ID, "description": "Returned with the response."},
            "parameters": {"type": "object", "properties": {"binary_data_output": _FLAG, "timeout": timeout}},
            "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"anyOf": tensors}},
            "outputs": {"type": "array", "maxItems": 1, "items": output},
        },
        optional=("id", "parameters", "outputs"),
    )


def _tensor(loaded: LoadedModel, datatype: str, one: bool) -> Schema:
    """A tensor of exactly one image, or of several; no schema can require as many values as the shape says."""
    shape, validator = loaded.model.spec.input_shape, loaded.validator
    count = {"const": 1} if one else {"type": "integer", "minimum": 2, "maximum": max(validator.max_images, 2)}
    value = _RANGES[datatype] | {"minimum": 0, "maximum": _HIGHEST[datatype]}
    length = prod(shape) if one else 1
    bounds = {"minItems": length, "maxItems": length if one else validator.max_images * prod(shape)}
    return _object(
        {
            "name": {"const": INPUT},
            "datatype": {"const": datatype},
            "shape": {
                "type": "array",
                "prefixItems": [count, *({"const": size} for size in shape)],
                "minItems": 4,
                "maxItems": 4,
            },
            "data": {"type": "array", "items": value, **bounds, "description": "Flat, or nested like the shape."},
            "parameters": {"type": "object"},
        },
        optional=("parameters",),
    )


def _infer_response(loaded: LoadedModel) -> Schema:
    parameters = {"type": "object", "properties": {"binary_data_size": {"type": "integer", "minimum": 0}}}
    output = _object(
        {
            "name": {"const": OUTPUT},
            "datatype": {"enum": ["FP32", "BYTES"]},
            "shape": _SIZES | {"minItems": 2, "maxItems": 2},
            "data": {"type": "array", "items": {"type": ["number", "string"]}},
            "parameters": parameters,
        },
        optional=("data", "parameters"),
    )
    named = {"model_name": {"const": loaded.model.name}, "model_version": _TEXT, "id": _TEXT}
    return _object(
        named | {"outputs": {"type": "array", "items": output, "minItems": 1, "maxItems": 1}}, optional=("id",)
    )


def _object(properties: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}
