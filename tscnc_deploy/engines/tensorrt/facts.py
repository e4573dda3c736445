"""engine.json: what is known of an engine without opening it, and the digest without which it is never opened."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tscnc_deploy.errors import InputError
from tscnc_deploy.files import Read, read_file, write_atomic
from tscnc_deploy.text import escaped

# No engine of a network that this package builds has more layers than fit.
_MAX_JSON = 1 << 20

Name = Annotated[str, Field(max_length=1000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=1 << 60)]
Size = Annotated[int, Field(ge=1, le=1 << 31)]


class Entry(BaseModel):
    """A part of engine.json: unknown keys, wrong types and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LayerFacts(Entry):
    """A convolution or a linear layer of the engine.

    Attributes:
        name: Of its weight, which is also the PyTorch parameter's.
        node: Of the graph's node that uses the weight.
        elements: Number of weights, zeros included.
        precision: That it computes in, as TensorRT says of the built engine; "unknown" where it does not say.
        fits_2_4: Whether at most 2 of every 4 weights along the input channels are not zero, so that sparse tensor
            cores can be used.
        sparse_kernel: Whether TensorRT uses them; None where it does not say, or decides when the engine is opened.
    """

    name: Name
    node: Name
    elements: Count
    precision: Name
    fits_2_4: bool
    sparse_kernel: bool | None = None


class Facts(Entry):
    """Everything that is known of how an engine was built.

    Attributes:
        library: "tensorrt" or "tensorrt-rtx".
        version: Of that library, which is also the only one that opens the engine.
        made_for: Compute capabilities of the GPUs that it was built for.
        hardware: Where an engine of tensorrt may run: "this-gpu", "same-capability" or "ampere-and-newer".
        gpu: Name of the GPU that it was built on; None if on none.
        input_shape: (C, H, W).
        classes: K.
        batch: Smallest, optimal and largest batch of its optimisation profile.
        layers: Convolutions and linear layers in the order of the graph.
        workspace_bytes: Memory on the GPU that it needs beside its weights; None where TensorRT does not say.
        timing_cache: SHA-256 of the timing cache after the build; None if none was used.
        plan: SHA-256 of the engine's file.
        plan_bytes: Its length.
        graph: SHA-256 of the ONNX file that it computes.
    """

    library: Literal["tensorrt", "tensorrt-rtx"]
    version: Name
    made_for: Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)]
    hardware: Name
    gpu: Name | None
    input_shape: tuple[Size, Size, Size]
    classes: Size
    batch: tuple[Size, Size, Size]
    layers: Annotated[tuple[LayerFacts, ...], Field(max_length=10_000)]
    workspace_bytes: Count | None
    timing_cache: Digest | None
    plan: Digest
    plan_bytes: Count
    graph: Digest


def write_facts(facts: Facts, path: Path) -> None:
    """Writes engine.json.

    Raises:
        StorageError: The file cannot be written.
    """
    write_atomic(path, facts.model_dump_json(indent=1) + "\n")


def read_facts(path: Path, read: Read = read_file) -> Facts:
    """Reads what `write_facts` wrote.

    Raises:
        InputError: The file is missing, no JSON, or not of this form.
    """
    try:
        return Facts.model_validate_json(read(path, _MAX_JSON))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # A stranger's key must not steer a terminal.
        key = escaped(".".join(str(part) for part in first["loc"]))
        msg = f"{path}: does not describe a TensorRT engine: {key and f'{key}: '}{first['msg']}"
        raise InputError(msg) from error
