"""Lowers an ONNX graph to the layers of the core: folds constants and norms, and fuses additions and clamps."""

from __future__ import annotations

from pathlib import Path

from onnx import ModelProto, NodeProto, helper

from tscnc_deploy.engines.onnx.signature import signature_of
from tscnc_deploy.engines.sparse_cpu.builder import Builder
from tscnc_deploy.engines.sparse_cpu.folding import folded
from tscnc_deploy.engines.sparse_cpu.network import Network
from tscnc_deploy.engines.sparse_cpu.operators import OPERATORS
from tscnc_deploy.engines.sparse_cpu.patterns import joined
from tscnc_deploy.engines.sparse_cpu.values import RefusedError, Value
from tscnc_deploy.engines.sparse_cpu.windows import WindowError
from tscnc_deploy.errors import InputError


def lower(model: ModelProto, path: Path) -> Network:
    """The layers of an image classifier.

    Batch norms, and multiplications and additions of constants, are folded into the preceding convolution,
    normalisation or elementwise layer if its output has no other reader. Additions, clamps and activation functions are
    computed together with the convolution whose result they use. Transposing, reshaping and slicing only change how the
    following layers look at a tensor; it is copied where a layer cannot read it that way. Folding uses float64 and
    rounds to float32.

    Args:
        model: A model that `onnx.file` has read, with sparse or dense weights.
        path: Its file, for messages.

    Raises:
        InputError: It is not an image classifier, or contains a node that this engine does not support; the message
            names the node and the target to use instead.
    """
    signature = signature_of(model, path)
    nodes = joined(model, signature.output)
    builder = Builder(model, nodes, signature)
    for node in nodes:
        try:
            _lower(builder, node)
        except (RefusedError, WindowError) as reason:
            msg = (
                f"{path}: node {node.name!r} ({node.op_type}): {reason}; the engine sparse-cpu does not support "
                "it, use the target onnx-cpu"
            )
            raise InputError(msg) from None
    network = builder.network(signature.output, signature.classes)
    if network is None:
        msg = f"{path}: its output must be {signature.classes} logits per image, computed from the images"
        raise InputError(msg)
    return network


def _lower(builder: Builder, node: NodeProto) -> None:
    if not node.output or (not node.input and node.op_type != "Constant"):
        msg = "it has no input or no output"
        raise RefusedError(msg)
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    constant = folded(node, attributes, builder.values)
    if constant is None and node.op_type not in OPERATORS:
        quantised = "Quantize" in node.op_type or node.op_type.endswith("Integer") or node.op_type.startswith("QLinear")
        msg = "it is quantised arithmetic" if quantised else "it has no kernel"
        raise RefusedError(msg)
    made = OPERATORS[node.op_type](builder, node, attributes) if constant is None else constant
    results: list[Value] = made if isinstance(made, list) else [made]
    if any(name and builder.is_read(name) for name in node.output[len(results) :]):
        msg = "its second output is read"
        raise RefusedError(msg)
    builder.values.update(zip(node.output, results, strict=False))
