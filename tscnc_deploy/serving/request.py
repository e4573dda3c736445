"""A request for inference as both transports read it, and what both check of it."""

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
    """The one output, as a client wants it.

    Attributes:
        binary: Whether over HTTP it is sent after the JSON and not in it.
        top: Number of classes of the classification extension; None for the logits.
    """

    binary: bool = False
    top: int | None = None


@dataclass(frozen=True, eq=False)
class InferRequest:
    """A checked request.

    Attributes:
        id: The client's, given back with the answer; empty without.
        images: float32 [N, C, H, W] in [0, 1].
        output: What to answer with.
        timeout: Seconds that the client waits; None if it does not say.
    """

    id: str
    images: Array
    output: Output
    timeout: float | None


def checked_id(value: object) -> str:
    """The id of a request.

    Raises:
        RequestError: No text, or a long one.
    """
    if not isinstance(value, str) or len(value) > MAX_ID:
        msg = f"id must be a text of at most {MAX_ID} characters"
        raise RequestError(msg)
    return value


def checked_timeout(parameters: Mapping[str, Any]) -> float | None:
    """Seconds from the parameter "timeout", microseconds, as Triton's clients send it; 0 is none.

    Raises:
        RequestError: Neither a whole number nor one from 0 up.
    """
    value = parameters.get("timeout", 0)
    if type(value) is not int or value < 0:
        msg = f"the parameter timeout must be whole microseconds from 0 up, not {shown(value)}"
        raise RequestError(msg)
    return value / 1e6 or None


def checked_output(wanted: Sequence[tuple[object, Mapping[str, Any]]], binary: bool) -> Output:
    """The output that is asked for.

    Args:
        wanted: Name and parameters of each; none asks for everything the model has.
        binary: Whether the request as a whole asks for binary form.

    Raises:
        RequestError: An output that the model does not have, one twice, or a parameter of the wrong type.
    """
    if not wanted:
        return Output(binary)
    for name, _ in wanted:
        if name != OUTPUT:
            msg = f"the model has one output, {OUTPUT!r}; the request asks for {shown(name)}"
            raise RequestError(msg)
    if len(wanted) > 1:
        msg = f"the output {OUTPUT!r} is asked for {len(wanted)} times"
        raise RequestError(msg)
    parameters = wanted[0][1]
    refuse_shared_memory(parameters)
    top = parameters.get("classification", 0)
    if type(top) is not int or top < 0:
        msg = f"the parameter classification must be a number of classes, not {shown(top)}"
        raise RequestError(msg)
    return Output(flag(parameters, "binary_data", binary), top or None)


def refuse_shared_memory(parameters: Mapping[str, Any]) -> None:
    """Refuses tensors that the client left in its own memory.

    Raises:
        RequestError: The parameters name a shared memory region.
    """
    if "shared_memory_region" in parameters:
        msg = "shared memory is not supported; send the tensor's data"
        raise RequestError(msg)


def flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    """A parameter that is true or false.

    Raises:
        RequestError: It is something else.
    """
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        msg = f"the parameter {name} must be true or false, not {shown(value)}"
        raise RequestError(msg)
    return value
