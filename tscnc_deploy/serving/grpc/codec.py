"""Messages of gRPC requests and responses; tensors are lists of numbers or raw bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tscnc_deploy.engines.base import Array
from tscnc_deploy.open_inference import INPUT, OUTPUT, messages
from tscnc_deploy.serving.errors import RequestError
from tscnc_deploy.serving.request import InferRequest, checked_id, checked_output, checked_timeout, reject_shared_memory
from tscnc_deploy.serving.response import InferResponse
from tscnc_deploy.serving.validation import InputValidator

# Enough sizes to see that a shape has too many.
_MOST_SIZES = 9
_CONTENTS = {"FP32": "fp32_contents", "UINT8": "uint_contents"}


def parse_message(message: Any, validator: InputValidator) -> InferRequest:
    """Reads a ModelInferRequest.

    Raises:
        RequestError: The model does not accept the input.
    """
    if len(message.inputs) != 1:
        msg = f"inputs must contain one tensor, not {len(message.inputs)}"
        raise RequestError(msg)
    wanted = [(output.name, _parameters(output)) for output in message.outputs]
    return InferRequest(
        id=checked_id(message.id),
        output=checked_output(wanted, True),
        timeout=checked_timeout(_parameters(message)),
        images=_images(message, validator),
    )


def write_message(response: InferResponse) -> Any:
    """The ModelInferResponse of a response, with raw contents."""
    message = messages.ModelInferResponse(model_name=response.model, model_version=response.version, id=response.id)
    message.outputs.add(name=OUTPUT, datatype=response.datatype, shape=response.shape)
    message.raw_output_contents.append(response.to_bytes())
    return message


def _images(message: Any, validator: InputValidator) -> Array:
    tensor = message.inputs[0]
    header = validator.header(tensor.name, tensor.datatype, list(tensor.shape[:_MOST_SIZES]))
    reject_shared_memory(_parameters(tensor))
    if message.raw_input_contents:
        if tensor.HasField("contents") or len(message.raw_input_contents) > 1:
            msg = f"input {INPUT!r} has contents more than once"
            raise RequestError(msg)
        return validator.from_bytes(header, message.raw_input_contents[0])
    values = getattr(tensor.contents, _CONTENTS[header.datatype])
    expected = int(np.prod(header.shape))
    if len(values) != expected:
        msg = f"input {INPUT!r}: {len(values)} values in contents, but {list(header.shape)} needs {expected}"
        raise RequestError(msg)
    return validator.from_array(header, np.array(values, np.float32))


def _parameters(owner: Any) -> dict[str, Any]:
    return {
        name: getattr(value, choice) if (choice := value.WhichOneof("parameter_choice")) else None
        for name, value in owner.parameters.items()
    }
