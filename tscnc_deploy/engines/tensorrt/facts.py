"""engine.json: facts about an engine without opening it, and the digest that is checked before it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tscnc_deploy.errors import InputError
from tscnc_deploy.files import Read, read_file, write_atomic
from tscnc_deploy.text import escaped

# Enough for the layers of any network that this package builds.
_MAX_JSON = 1 << 20

Name = Annotated[str, Field(max_length=1000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=1 << 60)]
Size = Annotated[int, Field(ge=1, le=1 << 31)]


class Entry(BaseModel):
    """A part of engine.json; rejects unknown keys, wrong types and values out of range."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LayerFacts(Entry):
    """A convolution or linear layer of the engine.

    Attributes:
        name: Name of its weight, which is also the name of the PyTorch parameter.
        node: Name of the graph's node that uses the weight.
        elements: Number of weights, zeros included.
        precision: Precision of its arithmetic in the built engine, as TensorRT reports it; otherwise "unknown".
        fits_2_4: Whether at most 2 of every 4 weights along the input channels are not zero, so that sparse tensor
            cores can be used.
        sparse_kernel: Whether TensorRT uses them; None if it does not report that, or decides when opening the engine.
    """

    name: Name
    node: Name
    elements: Count
    precision: Name
    fits_2_4: bool
    sparse_kernel: bool | None = None


class Facts(Entry):
    """How an engine was built.

    Attributes:
        library: "tensorrt" or "tensorrt-rtx".
        version: Version of that library, the only one that opens the engine.
        made_for: Compute capabilities of the GPUs that it was built for.
        hardware: Where a tensorrt engine may run: "this-gpu", "same-capability" or "ampere-and-newer".
        gpu: Name of the GPU that it was built on; None if built without a GPU.
        input_shape: (C, H, W).
        classes: K.
        batch: Smallest, optimal and largest batch of its optimisation profile.
        layers: Convolutions and linear layers in the order of the graph.
        workspace_bytes: GPU memory that it needs besides its weights; None if TensorRT does not report it.
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
        InputError: The file is missing, is not JSON, or does not have this form.
    """
    try:
        return Facts.model_validate_json(read(path, _MAX_JSON))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # A key from an untrusted file must not send control characters to the terminal.
        key = escaped(".".join(str(part) for part in first["loc"]))
        msg = f"{path}: does not describe a TensorRT engine: {key and f'{key}: '}{first['msg']}"
        raise InputError(msg) from error
