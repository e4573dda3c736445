"""An inference request as both transports read it, and the checks that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tscnc_deploy.engines.base import Array
from tscnc_deploy.open_inference import OUTPUT
from tscnc_deploy.serving.errors import RequestError
from tscnc_deploy.serving.validation import shown

MAX_ID = 1024


@dataclass(frozen=True)
class Output:
    """The form in which a client wants the output.

    Attributes:
        binary: Whether HTTP sends the data in binary form after the JSON instead of inside it.
        top: Number of top classes to return (classification extension); None returns the logits.
    """

    binary: bool = False
    top: int | None = None


@dataclass(frozen=True, eq=False)
class InferRequest:
    """A checked request.

    Attributes:
        id: Chosen by the client and returned with the response; empty if there is none.
        images: float32 [N, C, H, W] in [0, 1].
        output: The form of the response.
        timeout: Seconds that the client waits; None if it sets no limit.
    """

    id: str
    images: Array
    output: Output
    timeout: float | None


def checked_id(value: object) -> str:
    """The ID of a request.

    Raises:
        RequestError: It is not a string, or longer than `MAX_ID`.
    """
    if not isinstance(value, str) or len(value) > MAX_ID:
        msg = f"id must be a string of at most {MAX_ID} characters"
        raise RequestError(msg)
    return value


def checked_timeout(parameters: Mapping[str, Any]) -> float | None:
    """Seconds from the parameter "timeout", which Triton's clients send in microseconds; None if it is 0 or missing.

    Raises:
        RequestError: It is not an integer of at least 0.
    """
    value = parameters.get("timeout", 0)
    if type(value) is not int or value < 0:
        msg = f"the parameter timeout must be an integer number of microseconds, at least 0, not {shown(value)}"
        raise RequestError(msg)
    return value / 1e6 or None


def checked_output(wanted: Sequence[tuple[object, Mapping[str, Any]]], binary: bool) -> Output:
    """The requested output.

    Args:
        wanted: Name and parameters of each requested output; empty requests all outputs.
        binary: Whether the request asks for binary outputs by default.

    Raises:
        RequestError: The model has no such output, an output is requested twice, or a parameter has the wrong type.
    """
    if not wanted:
        return Output(binary)
    for name, _ in wanted:
        if name != OUTPUT:
            msg = f"the model has one output, {OUTPUT!r}; the request asks for {shown(name)}"
            raise RequestError(msg)
    if len(wanted) > 1:
        msg = f"the output {OUTPUT!r} is requested {len(wanted)} times"
        raise RequestError(msg)
    parameters = wanted[0][1]
    reject_shared_memory(parameters)
    top = parameters.get("classification", 0)
    if type(top) is not int or top < 0:
        msg = f"the parameter classification must be a number of classes, not {shown(top)}"
        raise RequestError(msg)
    return Output(flag(parameters, "binary_data", binary), top or None)


def reject_shared_memory(parameters: Mapping[str, Any]) -> None:
    """Rejects tensors in shared memory.

    Raises:
        RequestError: The parameters name a shared memory region.
    """
    if "shared_memory_region" in parameters:
        msg = "shared memory is not supported; send the tensor's data"
        raise RequestError(msg)


def flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    """The value of a Boolean parameter.

    Raises:
        RequestError: It is not a Boolean.
    """
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        msg = f"the parameter {name} must be true or false, not {shown(value)}"
        raise RequestError(msg)
    return value
