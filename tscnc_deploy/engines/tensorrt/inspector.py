"""Reads what TensorRT reports about the layers of an engine that it built, in either of two forms.

The engine inspector returns JSON, but needs an open engine, which requires a GPU. The builder logs the same information
as lines of text, the only source if an engine was built without a GPU.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# How versions of TensorRT write types in the fields "Datatype", "Format/Datatype" and "Type".
_TYPES = (
    ("fp32", re.compile(r"\b(float|fp32|float32)\b", re.IGNORECASE)),
    ("fp16", re.compile(r"\b(half|fp16|float16)\b", re.IGNORECASE)),
    ("bf16", re.compile(r"\b(bfloat16|bf16)\b", re.IGNORECASE)),
    ("int8", re.compile(r"\bint8\b", re.IGNORECASE)),
    ("fp8", re.compile(r"\bfp8\b", re.IGNORECASE)),
)
_ONNX_NAME = re.compile(r"\[ONNX Layer: ([^\]\x1e]+)\]")
_LINE = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<type>[^,]*), Inputs: \[(?P<inputs>.*?)\](?=, (?:Constants|Outputs): )"
    r"(?:, Constants: \[(?P<constants>.*?)\](?=, Outputs: ))?, Outputs: \[.*?\](?=, [A-Z]\w*: )(?P<rest>.*)$"
)
_TENSOR = re.compile(r"Dimensions: \[(?P<sizes>[\d,\- ]*)\].*?(?:Format/)?Datatype: (?P<type>[^,}]*)")


@dataclass(frozen=True)
class Tensor:
    """A tensor of a layer: its number of elements (negative if a size is dynamic) and its precision, such as "fp16"."""

    elements: int
    precision: str


@dataclass(frozen=True)
class InspectedLayer:
    """A layer of an engine.

    Attributes:
        name: TensorRT's name for it.
        type: Kind of kernel.
        onnx_names: The nodes of the ONNX graph that were fused into it.
        inputs: Activations that it reads.
        constants: Weights that it contains.
        sparse: Whether its kernel skips zeros in a 2:4 pattern; None if TensorRT does not report it.
    """

    name: str
    type: str
    onnx_names: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    sparse: bool | None

    def precision_with(self, elements: int) -> str | None:
        """The precision in which it computes with a weight of that many elements; None if it has no such weight.

        If the weight and all activations differ, the precisions are joined, as in "fp16+fp32". An 8-bit weight with one
        input channel is padded to several, so a multiple of the size is accepted if no size matches exactly.
        """
        same = [constant for constant in self.constants if constant.elements == elements]
        padded = [c for c in self.constants if c.elements > elements and c.elements % elements == 0]
        if not same + padded:
            return None
        weight = (same + padded)[0].precision
        read = {tensor.precision for tensor in self.inputs}
        return weight if not read or weight in read else "+".join(sorted(read | {weight}))


def inspect(lib: ModuleType, engine: Any) -> list[InspectedLayer]:
    """The layers of an open engine from its inspector."""
    return read_json(engine.create_engine_inspector().get_engine_information(lib.LayerInformationFormat.JSON))


def read_json(text: str) -> list[InspectedLayer]:
    """The layers from the JSON of the engine inspector.

    Returns:
        The layers; empty if the engine was built without detailed verbosity, as the JSON then only lists names.
    """
    layers = json.loads(text).get("Layers", [])
    return [_from_json(layer) for layer in layers if isinstance(layer, dict)]


def read_log(messages: Sequence[str]) -> list[InspectedLayer]:
    """The layers from the builder's log; empty if it logged none."""
    for message in messages:
        if message.startswith("Layers:"):
            found = (_LINE.match(line) for line in message.splitlines())
            return [_from_line(match) for match in found if match]
    return []


def layer_precisions(
    layers: Sequence[InspectedLayer], weights: Mapping[str, tuple[str, int]]
) -> dict[str, tuple[str, bool | None]]:
    """The precision in which each weight of a graph is used, and whether its kernel is sparse.

    Args:
        layers: All layers of the engine.
        weights: Weight -> the name of the ONNX node that uses it, and its number of elements.

    Returns:
        Weight -> "fp32", "fp16", "int8", ..., or "unknown" if no layer of the engine reports it; and whether the
        kernel is sparse, None if unknown.
    """
    return {weight: _of_weight(layers, node, elements) for weight, (node, elements) in weights.items()}


def _of_weight(layers: Sequence[InspectedLayer], node: str, elements: int) -> tuple[str, bool | None]:
    found = [layer for layer in layers if node in layer.onnx_names]
    # Elementwise kernels around it may have the node's name too, so prefer the kernel that contains the weight.
    found.sort(key=lambda layer: all(constant.elements != elements for constant in layer.constants))
    for layer in found:
        precision = layer.precision_with(elements)
        if precision is not None:
            return precision, layer.sparse
    return "unknown", None


def _from_json(layer: Mapping[str, Any]) -> InspectedLayer:
    constants = [_tensor(tensor) for tensor in layer.get("Constants", [])]
    # An older kernel contains its weights and reports only their number.
    if isinstance(layer.get("Weights"), dict):
        weights = layer["Weights"]
        constants.append(Tensor(int(weights.get("Count", 0)), _precision(str(weights.get("Type", "")))))
    said = layer.get("HasSparseWeights")
    return InspectedLayer(
        name=str(layer.get("Name", "")),
        type=str(layer.get("LayerType", "")),
        onnx_names=tuple(_ONNX_NAME.findall(str(layer.get("Metadata", "")))),
        inputs=tuple(_tensor(tensor) for tensor in layer.get("Inputs", [])),
        constants=tuple(constants),
        sparse=None if said is None else bool(said) and "sparse" in str(layer.get("TacticName", "")).lower(),
    )


def _tensor(tensor: Mapping[str, Any]) -> Tensor:
    said = tensor.get("Datatype") or tensor.get("Format/Datatype") or ""
    return Tensor(math.prod(tensor.get("Dimensions", [])), _precision(str(said)))


def _from_line(match: re.Match[str]) -> InspectedLayer:
    said = re.search(r"HasSparseWeights: (\d)", match["rest"])
    tactic = re.search(r"TacticName: ([^,]*)", match["rest"])
    return InspectedLayer(
        name=match["name"],
        type=match["type"],
        onnx_names=tuple(_ONNX_NAME.findall(match["rest"])),
        inputs=_tensors(match["inputs"]),
        constants=_tensors(match["constants"] or ""),
        sparse=None if said is None else said[1] != "0" and tactic is not None and "sparse" in tactic[1].lower(),
    )


def _tensors(text: str) -> tuple[Tensor, ...]:
    found = []
    for match in _TENSOR.finditer(text):
        sizes = [int(size) for size in match["sizes"].split(",") if size.strip()]
        found.append(Tensor(math.prod(sizes), _precision(match["type"])))
    return tuple(found)


def _precision(said: str) -> str:
    for name, pattern in _TYPES:
        if pattern.search(said):
            return name
    return said.strip() or "unknown"
