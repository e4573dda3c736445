"""Bodies of HTTP requests and responses: JSON, or JSON followed by binary tensor data (a protocol extension)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tscnc_deploy.engines.base import Array
from tscnc_deploy.open_inference import HEADER_LENGTH, OUTPUT
from tscnc_deploy.serving.errors import RequestError
from tscnc_deploy.serving.request import (
    InferRequest,
    checked_id,
    checked_output,
    checked_timeout,
    flag,
    reject_shared_memory,
)
from tscnc_deploy.serving.response import InferResponse
from tscnc_deploy.serving.validation import InputValidator, shown


def parse_body(
    body: bytes | bytearray, header_length: str | None, validator: InputValidator, max_json: int | None = None
) -> InferRequest:
    """Reads the body of a request.

    Args:
        body: The whole body.
        header_length: Value of the header `HEADER_LENGTH`; None if it is missing, so that all of the body is JSON.
        validator: Validates the tensor.
        max_json: Largest number of bytes of JSON; None uses the validator's.

    Raises:
        RequestError: The body does not follow the protocol, or the model does not accept the input.
    """
    text, binary = _split(body, header_length)
    validator.check_json(body, len(text), max_json)
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        msg = f"the body is not JSON: {error}"
        raise RequestError(msg) from None
    if not isinstance(document, dict):
        msg = "the body must be a JSON object"
        raise RequestError(msg)
    parameters = _mapping(document, "parameters")
    wanted = [(output.get("name"), _mapping(output, "parameters")) for output in _objects(document, "outputs")]
    inputs = _objects(document, "inputs")
    if len(inputs) != 1:
        msg = f"inputs must contain one tensor, not {len(inputs)}"
        raise RequestError(msg)
    return InferRequest(
        id=checked_id(document.get("id", "")),
        output=checked_output(wanted, flag(parameters, "binary_data_output", False)),
        timeout=checked_timeout(parameters),
        images=_images(inputs[0], binary, validator),
    )


def write_body(response: InferResponse) -> tuple[bytes, int | None]:
    """The body of a response, and the length of the JSON at its start if binary data follow."""
    output: dict[str, Any] = {"name": OUTPUT, "datatype": response.datatype, "shape": list(response.shape)}
    if response.output.binary:
        data = response.to_bytes()
        output["parameters"] = {"binary_data_size": len(data)}
    else:
        output["data"] = response.to_list()
    document = {"model_name": response.model, "model_version": response.version, "outputs": [output]}
    if response.id:
        document["id"] = response.id
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return (text + data, len(text)) if response.output.binary else (text, None)


def _split(body: bytes | bytearray, header_length: str | None) -> tuple[memoryview, memoryview]:
    view = memoryview(body)
    if header_length is None:
        return view, view[len(view) :]
    # int() alone would also accept signs, spaces and underscores.
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 19):
        msg = f"{HEADER_LENGTH} must be a number of bytes, not {shown(header_length)}"
        raise RequestError(msg)
    length = int(header_length)
    if length > len(view):
        msg = f"{HEADER_LENGTH} is {length}, but the body has {len(view)} bytes"
        raise RequestError(msg)
    return view[:length], view[length:]


def _images(tensor: Mapping[str, Any], binary: memoryview, validator: InputValidator) -> Array:
    header = validator.header(tensor.get("name"), tensor.get("datatype"), tensor.get("shape"))
    parameters = _mapping(tensor, "parameters")
    reject_shared_memory(parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        if len(binary):
            msg = f"{len(binary)} bytes follow the JSON, but no input has the parameter binary_data_size"
            raise RequestError(msg)
        if "data" not in tensor:
            msg = f"input {tensor['name']!r} has neither data nor the parameter binary_data_size"
            raise RequestError(msg)
        return validator.from_numbers(header, tensor["data"])
    if type(size) is not int or size != len(binary):
        msg = f"binary_data_size is {shown(size)}, but {len(binary)} bytes follow the JSON"
        raise RequestError(msg)
    if "data" in tensor:
        msg = f"input {tensor['name']!r} has both data and the parameter binary_data_size"
        raise RequestError(msg)
    return validator.from_bytes(header, binary)


def _mapping(owner: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = owner.get(key, {})
    if not isinstance(value, dict):
        msg = f"{key} must be a JSON object, not {shown(value)}"
        raise RequestError(msg)
    return value


def _objects(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = document.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        msg = f"{key} must be a list of JSON objects"
        raise RequestError(msg)
    return value
